"""The reward model, FinPercep-RM: network, losses, staged training, scoring, evaluation, export.

`from fgr.reward import FinPercepRM, load_reward_model`. Importing it loads no torch.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["FinPercepRM", "load_reward_model"]

if TYPE_CHECKING:
    from fgr.reward.model import FinPercepRM
    from fgr.reward.pretrained import load_reward_model


def __getattr__(name: str) -> Any:
    if name == "FinPercepRM":
        from fgr.reward.model import FinPercepRM

        return FinPercepRM
    if name == "load_reward_model":
        from fgr.reward.pretrained import load_reward_model

        return load_reward_model
    raise AttributeError(f"module 'fgr.reward' has no attribute '{name}'")
