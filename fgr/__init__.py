"""Fine-grained reward for image super-resolution: the Python API. Importing it loads nothing heavy."""

import importlib
from typing import Any

__version__ = "0.1.0"

API = {  # name → the module that has it, imported when it is first asked for; their types are in __init__.pyi
    "UserError": "fgr.errors",
    "evaluate_reward_model": "fgr.api",
    "evaluate_systems": "fgr.api",
    "generate_dataset": "fgr.api",
    "load_reward_model": "fgr.reward.pretrained",
    "load_samples": "fgr.dataset.load",
    "score": "fgr.api",
    "train_reward_model": "fgr.api",
    "tune": "fgr.api",
}
__all__ = ["__version__", *API]


def __getattr__(name: str) -> Any:
    if name in API:
        return getattr(importlib.import_module(API[name]), name)
    raise AttributeError(f"module 'fgr' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
