"""Fine-grained reward for image super-resolution: the Python API. Importing it loads nothing heavy."""

import importlib
from typing import Any

__version__ = "0.1.0"

API = {  # name → module and function, imported when it is first asked for; their types are in __init__.pyi
    "evaluate_reward_model": ("fgr.reward.evaluate", "evaluate_reward_model"),
    "evaluate_systems": ("fgr.evaluate.comparison", "evaluate_systems"),
    "generate_dataset": ("fgr.generate.run", "generate"),
    "load_reward_model": ("fgr.reward.pretrained", "load_reward_model"),
    "load_samples": ("fgr.dataset.load", "load_samples"),
    "score": ("fgr.reward.score", "score"),
    "train_reward_model": ("fgr.reward.run", "train_reward_model"),
    "tune": ("fgr.rlhf.run", "tune"),
}
__all__ = ["__version__", *API]


def __getattr__(name: str) -> Any:
    if name in API:
        module, function = API[name]
        return getattr(importlib.import_module(module), function)
    raise AttributeError(f"module 'fgr' has no attribute '{name}'")
