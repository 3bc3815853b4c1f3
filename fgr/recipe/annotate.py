"""Every hyperparameter of `fgr annotate`."""

from typing import Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import Share, Strict

TITLE = 50  # characters that Label Studio allows in a project's title


class Select(Strict):
    """Which samples people see: spread evenly over SR models and steps of the heuristic score."""

    samples: int = Field(300, ge=1, description="samples (or pairs) to annotate, gold samples not counted")
    split: Literal["train", "validation", "test"] | None = Field(None, description="one split, or all")
    models: tuple[str, ...] = Field((), description="SR models; none named = all")
    bins: int = Field(5, ge=1, description="equal-count steps of the score that are drawn from in turn")
    pool: int = Field(8, ge=1, description="with a reward model: samples compared for each one taken, most disputed first")


class Gold(Strict):
    """Samples with a known answer, hidden among the others: sham rows (no defect) and plain large defects."""

    share: Share = Field(0.1, description="gold samples for each sample to annotate")
    worst: Share = Field(0.2, description="a plain defect is among this share of the lowest scores")
    area: Share = Field(0.05, description="and its region covers at least this share of the image")


class Prediction(Strict):
    """What is painted before people start: regions only; a score would bias them."""

    source: Literal["none", "heuristic", "reward"] = Field(
        "heuristic", description="the dataset's map, a reward model's, or nothing"
    )
    share: Share = Field(0.8, description="share of the samples that get it; gold samples never do and hide among the rest")
    smooth: float = Field(4.0, ge=0, description="sigma in pixels of the smoothing before the map is cut into severities")
    floor: Share = Field(0.15, description="smoothed map values below this are not painted")
    min_area: Share = Field(0.0005, description="smaller specks and holes are removed, as a share of the image")


class Consensus(Strict):
    """How the work of several annotators becomes one score and one map, and whose work is left out."""

    scores: Literal["mle", "mean"] = Field("mle", description="maximum likelihood (ITU-T P.910), or mean of BT.500's accepted")
    maps: Literal["weighted", "staple"] = Field("weighted", description="agreement-weighted mean, or STAPLE (needs SimpleITK)")
    min_gold: Share = Field(0.6, description="annotators with a lower share of right answers to gold samples are left out")
    min_correlation: float = Field(0.2, ge=-1, le=1, description="so are those whose scores follow the others' less than this")
    min_dice: Share = Field(0.4, description="and those whose Dice with the others is below this share of the median")
    min_seconds: float = Field(3.0, ge=0, description="and those whose median time a sample is shorter")
    min_work: int = Field(5, ge=2, description="annotators with fewer samples are left out only for wrong gold samples")


class AnnotateRecipe(Strict):
    """Human labels: dataset → Label Studio → annotations or preferences → consensus."""

    name: str = Field(min_length=3, max_length=40, description="title of the Label Studio project; --project overrides it")
    seed: int = Field(0, ge=0, description="of everything that is drawn: samples, gold samples, pairs, order")
    interface: Literal["defects", "preference"] = Field(
        "defects", description="paint and score one image, or choose the better of two"
    )
    reference: bool = Field(True, description="show the reference beside the image")
    images: Literal["upload", "folder"] = Field("upload", description="upload images, or write them where the server serves them")
    annotators: tuple[str, ...] = Field((), description="one project each; none named = one project for all")
    raters: int = Field(3, ge=1, le=100, description="different people for each sample")
    select: Select = Select()
    gold: Gold = Gold()
    prediction: Prediction = Prediction()
    consensus: Consensus = Consensus()

    @model_validator(mode="after")
    def _fits(self) -> "AnnotateRecipe":
        if len(set(self.annotators)) != len(self.annotators):
            raise ValueError("annotators lists a name twice")
        room = TITLE - len(f"{self.name} · ")
        unfit = [who for who in self.annotators if not 0 < len(who) <= room]
        if unfit:
            raise ValueError(f"the annotator '{unfit[0]}' does not fit into a project's title: 1 to {room} characters")
        if self.annotators and self.raters > len(self.annotators):
            raise ValueError(f"raters ({self.raters}) is more than the {len(self.annotators)} annotators named")
        return self
