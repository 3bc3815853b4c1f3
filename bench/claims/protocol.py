"""protocol.yaml as frozen models: unknown keys and wrong values are refused before anything runs."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fgr.errors import UserError, nearest

FILE = Path(__file__).with_name("protocol.yaml")
PARTS = ("rm", "gold", "rl", "test")
ARMS = ("A-1", "A0", "A1", "A2", "A3", "A4d", "A4c", "A5")
CLAIMS = ("claim1", "claim2", "claim3")
VERDICTS = ("confirmed", "refuted", "inconclusive")
Changes = dict[str, Any]  # dotted keys of a recipe
Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Annotated[tuple[int, ...], Field(min_length=2)]


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
    gold: tuple[str, ...]
    held_out: str
    tuned: str


class Arm(Strict):
    title: str
    changes: Changes
    reward: Literal["staged", "reversed"] = "staged"


class Dataset(Strict):
    recipe: str
    changes: Changes
    parts: dict[str, Changes]


class Variant(Strict):
    changes: Changes
    data: Changes = {}


class Reward(Strict):
    recipe: str
    changes: Changes
    seeds: Seeds
    gold: Changes
    variants: dict[str, Any]

    @property
    def steps(self) -> Changes:
        """What makes the variants' training shorter."""
        return self.variants["steps"]

    @property
    def compared(self) -> dict[str, Variant]:
        """The variants by name."""
        return {name: Variant.model_validate(one) for name, one in self.variants.items() if name != "steps"}

    @model_validator(mode="after")
    def _fits(self) -> "Reward":
        if not {"steps", "concat"} <= self.variants.keys() or not self.compared:
            raise ValueError("variants need steps and concat, the one that the others are compared with")
        return self


class Tuning(Strict):
    recipe: str
    seeds: Seeds
    changes: Changes


class Attack(Strict):
    epsilons: tuple[float, ...]
    steps: int
    images: int


class Measures(Strict):
    rows: int
    crops: int
    crop: int
    attack: Attack
    mixtures: tuple[Share, ...]
    resamples: int
    pictures: int


class InstrumentLimits(Strict):
    ap_over_prevalence: float
    trained_rise: float
    planted_auc: Share
    planted_area: tuple[Share, Share]
    groups: int


class Claim1Limits(Strict):
    gain: float
    no_gain: float
    sham: Share
    pairs: Share
    small_area: Share


class Claim2Limits(Strict):
    ratio: float
    final: float
    power: Share
    alpha: Share


class Claim3Limits(Strict):
    rise: float
    down: Share
    alpha: Share


class Thresholds(Strict):
    instruments: InstrumentLimits
    claim1: Claim1Limits
    claim2: Claim2Limits
    claim3: Claim3Limits


class Texts(Strict):
    statement: str
    confirmed: str
    refuted: str
    inconclusive: str


class Tier(Strict):
    device: Literal["auto", "cpu", "cuda"]
    workers: Annotated[int, Field(ge=1)]
    changes: Changes


class Protocol(Strict):
    """The whole protocol at one tier."""

    tier: str
    amendments: tuple[Amendment, ...]
    photographs: dict[str, int]
    validation: Share
    engines: Engines
    arms: dict[str, Arm]
    dataset: Dataset
    reward: Reward
    tuning: Tuning
    measures: Measures
    thresholds: Thresholds
    rules: dict[str, str]
    intervals: str
    texts: dict[str, Texts]
    limits: tuple[str, ...]
    device: Literal["auto", "cpu", "cuda"]
    workers: int

    @model_validator(mode="after")
    def _whole(self) -> "Protocol":
        wanted = {"photographs": PARTS, "arms": ARMS, "rules": CLAIMS, "texts": CLAIMS}
        for name, keys in wanted.items():
            if set(getattr(self, name)) != set(keys):
                raise ValueError(f"{name} must have exactly the keys {', '.join(keys)}")
        if set(self.dataset.parts) != set(PARTS):
            raise ValueError(f"dataset.parts must have exactly the keys {', '.join(PARTS)}")
        if self.engines.held_out in self.engines.train:
            raise ValueError("engines.held_out must not be among engines.train")
        return self

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that a run's numbers depend on."""
        content = self.model_dump(mode="json", exclude={"texts", "limits", "workers", "device", "amendments"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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
        return Protocol.model_validate(tree | {"tier": tier, "device": found.device, "workers": found.workers})
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
