"""Every knob of `fgr rlhf`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import Strict, Weight
from fgr.recipe.sampling import Sampling

Share = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]


class Policy(Strict):
    """What of the SR network learns."""

    train: Literal["all", "lora"] = "all"
    lora_rank: int = Field(16, ge=1, description="of the low-rank changes of every convolution and linear layer (train: lora)")
    lora_alpha: int = Field(16, ge=1, description="the changes are scaled by lora_alpha / lora_rank")
    checkpoint_blocks: bool = Field(False, description="recompute the network's blocks in the backward pass: less memory, slower")
    accept_license: tuple[str, ...] = Field((), description="models whose licence limits tuning or sharing, and that is accepted")


class Algorithm(Strict):
    """How the policy climbs: `direct` for networks, the others for diffusion models. Shares are of the denoising steps."""

    name: Literal["direct", "refl", "draft", "draft-lv", "grpo", "dpo"] = "direct"
    anchor: Weight = Field(0.0, description="squared distance of predictions to the untuned model's (refl, draft, draft-lv)")
    hinge: float | None = Field(
        2.0, description="z-units from which an image pulls no further (refl, draft, draft-lv); null = none"
    )
    late: tuple[float, float] = Field((0.75, 1.0), description="refl: where the one step with a gradient is drawn")
    endpoint: bool = Field(False, description="refl: reward the real sample, not the prediction of x_0")
    early: Share = Field(0.4, description="refl: where the step of the low-frequency loss is drawn, from the start")
    low_frequency: Weight = Field(0.0, description="refl: between the early prediction and the reference")
    last: Steps = Field(1, description="draft: denoising steps that the gradient goes through")
    draws: Steps = Field(2, description="draft-lv: noises that the last step is drawn with")
    group: Steps = Field(8, description="grpo: samples of an input")
    eta: float = Field(1.0, gt=0, le=1, description="grpo: how stochastic the learned denoising steps are")
    updates: Steps = Field(1, description="grpo: optimiser steps on one rollout")
    clip: float = Field(1e-4, gt=0, description="grpo: how far a ratio may move")
    advantage_clip: float = Field(5.0, gt=0, description="grpo")
    spread: Literal["group", "global", "none"] = Field("global", description="grpo: what advantages are divided by")
    beta: Weight = Field(0.04, description="grpo: weight of the KL divergence from the start")
    window: int = Field(0, ge=0, description="grpo: stochastic steps in a sliding window (MixGRPO); 0 = all")
    window_every: Steps = Field(25, description="grpo: training steps after which the window moves on by one")
    shared_noise: bool = Field(True, description="grpo: members of a group begin from the same noise")
    dense: bool = Field(False, description="grpo: an advantage a place, from the degradation map (DenseFlow-GRPO)")
    pairs: Literal["triplets", "preferences", "samples"] = Field("triplets", description="dpo: what is preferred to what")
    dpo_beta: float = Field(2000.0, gt=0, description="dpo")
    samples: int = Field(8, ge=2, description="dpo: samples of an input, ranked by the reward (pairs: samples)")
    top: Steps = Field(2, description="dpo: of the best and of the worst samples, so many against one another")


class Data(Strict):
    """Low-resolution inputs: a dataset's degradations replayed, or a folder of real low-resolution images."""

    split: str = Field("train", description="of the dataset; what is tuned on must not be audited on")
    crop: int = Field(64, ge=0, description="side of the low-resolution crops in pixels; 0 = whole images")
    batch: Steps = 8
    flips: bool = Field(True, description="mirror and turn crops at random")
    cache_mb: int = Field(512, ge=0, description="memory for replayed inputs")


class Reward(Strict):
    """R_k = λ1·z(S) + λ2·z(1 − max^(M)), or plain rewards in its place."""

    plain: tuple[str, ...] = Field((), description="rm-stage:K, clipiqa or pyiqa:NAME, summed, in place of R_k; for comparison")
    score: Weight = Field(1.0, description="λ1")
    map: Weight = Field(1.0, description="λ2")
    maximum: Literal["top-q", "p-norm", "max"] = Field("top-q", description="max^: how the worst of the map is told")
    q: Share = Field(0.05, description="share of the pixels that top-q averages")
    p: float = Field(8.0, ge=1, description="exponent of p-norm")
    units: Literal["z", "raw"] = Field(
        "z", description="z: terms standardised, each stage weighed for itself; raw: neither, the last one's weight for all"
    )
    bound: Weight = Field(3.0, description="the reward levels off at ± this many z-units; 0 = unbounded")
    smooth: Weight = Field(0.0, description="worst case over image changes of this root mean square (1/255 = 0.0039)")
    ratio: float = Field(
        0.5, gt=0, description="gradient of the reward over that of the anchor at the output; sets the weight once"
    )
    reference_images: int = Field(48, ge=2, description="images of each sort that z-units and weight are taken from")


class Anchor(Strict):
    """What holds the policy near where it began."""

    distance: Literal["l1", "l2"] = "l1"
    start: Weight = Field(1.0, description="to the untuned network's output")
    reference: Weight = Field(0.0, description="to the reference")
    low_frequency: Weight = Field(0.0, description="between means over squares of low_frequency_size pixels")
    low_frequency_to: Literal["start", "reference"] = "start"
    low_frequency_size: int = Field(8, ge=2)
    consistency: Weight = Field(0.0, description="between the output, scaled down, and the low-resolution input")
    lpips: Weight = Field(0.0, description="LPIPS to the untuned network's output (torchmetrics; needs AlexNet's weights)")


class Adaptive(Strict):
    """When the schedule `adaptive` moves on, in evaluations (audits) and standard deviations over images."""

    window: int = Field(6, ge=3, description="audits that a trend is taken over")
    plateau: float = Field(0.02, gt=0, description="held-out trend an audit below which the stage is learnt")
    least_steps: int = Field(40, ge=1, description="in a stage before it may end")
    jitter: float = Field(10.0, gt=0, description="changes of the reward over its trend above which the pace is halved")
    drawdown: float = Field(1.0, gt=0, description="fall of the held-out mean from its best that rolls back")
    rollbacks: int = Field(2, ge=0, description="after which the run ends")


class Refresh(Strict):
    """Co-evolution: the next stage of the reward model learns from composites of the current policy before it takes over."""

    steps: int = Field(0, ge=0, description="training steps at each switch; 0 = the reward model stays as it is")
    composites: int = Field(48, ge=1, description="new composites of the policy's outputs at each switch")
    share: float = Field(0.5, gt=0, lt=1, description="of each batch that is new composites; the rest is the dataset's")
    lr: float = Field(1e-4, gt=0)


class Curriculum(Strict):
    """CCL: which stage of the reward model is climbed when."""

    schedule: Literal["none", "paper", "blend", "adaptive"] = "blend"
    stage: int | None = Field(None, ge=0, description="schedule none: the stage to climb; the last if not given")
    steps: tuple[Steps, ...] = Field((), description="a stage (paper, blend); empty = training.steps in equal parts")
    blend_steps: int = Field(20, ge=1, description="in which one stage fades into the next (blend, adaptive)")
    strictness: tuple[Share, ...] = Field((), description="reward.q of RM_1 … RM_N; empty = reward.q for all")
    adaptive: Adaptive = Adaptive()
    refresh: Refresh = Refresh()


class Audit(Strict):
    """Held-out metrics, which the policy is not trained on, of its outputs on fixed held-out images."""

    every: Steps = 20
    split: str = "validation"
    images: int = Field(24, ge=2)
    crop: int = Field(64, ge=16, description="side of their low-resolution crops in pixels")
    rewards: tuple[str, ...] = Field((), description="held-out reward models: folders or Hub ids")
    metrics: tuple[str, ...] = Field((), description="lpips, clipiqa, pyiqa:NAME beside what is always there")
    patch: int = Field(48, ge=16, multiple_of=2, description="side of the patches that natural-image statistics are taken from")
    rise: Weight = Field(0.5, description="rise of the trained reward, in sd over images, from which an alarm is possible")
    fall: Weight = Field(0.25, description="fall of the held-out metrics' mean that is an alarm")
    outrun: float = Field(5.0, gt=0, description="lead of the trained reward over the held-out metrics that is an alarm too")
    on_hacking: Literal["stop", "rollback", "continue"] = "rollback"
    sheet: int = Field(4, ge=0, description="images in the sheet of pictures written at each audit")


class Training(Strict):
    """The optimiser and its bookkeeping."""

    steps: Steps = 400
    lr: float = Field(1e-5, gt=0)
    weight_decay: Weight = 0.0
    warmup: int = Field(20, ge=0, description="steps in which the rate rises at the start")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights, which are what is audited and saved")
    accumulate: Steps = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: Steps = 50
    explode: float = Field(50.0, gt=1, description="a gradient this many times its running mean is not taken")
    bad_steps: Steps = Field(5, description="steps in a row without a usable gradient that end the run")


class RlhfRecipe(Strict):
    """An SR network tuned against a reward model."""

    name: str
    seed: int = Field(0, ge=0)
    policy: Policy = Policy()
    sampling: Sampling = Sampling()
    algorithm: Algorithm = Algorithm()
    data: Data = Data()
    reward: Reward = Reward()
    anchor: Anchor = Anchor()
    curriculum: Curriculum = Curriculum()
    audit: Audit = Audit()
    training: Training = Training()
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "RlhfRecipe":
        wrong = [name for name in self.reward.plain if not _is_plain(name)]
        if wrong:
            raise ValueError(f"reward.plain knows rm-stage:K, clipiqa and pyiqa:NAME, not {', '.join(wrong)}")
        if self.reward.plain and self.curriculum.schedule != "none":
            raise ValueError("plain rewards have no stages: curriculum.schedule=none")
        if not self.reward.plain and not self.reward.score and not self.reward.map:
            raise ValueError("reward.score and reward.map are both 0: nothing is left to climb")
        if self.curriculum.stage is not None and self.curriculum.schedule != "none":
            raise ValueError("curriculum.stage is for direct training: curriculum.schedule=none")
        if not any((self.anchor.start, self.anchor.reference, self.anchor.low_frequency, self.anchor.consistency)):
            raise ValueError("the anchor's weights are all 0: nothing holds the policy, and the reward's weight has no measure")
        self._algorithm_fits()
        unknown = [name for name in self.audit.metrics if name not in ("lpips", "clipiqa") and not name.startswith("pyiqa:")]
        if unknown:
            raise ValueError(f"audit.metrics knows lpips, clipiqa and pyiqa:NAME, not {', '.join(unknown)}")
        return self

    def _algorithm_fits(self) -> None:
        chosen = self.algorithm
        if chosen.name == "grpo" and chosen.group < 2:
            raise ValueError("algorithm.group=1 has no advantage over itself: at least 2")
        if chosen.name == "dpo" and chosen.pairs == "samples" and 2 * chosen.top > chosen.samples:
            raise ValueError("algorithm.top: the best and the worst samples overlap; at most half of algorithm.samples")
        if chosen.name == "grpo" and chosen.updates > 1 and self.training.accumulate > 1:
            raise ValueError("algorithm.updates > 1 and training.accumulate > 1 do not go together")
        if not 0 <= chosen.late[0] < chosen.late[1] <= 1:
            raise ValueError("algorithm.late must be two shares, the lower first")


def _is_plain(name: str) -> bool:
    kind, _, rest = name.partition(":")
    return name == "clipiqa" or (kind == "rm-stage" and rest.isdigit()) or (kind == "pyiqa" and bool(rest))
