"""A small dataset directory for reward models, photographs whose swapped regions are blurred and noisy; and a run on it."""

import json
from pathlib import Path

import numpy as np
import pytest

COUNTS = {"train": 12, "validation": 4, "test": 6}
KINDS = ("ellipse", "polygon", "full", "sham")


def make_row(photo: np.ndarray, index: int, side: int) -> dict:
    """A row of the table `samples` with a disc of ruined pixels, or the kinds `full` and `sham`."""
    from scipy.ndimage import gaussian_filter

    from fgr.images import codec

    rng = np.random.default_rng(index)
    top, left = (int(rng.integers(0, limit - side)) for limit in photo.shape[:2])
    reference = np.ascontiguousarray(photo[top : top + side, left : left + side])
    blurred = gaussian_filter(reference.astype(float), (3, 3, 0)) + rng.normal(0, 12, reference.shape)
    sr = np.clip(blurred, 0, 255).astype(np.uint8)
    kind = KINDS[index % 4]
    y, x = np.mgrid[:side, :side]
    disc = np.hypot(y - rng.integers(side), x - rng.integers(side)) < side * 0.3
    mask = np.full((side, side), 255, np.uint8) if kind == "full" else np.where(disc, 255, 0).astype(np.uint8)
    source = reference if kind == "sham" else sr
    target = np.zeros((side, side), np.float32) if kind == "sham" else 0.8 * (mask > 0).astype(np.float32)
    return {
        "id": f"row-{index}", "source_id": f"s{index}", "photo_id": f"p{index}", "reference": codec.encode_rgb(reference),
        "sr": codec.encode_rgb(sr), "composite": codec.encode_rgb(np.where(mask[..., None] > 0, source, reference)),
        "mask": codec.encode_mask(mask), "degradation_map": codec.encode_map(target), "score": float(1 - target.mean()),
        "sr_map": codec.encode_map(np.full((side, side), 0.8, np.float32)),
        "model": ("alpha", "beta")[index % 2 if index % 4 < 2 else 0], "model_digest": "0", "scale": 4, "mask_kind": kind,
        "mask_area": float(mask.mean() / 255), "degradation": "{}", "inference": "{}", "pixel_difference": 0.1,
        "feature_difference": 0.1, "license": "cc0-1.0", "attribution": "", "seed": index,
    }  # fmt: skip


def write_dataset(directory: Path, side: int = 96, counts: dict[str, int] = COUNTS) -> Path:
    """Write such a dataset; every split has its own photograph."""
    import skimage.data

    from fgr.dataset.tables import write_table

    photos = {"train": skimage.data.astronaut(), "validation": skimage.data.coffee(), "test": skimage.data.chelsea()}
    number, files = 0, []
    for split, count in counts.items():
        rows = [make_row(photos[split], number + i, side) for i in range(count)]
        number += count
        write_table(directory / "samples" / f"{split}-00000-of-00001.parquet", "samples", rows)
        files.append({"split": split, "path": f"samples/{split}-*.parquet"})
    put_card(directory, {"samples": files})
    return directory


def put_card(directory: Path, tables: dict[str, list[dict]]) -> None:
    configs = [{"config_name": name, "data_files": files} for name, files in tables.items()]
    (directory / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory) -> None:
    """`datasets` converts Parquet files in a cache of its own: not in the user's."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.disable_progress_bars()
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.2  # seconds after each pass over a shuffled stream; 5 by default


@pytest.fixture(scope="session")
def data(own_cache, tmp_path_factory) -> Path:
    """The dataset directory, 96-pixel images: read only."""
    return write_dataset(tmp_path_factory.mktemp("reward") / "data")


@pytest.fixture(scope="session")
def overrides() -> tuple[str, ...]:
    """What makes the demo recipe a matter of seconds."""
    return (
        "data.crop=48", "data.batch=2", "data.validation=2", "base.steps=4", "stages=[3,4]", "training.validate_every=2",
        "training.checkpoint_every=2", "model.width=16",
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(data, overrides, tmp_path_factory) -> Path:
    """A finished run on `data` by the demo recipe cut short: read only."""
    from fgr import recipe
    from fgr.reward.run import train_reward_model

    out = tmp_path_factory.mktemp("run") / "rm"
    train_reward_model(recipe.load("tiny", "reward", overrides), str(data), out, device="cpu")
    return out


@pytest.fixture(scope="session")
def write_card():
    """Writes a README.md that names the files of tables: (directory, table → data files)."""
    return put_card
