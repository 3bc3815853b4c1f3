"""What functions of the Python API take in several forms: recipes, and images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.errors import UserError

Changes = Mapping[str, Any]  # dotted recipe keys → values


def as_recipe(recipe: Any, kind: str, changes: Changes | None = None) -> Any:
    """The checked recipe of a kind: of a name or a file, of a mapping of keys, or the object itself; with `changes`.

    UserError naming every mistake, or for an object of another kind.
    """
    from fgr import recipe as recipes

    if isinstance(recipe, str | Path):
        return recipes.load(recipe, kind, (), changes)
    if isinstance(recipe, Mapping):
        return recipes.check(recipes.changed(recipe, changes or {}), kind, "given as a mapping")
    if not isinstance(recipe, recipes.model_of(kind)):
        raise UserError(
            f"This is not a recipe of the kind '{kind}' but of the type {type(recipe).__name__}.",
            "Give a name, a file, a mapping of keys, or what fgr.recipe.load gives for this kind.",
        )
    return recipes.check(recipes.changed(recipes.resolved(recipe), changes), kind, "given as an object") if changes else recipe


def as_pixels(image: Any) -> Any:
    """An image as uint8 (H, W, 3) RGB. UserError."""
    import numpy as np

    from fgr.image_files import read_image

    if isinstance(image, str | Path):
        return read_image(Path(image))
    found = np.asarray(image.convert("RGB")) if hasattr(image, "convert") else image
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(image).__name__
        raise UserError(f"An image is an array uint8 (H, W, 3), not {what}.", "Give that, a PIL image, or a file.")
    return found
