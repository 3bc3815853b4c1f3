"""Opening a dataset's splits and people's labels for training and evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgr.dataset import cells
from fgr.dataset.location import GENERATE, open_table, table_names
from fgr.errors import UserError
from fgr.recipe.reward import RewardRecipe
from fgr.records import media_columns

NEEDED = (
    "id",
    "source_id",
    "photo_id",
    "reference",
    "sr",
    "composite",
    "mask",
    "degradation_map",
    "score",
    "model",
    "mask_kind",
    "mask_area",
)


def open_split(data: str, split: str, exclude: Sequence[str] = (), streaming: bool = False) -> Any:
    """The rows of a split as a `datasets` dataset whose images are encoded bytes, without those of the SR models in `exclude`.

    UserError if the dataset, the split or a column does not exist, if no row is left, or if an excluded model does not occur.
    """
    from datasets import Image

    rows = open_table(data, "samples", split, streaming)
    present = rows.column_names or NEEDED
    missing = [name for name in NEEDED if name not in present]
    if missing:
        names = f"column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise UserError(f"The dataset {data} lacks the {names} of an FGR dataset{_maker(data)}.", GENERATE)
    for name in (name for name in media_columns("samples") if name in present):
        rows = rows.cast_column(name, Image(decode=False))
    if not exclude:
        return rows
    if streaming:
        return rows.filter(lambda model: model not in exclude, input_columns="model")
    models = rows["model"]
    _known(exclude, sorted(set(models)), split)
    kept = rows.select([i for i, model in enumerate(models) if model not in exclude])
    if not len(kept):
        raise UserError(
            f"Without {', '.join(exclude)} the split '{split}' of {data} has no rows left.", "Exclude fewer SR models."
        )
    return kept


def has_sr_map(rows: Any) -> bool:
    """Whether rows of a dataset have maps of whole restored images, as all do since version 0.2."""
    return "sr_map" in (rows.column_names or ("sr_map",))


def note_on_maps(data: str, rows: Any, planted: bool = False) -> str:
    """What a training on `rows` cannot learn because the dataset is of version 0.1; empty otherwise."""
    if has_sr_map(rows):
        return ""
    return (
        f"{data} has no sr_map (datasets made since version 0.2 have): maps of whole restored images are learned only where "
        f"masks are full{', and defects are planted on references alone' if planted else ''}"
    )


def size_of(rows: Any) -> tuple[int, int]:
    """Height and width of the first row's images."""
    height, width = cells.pixels(next(iter(rows)), "mask").shape
    return height, width


def open_consensus(data: str) -> dict[str, dict[str, Any]]:
    """People's labels by sample id; empty if the dataset has none."""
    from datasets import Image

    if "consensus" not in table_names(data):
        return {}
    rows = open_table(data, "consensus", "train").cast_column("degradation_map", Image(decode=False))
    return {row["id"]: row for row in rows}


def open_preferences(data: str, rows: Any) -> list[tuple[int, int, float]]:
    """Pairs of row numbers with people's choice (1 = left, 0 = right, 0.5 = tie), of samples that `rows` holds."""
    if "preferences" not in table_names(data):
        return []
    place = {name: i for i, name in enumerate(rows["id"])}
    value = {"left": 1.0, "right": 0.0, "tie": 0.5}
    return [
        (place[row["left_id"]], place[row["right_id"]], value[row["choice"]])
        for row in open_table(data, "preferences", "train")
        if row["left_id"] in place and row["right_id"] in place
    ]


def expect_learnable(recipe: RewardRecipe, data: str, rows: Any, consensus: Mapping[str, Any], pairs: Sequence[Any]) -> None:
    """UserError if the recipe's crops do not fit the training rows, or if they lack people's labels that it gives weight to."""
    side = min(size_of(rows))
    if recipe.data.crop > side:
        raise UserError(
            f"The crops of {recipe.data.crop} pixels do not fit into the {side}-pixel images of {data}.",
            f"Set data.crop={side // 32 * 32} or less.",
        )
    if (recipe.loss.human_score or recipe.loss.human_map) and not consensus:
        raise UserError(
            f"The recipe gives weight to people's labels, but {data} has no table 'consensus'.",
            "Make it with fgr annotate consensus, or set loss.human_score=0 loss.human_map=0.",
        )
    if recipe.loss.human_score and recipe.data.crop < max(size_of(rows)):
        raise UserError(
            f"People's scores are of whole images, and crops of {recipe.data.crop} pixels show parts of them: "
            "loss.human_score would have nothing to learn from.",
            f"Set data.crop={side} if the images are square, or loss.human_score=0; human_map and preference take crops.",
        )
    if recipe.loss.preference and not pairs:
        raise UserError(
            f"The recipe gives weight to preferences, but {data} has none among its training rows.", "Set loss.preference=0."
        )


def split_facts(rows: Mapping[str, Any]) -> dict[str, Any]:
    """What of the data determines a run: splits, their sizes, a digest of their ids, maps of SR images (streams: nothing)."""
    import hashlib

    facts: dict[str, Any] = {}
    for split, part in rows.items():
        if hasattr(part, "__len__"):
            facts[split] = {"rows": len(part), "digest": hashlib.sha256("".join(part["id"]).encode()).hexdigest()[:16]}
            facts[split] |= {"sr_map": True} if "sr_map" in part.column_names else {}  # not named before there was one
    return facts


def _maker(data: str) -> str:
    import json

    try:
        manifest = json.loads((Path(data) / "fgr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return f" (it was written by fgr {manifest.get('fgr', 'of unknown version')})"


def _known(exclude: Sequence[str], models: list[str], split: str) -> None:
    from fgr.errors import nearest

    for name in exclude:
        if split == "train" and name not in models:
            raise UserError(
                f"No row is from the SR model '{name}'{nearest(name, models)}.", f"The dataset has: {', '.join(models)}."
            )
