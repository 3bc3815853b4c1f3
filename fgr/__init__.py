"""Fine-grained reward for image super-resolution. Importing it loads nothing heavy."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_samples"]

if TYPE_CHECKING:
    from fgr.dataset.load import load_samples


def __getattr__(name: str) -> Any:
    if name == "load_samples":
        from fgr.dataset.load import load_samples

        return load_samples
    raise AttributeError(f"module 'fgr' has no attribute '{name}'")
