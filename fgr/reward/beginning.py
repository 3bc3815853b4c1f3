"""What a training goes on from, or is averaged with: other reward models, built as the recipe asks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import folder_of, load_reward_model, resolve
from fgr.reward.stored_model import WEIGHTS
from fgr.tensors import file_digest


def open_begun(name: str, settings: Mapping[str, Any]) -> FinPercepRM:
    """The reward model `name`, a run, a folder, a Hub id or fgr-lite. UserError if it is not built as `settings` asks."""
    model = load_reward_model(name)
    odd = [
        f"{key}: {model.settings[key]!r} there, {value!r} by the recipe"
        for key, value in settings.items()
        if model.settings[key] != value
    ]
    if odd:
        raise UserError(
            f"The training cannot go on from {name}, which is built differently:",
            "Give the recipe the same encoder, model and number of stages, or name another reward model in begin.",
            odd,
        )
    return model


def digest_of(name: str) -> str:
    """The sha256 of the reward model's weights."""
    return file_digest(resolve(folder_of(name)) / WEIGHTS)


def averaged(model: FinPercepRM, others: Sequence[Path]) -> FinPercepRM:
    """`model`, its weights the mean of its own and those of `others`, runs that one training went through.

    Wortsman et al., "Model soups" (ICML 2022): along one trajectory the mean errs less than its parts.
    """
    states = [model.state_dict(), *(load_reward_model(other).state_dict() for other in others)]
    with torch.no_grad():
        for name, value in states[0].items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name] for state in states]).mean(0))
    return model
