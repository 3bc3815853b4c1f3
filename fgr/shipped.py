"""Files that ship beside the package: recipes, the annotation interface, the dataset card."""

from pathlib import Path


def shipped(name: str) -> Path:
    """A shipped file or folder by name: in a wheel it lies under `fgr/shipped_files`, in a clone at top level."""
    package = Path(__file__).parent
    inside = package / "shipped_files" / name
    return inside if inside.exists() else package.parent / name
