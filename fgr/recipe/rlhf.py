"""Every hyperparameter of `fgr rlhf`; those of its algorithms are in `fgr.recipe.algorithms`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fgr.recipe.algorithms import AlgorithmSettings, DirectSettings, GrpoSettings, Share, Steps
from fgr.recipe.fields import DISTANCES, PERCEPTUAL, SCORES, MixedPrecision, Strict, Weight, is_encoder, is_score
from fgr.recipe.sampling import Sampling


class Policy(Strict):
    """What of the SR network learns."""

    train: Literal["all", "lora"] = Field("all", description="every weight, or low-rank changes (LoRA) of the frozen network")
    lora_rank: int = Field(16, ge=1, description="of the low-rank changes of every convolution and linear layer (train: lora)")
    lora_alpha: int = Field(16, ge=1, description="the changes are scaled by lora_alpha / lora_rank")
    checkpoint_blocks: bool = Field(
        False, description="gradient checkpointing: recompute the network's blocks in the backward pass; less memory, slower"
    )
    accept_license: tuple[str, ...] = Field((), description="models whose licence limits tuning or sharing, and that is accepted")


class Data(Strict):
    """Low-resolution inputs: a dataset's degradations replayed, or a folder of real low-resolution images."""

    split: str = Field("train", description="of the dataset; what is tuned on must not be audited on")
    crop: int = Field(64, ge=0, description="side of the low-resolution crops in pixels; 0 = whole images")
    batch: Steps = Field(8, description="batch size: crops a step and process")
    flips: bool = Field(True, description="mirror and turn crops at random")
    cache_mb: int = Field(512, ge=0, description="memory for replayed inputs")


class Reward(Strict):
    """R_k = λ1·z(S) + λ2·z(1 − max^(M)), or plain rewards in its place."""

    plain: tuple[str, ...] = Field((), description="rm-stage:K, clipiqa or pyiqa:NAME, summed, in place of R_k; for comparison")
    score: Weight = Field(1.0, description="λ1, weight of the global score")
    map: Weight = Field(1.0, description="λ2, weight of the degradation map's worst")
    maximum: Literal["top-q", "p-norm", "max"] = Field("top-q", description="max^: how the map is pooled to its worst")
    q: Share = Field(0.05, description="share of the pixels that top-q averages")
    p: float = Field(8.0, ge=1, description="exponent of p-norm")
    units: Literal["z", "raw"] = Field(
        "z", description="z: terms standardised, each stage weighed for itself; raw: neither, the last one's weight for all"
    )
    bound: Weight = Field(3.0, description="the reward levels off at ± this many z-units; 0 = unbounded")
    draws: int = Field(
        0,
        ge=0,
        description="judge the mean over so many randomised copies of an image (a pixel's shift, mild resampling and blur, "
        "dither to 8 bits), against patterns that vanish under them; costs as many passes of the reward model, and their memory",
    )
    ratio: float = Field(
        0.5, gt=0, description="gradient of the reward over that of the anchor at the output; sets the weight once"
    )
    reference_images: int = Field(48, ge=2, description="images of each sort that z-units and weight are taken from")


class Anchor(Strict):
    """Losses that keep the policy near where it began, by their weights."""

    distance: Literal["l1", "l2"] = Field("l1", description="mean absolute or mean squared difference, of pixels")
    start: Weight = Field(1.0, description="to the untuned network's output")
    reference: Weight = Field(0.0, description="to the reference")
    low_frequency: Weight = Field(0.0, description="between means over squares of low_frequency_size pixels")
    low_frequency_to: Literal["start", "reference"] = Field("start", description="what low_frequency compares the output with")
    low_frequency_size: int = Field(8, ge=2, description="side of the squares in pixels")
    consistency: Weight = Field(0.0, description="between the output, scaled down, and the low-resolution input")
    lpips: Weight = Field(0.0, description="LPIPS to the untuned network's output (torchmetrics; needs AlexNet's weights)")
    lite0_distance: Weight = Field(
        0.0, description="lite0-distance to the untuned network's output (EfficientNet-Lite0, weights in the extra `offline`)"
    )

    @property
    def perceptual(self) -> dict[str, float]:
        """The perceptual distances that are weighted, by their names as metrics."""
        weights = {name: getattr(self, name.replace("-", "_")) for name in PERCEPTUAL}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def needs_reference(self) -> bool:
        """Whether a term compares with the reference."""
        return bool(self.reference or (self.low_frequency and self.low_frequency_to == "reference"))


class Adaptive(Strict):
    """When the schedule `adaptive` moves on, in audits and standard deviations over images."""

    window: int = Field(6, ge=3, description="audits that a trend is taken over")
    plateau: float = Field(0.02, gt=0, description="trend of the held-out metrics an audit below which the stage is learnt")
    least_steps: int = Field(40, ge=1, description="in a stage before it may end")
    jitter: float = Field(10.0, gt=0, description="changes of the reward over its trend above which the learning rate is halved")
    drawdown: float = Field(1.0, gt=0, description="fall of the held-out metrics' mean from its best that rolls back")
    rollbacks: int = Field(2, ge=0, description="after which the run ends")


class Refresh(Strict):
    """Co-evolution: the next stage of the reward model learns from composites of the current policy before it takes over."""

    steps: int = Field(0, ge=0, description="training steps at each switch; 0 = the reward model stays as it is")
    composites: int = Field(48, ge=1, description="new composites of the policy's outputs at each switch")
    share: float = Field(0.5, gt=0, lt=1, description="of each batch that is new composites; the rest is the dataset's")
    lr: float = Field(1e-4, gt=0, description="learning rate")


class Curriculum(Strict):
    """CCL: which stage of the reward model gives the reward when."""

    schedule: Literal["none", "paper", "blend", "adaptive"] = Field(
        "blend", description="fixed steps a stage (paper), cross-faded (blend), moved by the audit (adaptive), one stage (none)"
    )
    stage: int | None = Field(None, ge=0, description="schedule none: the stage to train against; the last if not given")
    steps: tuple[Steps, ...] = Field((), description="a stage (paper, blend); empty = training.steps in equal parts")
    blend_steps: int = Field(20, ge=1, description="in which one stage fades into the next (blend, adaptive)")
    strictness: tuple[Share, ...] = Field((), description="reward.q of RM_1 … RM_N; empty = reward.q for all")
    adaptive: Adaptive = Adaptive()
    refresh: Refresh = Refresh()


class Audit(Strict):
    """Held-out metrics, which the policy is not trained on, on fixed held-out images; and what counts as reward hacking."""

    every: Steps = Field(20, description="training steps between audits")
    first: int = Field(0, ge=0, description="training step before which there is no audit but the one at the start")
    split: str = Field("validation", description="of the dataset: alarms are raised and the best network is chosen on it")
    test_split: str = Field("test", description="that the report's figures are from: it chose nothing; folders have none")
    images: int = Field(24, ge=2, description="held-out crops; intervals are over their photographs")
    crop: int = Field(64, ge=16, description="side of their low-resolution crops in pixels")
    rewards: tuple[str, ...] = Field(
        (), description="independent judges: reward models built differently, folders or Hub ids; beside RUN/judge of --reward"
    )
    metrics: tuple[str, ...] = Field(
        (), description="lpips, dists, lite0-distance, clipiqa, pyiqa:NAME beside what is always measured"
    )
    at_hand: bool = Field(True, description="measure lpips, dists and lite0-distance wherever their weights are on this machine")
    patch: int = Field(48, ge=16, multiple_of=2, description="side of the patches that natural-image statistics are taken from")
    # Tuning against reward models that planted defects had hardened closed 0.24 to 0.26 more of the reward's gap than of
    # 1 − SSIM's, and helped by an independent encoder; against others 0.55 to 0.85 more, and drew lattices. 0.3 lies between.
    max_index: float = Field(
        0.3, gt=0, description="hacking index: lead in gap closure of the trained reward, surely above: alarm"
    )
    harm: Weight = Field(
        0.05, description="sure gap closure of the trained reward from which a sure fall of full-reference figures is an alarm"
    )
    max_ceiling: Share = Field(0.25, description="share of images above their own reference by the trained reward: alarm")
    max_excess: float = Field(0.3, gt=0, description="lead in gap closure over the independent judges, surely above: alarm")
    rise: Weight = Field(0.5, description="rise of the trained reward in sd over images from which a fall is an alarm")
    fall: Weight = Field(0.25, description="sure fall of the held-out metrics' mean, in sd over images, that is an alarm")
    planted: int = Field(
        4, ge=0, description="images that known defects are planted in, to see which figures have a vote; 0 = none"
    )
    control: bool = Field(False, description="train with the anchor alone too, as a control of what the reward was worth")
    control_features: tuple[str, ...] = Field(
        ("timm:mobilenetv2_100",),
        description="encoders (timm:NAME) whose feature distance says that too, without a vote in the audit; one whose weights "
        "are not on this machine is left out, and the run says so",
    )
    on_hacking: Literal["stop", "rollback", "continue"] = Field("rollback", description="what an alarm does")
    sheet: int = Field(4, ge=0, description="images in the sheet of pictures written at each audit")


class Training(Strict):
    """The optimizer (AdamW), averaged weights, and when a run is saved or given up."""

    steps: Steps = Field(400, description="optimizer steps")
    lr: float = Field(1e-5, gt=0, description="learning rate")
    weight_decay: Weight = Field(0.0, description="of AdamW")
    warmup: int = Field(20, ge=0, description="steps in which the learning rate rises linearly at the start")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights, which are what is audited and saved")
    accumulate: Steps = Field(1, description="batches a step (gradient accumulation)")
    precision: MixedPrecision = Field("no", description="mixed precision; no = float32")
    checkpoint_every: Steps = Field(50, description="steps between checkpoints")
    explosion_factor: float = Field(50.0, gt=1, description="a gradient this many times its running mean is skipped")
    bad_steps: Steps = Field(5, description="steps in a row without a usable gradient that end the run")


class RlhfRecipe(Strict):
    """An SR network tuned against a reward model."""

    name: str = Field(description="of the recipe")
    seed: int = Field(0, ge=0, description="of what is drawn at random: crops, noises, low-rank changes")
    policy: Policy = Policy()
    sampling: Sampling = Sampling()
    algorithm: AlgorithmSettings = Field(
        DirectSettings(), description="direct for networks, the others for diffusion models; each has keys of its own"
    )
    data: Data = Data()
    reward: Reward = Reward()
    anchor: Anchor = Anchor()
    curriculum: Curriculum = Curriculum()
    audit: Audit = Audit()
    training: Training = Training()
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field((), description="that get the figures too")

    @field_validator("algorithm", mode="before")
    @classmethod
    def _direct_by_default(cls, value: Any) -> Any:
        return {"name": "direct", **value} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _fits_together(self) -> "RlhfRecipe":
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _mistakes(self) -> Iterator[str]:
        reward, anchor, audit, chosen = self.reward, self.anchor, self.audit, self.algorithm
        scheduled, staged = self.curriculum.schedule != "none", self.curriculum.stage is not None
        no_reward = [name for name in reward.plain if stage_named(name) is None and not is_score(name)]
        no_encoder = [name for name in audit.control_features if not is_encoder(name)]
        no_metric = [name for name in audit.metrics if name not in DISTANCES and not is_score(name)]
        scores = ", ".join((*SCORES, "pyiqa:NAME"))
        anchored = any((anchor.start, anchor.reference, anchor.low_frequency, anchor.consistency))
        twice = isinstance(chosen, GrpoSettings) and chosen.updates > 1 and self.training.accumulate > 1
        checks = {
            f"reward.plain knows rm-stage:K, {scores}, not {', '.join(no_reward)}": bool(no_reward),
            "plain rewards have no stages: curriculum.schedule=none": bool(reward.plain) and scheduled,
            "reward.score and reward.map are both 0: no reward is left": not (reward.plain or reward.score or reward.map),
            "curriculum.stage is for direct training: curriculum.schedule=none": staged and scheduled,
            "the anchor's weights are all 0: nothing keeps the policy near its start, nor scales the reward": not anchored,
            "algorithm.updates > 1 and training.accumulate > 1 do not go together": twice,
            "audit.control is for algorithm.name=direct": audit.control and not isinstance(chosen, DirectSettings),
            f"audit.control_features knows timm:NAME, not {', '.join(no_encoder)}": bool(no_encoder),
            f"audit.metrics knows {', '.join(DISTANCES)}, {scores}, not {', '.join(no_metric)}": bool(no_metric),
        }
        yield from (mistake for mistake, made in checks.items() if made)


def stage_named(name: str) -> int | None:
    """K of `rm-stage:K` in `reward.plain`; None for what names no stage."""
    kind, _, stage = name.partition(":")
    return int(stage) if kind == "rm-stage" and stage.isdecimal() else None
