"""What training adds to a dataset's own defects: planted ones, and those mined from tuned networks."""

from pydantic import Field, model_validator

from fgr.recipe.fields import Share, Strict, Weight
from fgr.records import LATTICE_PERIODS, PLANTED_KINDS


class Planted(Strict):
    """Defects drawn into crops while training, in every stage: a planted image takes the place of a row's composite.

    Half of them are on the SR output, half on the reference; each is paired with the same image without the defect.
    """

    share: Share = Field(0.0, description="share of the rows of a batch that carry a planted defect; 0 = none")
    held_out: tuple[str, ...] = Field(
        (), description=f"kinds that are never planted, to test generalisation: {', '.join(PLANTED_KINDS)}"
    )
    held_out_periods: tuple[int, ...] = Field(
        (), description="periods of lattices that are never planted: 2, 3, 4, 5, 6, 8 pixels"
    )
    more_often: tuple[str, ...] = Field((), description="kinds that are drawn once more for each time that they are named here")
    severity: tuple[Share, Share] = Field((0.06, 0.8), description="range of a defect's mean map, drawn log-uniformly")
    full: Share = Field(0.35, description="share of the defects that cover the whole crop; the others have a mask")
    area: tuple[Share, Share] = Field((0.05, 0.5), description="range of a mask's area, drawn log-uniformly")
    feather: tuple[Weight, Weight] = Field((0.0, 4.0), description="range of the sigma of a mask's edge in pixels")
    floor: Share = Field(
        0.06,
        description="tolerant 1 − SSIM up to which a defect's map is 0; from twice that on it counts in full. Of kinds that "
        "photographs never show, such as lattices, a quarter of it",
    )
    unseen: Share = Field(
        0.2, description="share of the planted that are noise or lattices of a step or two of 8 bits: score and map have to stay"
    )
    restored: Share = Field(
        0.0,
        description="share of those on SR outputs that are no defect but the same output moved a part of the way to its "
        "reference, which has to be the better one: so small steps in the right direction pay",
    )
    score_pairs: Weight = Field(4.0, description="weight of: scores below those without the defect, place by place")
    map_pairs: Weight = Field(2.0, description="weight of: maps above those without the defect, in log odds and in proportion")
    steady: Weight = Field(
        2.0, description="weight of: what is not seen changes neither score nor map; restored and mined outputs as their labels"
    )
    margins: tuple[Weight, Weight, Weight] = Field(
        (2.0, 1.0, 0.5),
        description="of pairs: fall of the score where a defect's map is 1, in standard deviations, less in proportion; rise of "
        "the map in log odds; and its least rise as a share of the defect's map",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Planted":
        for name, kinds in (("held_out", self.held_out), ("more_often", self.more_often)):
            if unknown := sorted(set(kinds) - set(PLANTED_KINDS)):
                raise ValueError(f"{name} knows {', '.join(PLANTED_KINDS)}, not {', '.join(unknown)}")
        if both := sorted(set(self.held_out) & set(self.more_often)):
            raise ValueError(f"more_often names what held_out excludes: {', '.join(both)}")
        if unknown_periods := sorted(set(self.held_out_periods) - set(LATTICE_PERIODS)):
            raise ValueError(f"held_out_periods knows {LATTICE_PERIODS}, not {', '.join(map(str, unknown_periods))}")
        if len(set(self.held_out)) == len(PLANTED_KINDS) or set(self.held_out_periods) >= {2, 4, 6}:
            raise ValueError("held_out must leave a kind, and held_out_periods one of 2, 4 and 6, which checkerboards have")
        if not 0 < self.severity[0] <= self.severity[1] or not 0 < self.area[0] <= self.area[1]:
            raise ValueError("severity and area must be ranges low high with 0 < low ≤ high")
        if self.feather[0] > self.feather[1]:
            raise ValueError("feather must be a range low high with low ≤ high")
        return self


class Mined(Strict):
    """Rounds before the training proper: train, tune SR networks against the model, and take what they made as defects.

    Each round is a training and a short `fgr rlhf` of each network; an output counts as worse only where its map, by the
    dataset's own difference, is above that of what the network made before.
    """

    rounds: int = Field(0, ge=0, description="of training, tuning and mining before the model is trained; 0 = none")
    generators: tuple[str, ...] = Field(
        ("realesr-animevideov3",), min_length=1, description="SR networks that are tuned, by name"
    )
    tune: tuple[str, ...] = Field(
        (
            "training.steps=60",
            "training.lr=1e-4",
            "training.warmup=5",
            "training.ema=0",
            "audit.every=60",
            "audit.images=4",
            "audit.planted=0",
        ),
        description="changes to the recipe demo of fgr rlhf, as KEY=VALUE; always directly on the last stage, alarms ignored",
    )
    adversaries: tuple[tuple[str, ...], ...] = Field(
        ((),),
        min_length=1,
        description="each network is tuned by each of these in every round: changes after those of tune, as "
        "[training.steps=120, reward.ratio=3]; [] for none",
    )
    harder_rounds: int = Field(
        0,
        ge=0,
        description="of the rounds, the last so many have harder_adversaries instead: they buy what resists the first ones",
    )
    harder_adversaries: tuple[tuple[str, ...], ...] = Field(
        (
            (),
            ("training.steps=120", "audit.every=120", "reward.ratio=3"),
            ("training.steps=200", "audit.every=200", "reward.ratio=6", "data.batch=2"),
        ),
        min_length=1,
        description="written like adversaries",
    )
    images: int = Field(48, ge=1, description="inputs of the training split whose outputs each tuned network gives")
    share: Share = Field(0.15, description="share of the rows of a batch that are mined, beside those that are planted")
    average: int = Field(
        1, ge=1, description="models whose mean of weights is kept: the last one and those of so many rounds before, less one"
    )
    steps: int = Field(
        0, ge=0, description="for which each later training goes on from the model before; 0 = each begins anew, with all stages"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Mined":
        if self.average > 1 and not (self.steps and self.average <= self.rounds):
            raise ValueError("average needs rounds that go on from each other: steps above 0, and at least as many rounds")
        if self.harder_rounds > self.rounds:
            raise ValueError("harder_rounds are among rounds: set at most as many")
        return self

    def adversaries_of(self, number: int) -> tuple[tuple[str, ...], ...]:
        """What tunes the networks in a round, the first being 0."""
        return self.adversaries if number < self.rounds - self.harder_rounds else self.harder_adversaries
