"""The dataset card: README.md, written from `dataset_card.md` and the files that are there."""

from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from fgr import atomic, records
from fgr.dataset import manifest, markdown, tables
from fgr.hub_files import is_hub_id
from fgr.licenses import hub_license, is_noncommercial
from fgr.shipped import shipped

ALLOWED = {True: "yes", False: "no", None: "not stated"}
PIXEL_MEANINGS = {
    "l1": "mean absolute difference",
    "ssim": "1 − SSIM",
    "ssim-tolerant": "minimum over shifts by up to a pixel of locally averaged 1 − SSIM",
}
HERE = "path/to/this/folder"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write(directory: Path, location: str = HERE) -> None:
    """Write README.md for the dataset directory; `location` is what to pass to load_dataset."""
    atomic.write_text(directory / "README.md", text(directory, location))


def text(directory: Path, location: str = HERE) -> str:
    """What README.md of the dataset directory says, its tables as they are now."""
    recorded = manifest.read(directory)
    by_license = licenses(directory)
    non_commercial = [model["name"] for model in recorded["models"] if is_noncommercial(str(model["license"]))]
    front, body = template()
    limited = any(False in (model.get("train_on_outputs"), model.get("redistribute")) for model in recorded["models"])
    front |= {"license": "other" if limited or non_commercial else _license(by_license)}
    if front["license"] == "other":
        front["license_name"] = "per-sample-non-commercial" if non_commercial else "per-sample"
    front |= {"size_categories": [_size(tables.count_rows(directory, "samples"))]} | _configs(directory)
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    facts = {"licenses": dict(sorted(by_license.items())), "non_commercial": non_commercial, "location": location}
    return f"---\n{head}---\n{_body(body, directory, recorded, facts)}"


def template() -> tuple[dict[str, Any], str]:
    """The front matter and the body (a Jinja2 template) of the shipped `dataset_card.md`."""
    _, front, body = shipped("dataset_card.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def _body(text: str, directory: Path, recorded: dict[str, Any], facts: dict[str, Any]) -> str:
    splits = [
        {"name": split, "rows": tables.count_rows(directory, "samples", split), "files": len(files)}
        for split in records.SPLITS
        if (files := tables.shards(directory, "samples", split))
    ]
    pixel = manifest.pixel_difference_of(recorded)
    return markdown.environment().from_string(text).render(
        name=recorded["recipe"]["name"], version=recorded["fgr"], splits=splits,
        first_split=splits[0]["name"] if splits else "train", drops=recorded["drops"], source=recorded.get("source"),
        columns={table: tables.stored_columns(directory, table) for table in records.TABLES},
        pixel=f"{PIXEL_MEANINGS.get(pixel, 'a difference')} (`{pixel}`)",
        recipe=recorded["recipe"], calibration=recorded["calibration"], models=recorded["models"], allowed=ALLOWED,
        people=people(directory),
        planted=[model["name"] for model in recorded["models"] if str(model["name"]).startswith("planted:")],
        recipe_text=yaml.safe_dump(recorded["recipe"], sort_keys=False, allow_unicode=True, width=120),
        root=f"hf://datasets/{facts['location']}" if is_hub_id(facts["location"]) else facts["location"],
        joined=[table for table in records.TABLES if table != "samples" and tables.shards(directory, table)], **facts,
    )  # fmt: skip


def people(directory: Path) -> dict[str, Any]:
    """What the tables of people's work hold, in figures; empty without them."""
    figures: dict[str, Any] = {}
    annotations = list(tables.read_shards(directory, "annotations", ("id", "annotator", "lead_time_s")))
    if annotations:
        times = sorted(row["lead_time_s"] for row in annotations if row["lead_time_s"] is not None)
        figures |= {"annotations": len(annotations), "annotators": len({row["annotator"] for row in annotations})}
        figures |= {"annotated": len({row["id"] for row in annotations}), "seconds": times[len(times) // 2] if times else None}
    consensus = list(tables.read_shards(directory, "consensus", ("id", "raters", "agreement", "rejected_raters")))
    if consensus:
        agreements = [row["agreement"] for row in consensus if row["agreement"] is not None and isfinite(row["agreement"])]
        figures |= {"consensus": len(consensus), "raters": sum(row["raters"] for row in consensus) / len(consensus)}
        figures |= {"agreement": sum(agreements) / len(agreements) if agreements else None}
        figures |= {"rejected": len({name for row in consensus for name in row["rejected_raters"] or ()})}
    preferences = list(tables.read_shards(directory, "preferences", ("annotator",)))
    if preferences:
        figures |= {"preferences": len(preferences), "judges": len({row["annotator"] for row in preferences})}
    return figures


def licenses(directory: Path) -> Counter[str]:
    """Rows of `samples` by the licence of their photograph."""
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    for file in tables.shards(directory, "samples"):
        counts.update(pq.read_table(file, columns=["license"])["license"].to_pylist())
    return counts


def _license(licenses: Counter[str]) -> str:
    names = {name.lower() for name in licenses}
    return hub_license(names.pop()) if len(names) == 1 else "other"


def _size(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), "n>1M")


def _configs(directory: Path) -> dict[str, Any]:
    """`configs` and `dataset_info` for the tables and splits that have files: a pattern without a file fails to load."""
    configs, infos = [], []
    for table in records.TABLES:
        by_split = {
            split: files
            for split in (records.SPLITS if table == "samples" else ("",))
            if (files := tables.shards(directory, table, split))
        }
        if not by_split:
            continue
        patterns = [{"split": split or "train", "path": f"{table}/{split + '-' if split else ''}*.parquet"} for split in by_split]
        configs.append({"config_name": table, "data_files": patterns} | ({"default": True} if table == "samples" else {}))
        infos.append(_info(tables.stored_columns(directory, table), table, by_split))
    return {"configs": configs, "dataset_info": infos}


def _info(columns: tuple[records.Column, ...], table: str, by_split: dict[str, list[Path]]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    footers = {split: [pq.read_metadata(file) for file in files] for split, files in by_split.items()}
    splits = [
        {
            "name": split or "train",
            "num_bytes": sum(
                group.total_byte_size for one in footer for group in (one.row_group(i) for i in range(one.num_row_groups))
            ),
            "num_examples": sum(one.num_rows for one in footer),
        }
        for split, footer in footers.items()
    ]
    size = sum(file.stat().st_size for files in by_split.values() for file in files)
    return {
        "config_name": table,
        "features": [_yaml_feature(column) for column in columns],
        "splits": splits,
        "download_size": size,
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _yaml_feature(column: records.Column) -> dict[str, Any]:
    kinds: dict[str, Any] = {
        "image": {"dtype": "image"},
        "image:L": {"dtype": {"image": {"mode": "L"}}},
        "list<string>": {"list": "string"},
        "list<defect>": {"list": [{"name": name, "dtype": dtype} for name, dtype in records.DEFECT_FIELDS.items()]},
    }
    return {"name": column.name} | kinds.get(column.type, {"dtype": column.type})
