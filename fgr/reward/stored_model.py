"""What a reward model's folder says of itself, checked before a network is built of it."""

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.reward.model import GATES, FinPercepRM
from fgr.tensors import first_keys

HINT = "Name a folder that fgr train-rm wrote (RUN, or RUN/stage-K), or the id of a reward model on the Hub."
AGAIN = "Copy it again from where it was trained, or train it again."
LARGEST = 100_000  # bytes of config.json
WEIGHTS = "model.safetensors"


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


FIELDS: dict[str, Callable[[Any], bool]] = {  # key of config.json → whether a value can be meant
    "encoder": lambda value: isinstance(value, str) and 0 < len(value) <= 200,
    "gate": lambda value: isinstance(value, str) and value in GATES,
    "stage": _whole(0, 16), "stages": _whole(0, 16), "width": _whole(1, 4096), "hidden": _whole(1, 65536),
    "lora_rank": _whole(0, 4096),
    "antialias": lambda value: isinstance(value, bool),
    "energy_floor": lambda value: isinstance(value, float) and 0 < value < math.inf,
    "encoder_weights": lambda value: isinstance(value, str) and len(value) <= 10_000,
    "gain": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    "penalty": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000,
}  # fmt: skip


def expect_sound(folder: Path) -> None:
    """UserError unless config.json describes a FinPercep-RM model whose tensors, all finite, are those in model.safetensors.

    The network is only outlined for that: no memory is taken for its weights, however large it says that it is.
    """
    settings = _settings(folder / "config.json")
    shapes = _shapes(folder / WEIGHTS)
    wanted = _outline(tuple(sorted(settings.items())))
    odd = [name for name in sorted(wanted.keys() | shapes.keys()) if wanted.get(name) != shapes.get(name)]
    if odd:
        raise UserError(
            f"The reward model in {folder} is damaged or of another version: {WEIGHTS} does not hold the tensors of "
            f"its config.json ({_millions(shapes)} million numbers for {_millions(wanted)}; {first_keys(odd)}).",
            AGAIN,
        )
    _expect_finite(folder / WEIGHTS)


def _settings(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = stream.read(LARGEST + 1)
        config = json.loads(content.decode("utf-8")) if len(content) <= LARGEST else None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"The reward model in {file.parent} is damaged: {file.name} cannot be read ({reason}).", AGAIN) from None
    if not isinstance(config, dict) or not {"encoder", "gate", "stage"} <= config.keys():
        raise UserError(f"{file} is not that of a FinPercep-RM model.", HINT)
    strange = [name for name, value in config.items() if name not in FIELDS or not FIELDS[name](value)]
    if strange:
        raise UserError(
            f"The reward model in {file.parent} is damaged or of another version: its {file.name} has no usable value in "
            f"{first_keys(strange)}.",
            AGAIN,
        )
    return config


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            return {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"The reward model in {file.parent} is damaged or of another version: {reason}", AGAIN) from None


@lru_cache(maxsize=16)  # of a backbone it takes longer than to read the weights
def _outline(settings: tuple[tuple[str, Any], ...]) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the state that these settings describe. UserError for settings that do not fit together."""
    from accelerate import init_empty_weights

    try:
        with init_empty_weights():
            model = FinPercepRM(**dict(settings))
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"No reward model is as config.json says: {reason}.", AGAIN) from None
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _expect_finite(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        wrong = [name for name in content.keys() if not bool(content.get_tensor(name).isfinite().all())]  # noqa: SIM118
    if wrong:
        raise UserError(
            f"The weights of the reward model in {file.parent} hold values that are not finite: {first_keys(wrong)}.", AGAIN
        )


def _millions(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return f"{sum(math.prod(shape) for shape in shapes.values()) / 1e6:.1f}"
