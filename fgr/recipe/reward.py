"""Every hyperparameter of `fgr train-rm`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import SCORES, MixedPrecision, Share, Strict, Weight, is_score
from fgr.recipe.training_defects import Mined, Planted


class Encoder(Strict):
    """The backbone whose features score and map are made of."""

    name: str = Field(
        "tiny", description="'tiny' (0.4 M parameters, from scratch) or a timm backbone, such as tf_efficientnet_lite0"
    )
    pretrained: bool = Field(True, description="begin with the backbone's published weights; no effect on tiny")
    weights: str | None = Field(
        None, description="a file, or a folder in timm's format, to begin with; else a package, the Hub's cache, or the Hub"
    )
    train: Literal["all", "none", "deepest", "lora"] = Field(
        "all", description="which of its parameters learn: all, none, those of the deepest level, low-rank changes alone (LoRA)"
    )
    lora_rank: int = Field(0, ge=0, description="rank of the low-rank changes that train: lora learns")
    antialias: bool = Field(
        False,
        description="blur before every halving, so that features do not depend on the phase of a pattern; tiny and backbones of "
        "EfficientNet's kind; lite0 takes half as long again, and lattices of period 2 are nearly lost to it",
    )
    energy_floor: float = Field(
        1e-5,
        gt=0,
        description="of tiny's energies, in units of (1/4)²: detail below it hardly counts; 0.004 is grain of four steps of 8 "
        "bits, 1e-5, what earlier versions have, less than the rounding to 8 bits",
    )


class Model(Strict):
    """Decoder and head; the stages are as many as `stages` has entries after the first."""

    gate: Literal["concat", "paper", "complement", "residual"] = Field(
        "concat",
        description="how the map M modulates the deepest feature f: [f ⊙ (1 − M), f ⊙ M], the paper's f ⊙ M, f ⊙ (1 − M), or "
        "f ⊙ (1 + g·M)",
    )
    gain: float = Field(1.0, description="g of the gate `residual`, f ⊙ (1 + g·M)")
    penalty: Weight = Field(
        0.0,
        description="fall of the local score where the map is 1, in standard deviations, beside what the gated feature says; "
        "0 = none, the paper's",
    )
    width: int = Field(48, ge=8, multiple_of=8, description="channels of the decoder's deepest level; finer ones have fewer")
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
    validation: int = Field(64, ge=1, description="rows of the validation split that are used, at most")


class People(Strict):
    """What people said of SR outputs, in public sets or tables of one's own, as a further source of labels from RM_0 on.

    Sets are named as by `fgr evaluate --benchmark`: NAME=DIR for a public set in its folder, or a table's path.
    """

    scores: tuple[str, ...] = Field((), description="sets of mean opinions of images: disrqad=DIR, …, or tables image, mos")
    masks: tuple[str, ...] = Field(
        (), description="sets of marked regions: sr-prominence=DIR, desra=DIR, …, or tables image, mask, prominence"
    )
    score_columns: tuple[str, ...] = Field(
        (), description="what the tables of opinions call their columns: image=file, mos=votes"
    )
    mask_columns: tuple[str, ...] = Field((), description="what the tables of regions call theirs: prominence=share")
    part: Literal["train", "all"] = Field(
        "train", description="scenes that are learned from: 60 %, those of --split train in fgr evaluate --benchmark; or all"
    )
    batch: int = Field(4, ge=1, description="images a process and step, beside the dataset's")
    crop: int = Field(
        224,
        ge=32,
        description="side of their crops in pixels, each of which has its image's opinion; smaller images are left out",
    )
    link: int = Field(
        200, ge=10, description="images of each set on which the link from opinions to S_base, an isotonic regression, is fitted"
    )
    score: Weight = Field(0.5, description="weight of: |S − link(opinion)| in standard deviations of the score")
    order: Weight = Field(1.0, description="weight of: images of a set scored in the order of their opinions")
    map: Weight = Field(1.0, description="weight of: the map inside a marked region against the share of viewers who see it")

    @model_validator(mode="after")
    def _fits(self) -> "People":
        for column in (*self.score_columns, *self.mask_columns):
            if not all(column.partition("=")):
                raise ValueError(f"score_columns and mask_columns are lists of OURS=THEIRS, not {column}")
        return self


class Base(Strict):
    """S_base, the score that L_align anchors clean images to, and the first phase, which distils it into the encoder."""

    name: str = Field("full-reference", description="full-reference, clipiqa, or pyiqa:METRIC (extra iqa, non-commercial)")
    steps: int = Field(400, ge=0, description="optimiser steps of the first phase; 0 = none, for a base that needs no student")


class Loss(Strict):
    """Weights and kinds of the loss terms; margins are in standard deviations of the score."""

    map: Weight = Field(1.0, description="weight of L_map: predicted against labelled degradation maps")
    rank: Weight = Field(1.0, description="weight of L_rank: S_SR < S_syn < S_GT")
    align: Weight = Field(1.0, description="weight of L_align: scores of clean images against S_base")
    map_rank: Weight = Field(
        0.0, description="weight of: restored images' maps above their references' wherever these differ, off the mask too"
    )
    human_score: Weight = Field(0.0, description="weight of: whole composites scored in the order of people's mean scores")
    human_map: Weight = Field(0.0, description="weight of: maps of composites against the maps that people painted")
    preference: Weight = Field(0.0, description="weight of: Bradley–Terry likelihood of people's choices between two composites")
    map_kind: Literal["l1", "smooth-l1", "bce", "focal", "l1+bce"] = Field(
        "l1", description="error of a pixel of the map; l1 is the paper's, bce cross entropy, focal the quality focal loss"
    )
    rank_kind: Literal["margin", "logistic"] = Field(
        "margin", description="loss of a pair's shortfall from its margin: hinge (the paper's), or softplus"
    )
    margins: tuple[Weight, Weight] = Field((0.5, 0.5), description="m1 of S_SR < S_syn and m2 of S_syn < S_GT")
    map_margin: Weight = Field(
        0.0,
        description="weight of: maps of composites and restored images above their references' by at least half of what their "
        "labels say, in the map's own units",
    )
    margins_of: Literal["image", "area", "map"] = Field(
        "image",
        description="image: the paper's, the same for every image; area: times the share of the crop that differs; map: times "
        "M_gt, place by place where places are ranked, every image counting alike however small or faint its defect",
    )
    rank_of: Literal["image", "place"] = Field(
        "image",
        description="what is ranked: image scores (the paper's), or local scores wherever images differ, by the second margin",
    )


class Training(Strict):
    """Optimiser, learning-rate schedule, EMA, validation and checkpoints, the same in every phase."""

    lr: float = Field(3e-4, gt=0, description="highest learning rate (AdamW)")
    encoder_lr: float = Field(1.0, ge=0, description="the encoder's learning rate as a share of lr")
    weight_decay: Weight = Field(0.01, description="AdamW's decoupled weight decay")
    warmup: Share = Field(0.1, description="share of a phase's steps of linear warm-up; then the learning rate falls as a cosine")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the exponential moving average of the weights, which is saved")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are accumulated for a step")
    precision: MixedPrecision = Field("no", description="mixed precision of the forward pass; no = float32")
    validate_every: int = Field(100, ge=1, description="steps between validations of the averaged weights, which choose the best")
    patience: int = Field(0, ge=0, description="validations without improvement after which a phase ends; 0 = never")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    randomize: bool = Field(
        False,
        description="show images as randomised copies, from RM_0 on: shifted by up to a pixel, mildly resampled and blurred, "
        "dithered to 8 bits; in use the same by reward.draws of fgr rlhf and fgr score --draws",
    )
    explosion_factor: float = Field(50.0, gt=1, description="a loss this many times its running mean stops the run")


class RewardRecipe(Strict):
    """A reward model: S_base distilled, then RM_0 (score), then RM_1 … RM_N (score and ever finer maps)."""

    name: str = Field(description="of the recipe, shown in reports")
    seed: int = Field(0, ge=0, description="of initial weights, crops and the order of samples")
    encoder: Encoder = Encoder()
    model: Model = Model()
    data: Data = Data()
    base: Base = Base()
    begin: str | None = Field(
        None,
        description="a reward model to go on from: a run, a folder, a Hub id or fgr-lite; then only the last of `stages` is "
        "trained, and with base.name=full-reference S_base is what that model says of clean images",
    )
    stages: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (200, 400, 400, 400), min_length=1, description="optimiser steps of RM_0 … RM_N"
    )
    loss: Loss = Loss()
    planted: Planted = Planted()
    mined: Mined = Mined()
    people: People = People()
    training: Training = Training()
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(
        (), description="experiment trackers beside metrics.jsonl"
    )

    @model_validator(mode="after")
    def _fits(self) -> "RewardRecipe":
        if (self.encoder.train == "lora") != (self.encoder.lora_rank > 0):
            raise ValueError("encoder.train=lora and encoder.lora_rank > 0 go together")
        if self.encoder.weights and (self.encoder.name == "tiny" or not self.encoder.pretrained):
            raise ValueError("encoder.weights is for a timm backbone with encoder.pretrained=true")
        if self.mined.rounds and not self.planted.share:
            raise ValueError("mined.rounds is for training with planted defects: planted.share above 0")
        if self.mined.rounds and self.data.streaming:
            raise ValueError("mined.rounds needs the dataset on the disk: data.streaming=false")
        if self.encoder.name == "tiny" and self.encoder.train == "none":
            raise ValueError("the encoder tiny starts from random weights, and train: none would leave it untrained")
        if self.base.name != "full-reference" and not is_score(self.base.name):
            known = ", ".join(("full-reference", *SCORES, "pyiqa:METRIC"))
            raise ValueError(f"base.name '{self.base.name}' is not one of {known}")
        if self.base.name == "full-reference" and not self.base.steps:
            raise ValueError("base.name full-reference is a student that must be trained: base.steps > 0")
        return self
