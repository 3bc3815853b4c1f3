"""protocol.yaml as frozen models: unknown keys and wrong values are refused before anything runs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fgr import recipe as recipes
from fgr.errors import UserError, nearest

FILE = Path(__file__).with_name("protocol.yaml")
PARTS = ("rm", "judge", "rl", "test")
ARMS = ("A-1", "A0", "A1", "A2", "A3", "A5", "A4d", "A4c")
COMPARED = ("A-1", "A0", "A1", "A2")  # that claim 3 holds at one distance
CLAIMS = ("claim1", "claim2", "claim3")
VERDICTS = ("confirmed", "refuted", "inconclusive")
Changes = dict[str, Any]  # dotted keys of a recipe
Share = Annotated[float, Field(ge=0, le=1)]
Device = Literal["auto", "cpu", "cuda"]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Amendment(Strict):
    date: str
    key: str
    before: Any
    after: Any
    why: str


class Engines(Strict):
    train: tuple[str, ...]
    judge: tuple[str, ...]
    held_out: str
    tuned: str


class Arm(Strict):
    title: str
    changes: Changes
    reward: Literal["staged", "reversed"] = "staged"


class Trained(Strict):
    recipe: str
    changes: Changes


class Family(Trained):
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    tuning: Changes
    arms: tuple[str, ...]


class Dataset(Trained):
    parts: dict[str, Changes]


class Measures(Strict):
    measured: Annotated[int, Field(ge=2)]
    rows: int
    crops: int
    crop: int
    figures: tuple[str, ...]
    planted: int
    resamples: int
    pictures: int


class Power(Strict):
    effect: float
    spread: float
    why: str


class Claim1Limits(Strict):
    gain: float
    no_gain: float
    sham: Share
    ap_over_prevalence: float


class Claim2Limits(Strict):
    ratio: float
    final: float
    power: Share


class Claim3Limits(Strict):
    difference: float
    hacked: float
    rise: float
    distance: float


class Thresholds(Strict):
    alpha: Share
    units: int
    photographs: int
    claim1: Claim1Limits
    claim2: Claim2Limits
    claim3: Claim3Limits


class Texts(Strict):
    statement: str
    confirmed: str
    refuted: str
    inconclusive: str


class Tier(Strict):
    device: Device
    workers: Annotated[int, Field(ge=1)]
    cannot: tuple[str, ...]
    seconds: dict[str, float]
    changes: Changes


class Unit(NamedTuple):
    """A reward model: its family, fold and seed."""

    family: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """As folders are named."""
        return f"{self.family}-{self.fold}-{self.seed}"


class Protocol(Strict):
    """The whole protocol at one tier."""

    tier: str
    amendments: tuple[Amendment, ...]
    photographs: dict[str, int]
    engines: Engines
    folds: Annotated[int, Field(ge=2)]
    families: dict[str, Family]
    judge: Trained
    arms: dict[str, Arm]
    dataset: Dataset
    tuning: Trained
    measures: Measures
    power: dict[str, Power]
    thresholds: Thresholds
    rules: dict[str, str]
    intervals: str
    texts: dict[str, Texts]
    limits: tuple[str, ...]
    device: Device
    workers: int
    cannot: tuple[str, ...]
    seconds: dict[str, float]

    @model_validator(mode="after")
    def _whole(self) -> "Protocol":
        wanted = {"photographs": PARTS, "arms": ARMS, "rules": CLAIMS, "texts": CLAIMS, "power": CLAIMS}
        for name, keys in wanted.items():
            if set(getattr(self, name)) != set(keys):
                raise ValueError(f"{name} must have exactly the keys {', '.join(keys)}")
        if set(self.dataset.parts) != set(PARTS):
            raise ValueError(f"dataset.parts must have exactly the keys {', '.join(PARTS)}")
        if self.engines.held_out in self.engines.train:
            raise ValueError("engines.held_out must not be among engines.train")
        for name, family in self.families.items():
            if not set(COMPARED) <= set(family.arms) <= set(ARMS):
                raise ValueError(f"families.{name}.arms must be of {', '.join(ARMS)}, among them {', '.join(COMPARED)}")
        if "paper" not in self.families:
            raise ValueError("families must have paper, whose units decide")
        return self

    def units(self, family: str) -> list[Unit]:
        """The reward models of a family, the folds of one seed after another."""
        return [Unit(family, fold, seed) for seed in self.families[family].seeds for fold in range(self.folds)]

    def all_units(self) -> Iterator[Unit]:
        """The reward models of every family, those that decide first."""
        for family in ("paper", *(name for name in self.families if name != "paper")):
            yield from self.units(family)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that a run's numbers depend on, the recipes as they are now included."""
        left_out = {"texts", "limits", "workers", "device", "amendments", "cannot", "seconds", "power"}
        content = self.model_dump(mode="json", exclude=left_out) | {"recipes": self.recipes()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def recipes(self) -> dict[str, str]:
        """The digest of each recipe, with the changes of this protocol."""
        found = {"dataset": recipe_digest(self.dataset, "generate"), "tuning": recipe_digest(self.tuning, "rlhf")}
        trained = {"judge": self.judge} | self.families
        return found | {name: recipe_digest(one, "reward") for name, one in trained.items()}


def recipe_digest(trained: Trained, kind: str) -> str:
    """What identifies a shipped recipe with the protocol's changes."""
    return recipes.digest(recipes.load(trained.recipe, kind, (), trained.changes))


def load(tier: str = "cpu", file: Path = FILE) -> Protocol:
    """The protocol at `tier`. UserError: no such tier, unknown keys, values that do not fit, changes of keys not there."""
    tree: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    tiers = tree.pop("tiers", None) or {}
    if tier not in tiers:
        raise UserError(f"{file.name} has no tier '{tier}'{nearest(tier, list(tiers))}.", f"Known: {', '.join(tiers)}.")
    try:
        found = Tier.model_validate(tiers[tier])
        for key, value in found.changes.items():
            _change(tree, key, value, file)
        own = {name: getattr(found, name) for name in ("device", "workers", "cannot", "seconds")}
        return Protocol.model_validate(tree | {"tier": tier} | own)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, one['loc'])) or '(whole)'} – {one['msg']}" for one in error.errors(include_url=False)]
        raise UserError("\n".join([f"{file.name} has mistakes:", *lines])) from None


def _change(tree: dict[str, Any], dotted: str, value: Any, file: Path) -> None:
    """Set a key of the tree; recipe keys hold dots themselves, so the longest key that is there wins."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        name, rest = ".".join(parts[:length]), parts[length:]
        if name in tree and rest and isinstance(tree[name], Mapping):
            return _change(tree[name], ".".join(rest), value, file)
        if name in tree and not rest:
            tree[name] = value
            return None
    raise UserError(f"{file.name} changes the key {dotted}, which is not there.", "Name keys as they stand in the file.")
