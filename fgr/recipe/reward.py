"""Every knob of `fgr train-rm`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import Share, Strict, Weight


class Encoder(Strict):
    """The backbone whose features score and map are made of."""

    name: str = Field("tiny", description="'tiny' (0.4 M parameters, from scratch) or a timm backbone, e.g. resnet50_clip.openai")
    pretrained: bool = Field(True, description="begin with timm's weights; no effect on tiny")
    train: Literal["all", "none", "deepest", "lora"] = "all"
    lora_rank: int = Field(0, ge=0, description="rank of the low-rank changes that train: lora learns")


class Model(Strict):
    """Decoder and head; the stages are as many as `stages` has entries after the first."""

    gate: Literal["concat", "paper", "complement", "residual"] = "concat"
    gain: float = Field(1.0, description="g of the gate `residual`, f ⊙ (1 + g·M)")
    width: int = Field(48, ge=8, multiple_of=8, description="channels of the decoder's deepest level")
    hidden: int = Field(64, ge=1, description="width of the score's MLP")


class Data(Strict):
    """Which rows are seen, and how."""

    crop: int = Field(256, ge=32, description="side of the training crops in pixels")
    batch: int = Field(8, ge=1, description="samples a process and step; each is three images")
    flips: bool = Field(True, description="mirror and turn crops at random")
    exclude_models: tuple[str, ...] = Field((), description="SR models never trained or validated on, to test generalisation")
    streaming: bool = Field(False, description="read the dataset as a stream instead of by index")
    workers: int = Field(2, ge=0, description="processes that load data")
    cache_mb: int = Field(1024, ge=0, description="memory for decoded images, all workers together")
    validation: int = Field(64, ge=1, description="at most this many rows of the validation split")


class Base(Strict):
    """S_base, the scale that scores of clean images are held to, and the first phase, which distils it into the encoder."""

    name: str = Field("full-reference", description="full-reference, clipiqa, or pyiqa:METRIC (extra iqa, non-commercial)")
    steps: int = Field(400, ge=0)


class Loss(Strict):
    """Weights and kinds of the loss terms; margins are in standard deviations of the score."""

    map: Weight = 1.0
    rank: Weight = 1.0
    align: Weight = 1.0
    map_rank: Weight = Field(
        0.0, description="restored images' maps above their references' wherever these differ, off the mask too"
    )
    human_score: Weight = 0.0
    human_map: Weight = 0.0
    preference: Weight = 0.0
    map_kind: Literal["l1", "smooth-l1", "bce", "focal", "l1+bce"] = "l1"
    rank_kind: Literal["margin", "logistic"] = "margin"
    margins: tuple[Weight, Weight] = (0.5, 0.5)
    margins_of: Literal["image", "area"] = Field(
        "image", description="image: the paper's, the same however much differs; area: times the share of the crop that differs"
    )
    rank_of: Literal["image", "place"] = Field(
        "image",
        description="what is ranked: images (the paper's), or verdicts at each place where images differ, by the second margin",
    )


class Training(Strict):
    """The optimiser and its bookkeeping, the same in every phase."""

    lr: float = Field(3e-4, gt=0)
    encoder_lr: float = Field(1.0, ge=0, description="the encoder's learning rate as a share of lr")
    weight_decay: Weight = 0.01
    warmup: Share = Field(0.1, description="share of a phase's steps in which the rate rises; then it falls as a cosine")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights, which are what is saved")
    accumulate: int = Field(1, ge=1, description="batches a step")
    precision: Literal["no", "bf16", "fp16"] = "no"
    validate_every: int = Field(100, ge=1)
    patience: int = Field(0, ge=0, description="validations without improvement after which a phase ends; 0 = never")
    checkpoint_every: int = Field(100, ge=1)
    explosion_factor: float = Field(50.0, gt=1, description="a loss this many times its running mean stops the run")


class RewardRecipe(Strict):
    """A reward model: S_base distilled, then RM_0 (score), then RM_1 … RM_N (score and ever finer maps)."""

    name: str
    seed: int = Field(0, ge=0)
    encoder: Encoder = Encoder()
    model: Model = Model()
    data: Data = Data()
    base: Base = Base()
    stages: tuple[Annotated[int, Field(ge=1)], ...] = Field((200, 400, 400, 400), min_length=1, description="of RM_0 … RM_N")
    loss: Loss = Loss()
    training: Training = Training()
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "RewardRecipe":
        if (self.encoder.train == "lora") != (self.encoder.lora_rank > 0):
            raise ValueError("encoder.train=lora and encoder.lora_rank > 0 go together")
        if self.encoder.name == "tiny" and self.encoder.train == "none":
            raise ValueError("the encoder tiny starts from random weights: train: none would leave them so")
        known = self.base.name in ("full-reference", "clipiqa") or self.base.name.startswith("pyiqa:")
        if not known:
            raise ValueError(f"base.name '{self.base.name}' is none of full-reference, clipiqa, pyiqa:METRIC")
        if self.base.name == "full-reference" and not self.base.steps:
            raise ValueError("base.name full-reference is a student that must be trained: base.steps > 0")
        return self
