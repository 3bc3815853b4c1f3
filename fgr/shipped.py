"""Files that ship with the package: recipes, labelling interface, dataset card, reward model."""

from pathlib import Path

REWARD_MODEL = "fgr-lite"  # the name of the reward model inside the package


def shipped(name: str) -> Path:
    """A shipped file or folder by name: in a wheel it lies under `fgr/shipped_files`, in a clone at top level."""
    package = Path(__file__).parent
    inside = package / "shipped_files" / name
    return inside if inside.exists() else package.parent / name
