"""The plan: which crops of which photographs are references, and in which split.

The source is read in blocks; each block's references go into one Parquet part, whose existence says that the block is done, so a
killed run goes on from there. The index is written last: duplicates are dropped and splits assigned in the order of the
photographs' digests, which does not depend on names, on the number of workers, or on where the run was cut.
"""

import json
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import screen
from fgr.errors import UserError, notice
from fgr.generate.sources import NOT_NEEDED, EncodedPhoto, PhotoSource, open_source
from fgr.image_files import ImageFileError
from fgr.images import codec
from fgr.images.photos import PhotoError, decode_photo
from fgr.progress import Progress
from fgr.recipe.generate import Source, Splits
from fgr.records import SPLITS

BLOCK = 16  # photographs of a part
INDEX = "index.json"
NO_CROP = "no_usable_crop"  # a photograph all of whose crops are flat or blurred, which count by themselves


@dataclass(frozen=True, slots=True)
class Reference:
    """A crop that serves as reference; its pixels lie in row `row` of part `part`."""

    source_id: str
    photo_id: str
    photo: str
    photo_height: int
    photo_width: int
    top: int
    left: int
    split: str
    license: str
    attribution: str
    part: int
    row: int


@dataclass(frozen=True)
class ReferencePlan:
    """The references by source_id, in the order of their splits and digests.

    `drops` counts files, photographs and crops by reason, `photographs` those used by split. `source` accounts for every file
    (or row) of the source: `seen`, `used`, and `left_out` by reason. `moved` are photographs, by id, that fill another split than
    their digest and the shares say.
    """

    folder: Path
    references: Mapping[str, Reference]
    drops: Mapping[str, int]
    photographs: Mapping[str, int]
    source: Mapping[str, Any]
    moved: Mapping[str, str]

    def source_ids(self) -> dict[str, list[str]]:
        """The references of each split, in order."""
        found: dict[str, list[str]] = {split: [] for split in SPLITS}
        for reference in self.references.values():
            found[reference.split].append(reference.source_id)
        return found

    def read(self, reference: Reference) -> bytes:
        """The reference's pixels as lossless WebP."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(_part(self.folder, reference.part)) as parquet:
            return parquet.read_row_group(reference.row, columns=["image"])["image"][0].as_py()


def build(folder: Path, source: Source, splits: Splits, workers: int, limit: int | None = None) -> ReferencePlan:
    """Make the plan of at most `limit` photographs of a recipe's `source` in `folder`, or go on with it.

    The same for any `workers`. UserError when nothing usable is left, with the counts of what was dropped.
    """
    if not (folder / INDEX).is_file():
        opened = open_source(source.path, license=source.license, attribution=source.attribution, limit=limit)
        for note in opened.notes:
            notice(note)
        _screen_all(folder, opened, source, workers)
        _write_index(folder, source.duplicate_bits, splits.model_dump(), opened)
    plan = load(folder)
    if not plan.references:
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(plan.drops.items())) or "it has none"
        (folder / INDEX).unlink()
        raise UserError(
            f"No photograph of '{source.path}' is usable; dropped: {dropped}.",
            "Give larger or sharper photographs, or lower source.crop, source.min_texture or source.min_sharpness.",
        )
    return plan


def load(folder: Path) -> ReferencePlan:
    """The finished plan in `folder`."""
    index = json.loads((folder / INDEX).read_text())
    references = {row["source_id"]: Reference(**row) for row in index["references"]}
    return ReferencePlan(
        folder, references, index["drops"], index["photographs"], index.get("source", {}), index.get("moved", {})
    )


def _screen_all(folder: Path, opened: PhotoSource, source: Source, workers: int) -> None:
    blocks = enumerate(iter(lambda: list(islice(opened.photos, BLOCK)), []))
    with Progress("photographs", opened.count or 0, "photographs") as progress:
        for block in _map(partial(_screen_block, folder, source), blocks, workers):
            progress.total = max(progress.total, progress.done + block["photographs"])
            progress.advance(block["photographs"], block["drops"])


def _map(
    work: Callable[[tuple[int, list[EncodedPhoto]]], dict[str, Any]],
    blocks: Iterator[tuple[int, list[EncodedPhoto]]],
    workers: int,
) -> Iterator[dict[str, Any]]:
    """`work` on each block, in `workers` processes if there is more than one block; few blocks are in memory at a time."""
    window = list(islice(blocks, 2 * workers))
    if workers == 1 or len(window) == 1:
        yield from map(work, window)
        yield from map(work, blocks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = deque(pool.submit(work, block) for block in window)
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, block) for block in islice(blocks, 1))


def _screen_block(folder: Path, source: Source, block: tuple[int, list[EncodedPhoto]]) -> dict[str, Any]:
    number, photos = block
    done = _part(folder, number).with_suffix(".json")
    if done.is_file():
        return json.loads(done.read_text())
    drops, left_out = Counter[str](), Counter[str]()
    kept: list[dict[str, Any]] = []
    images: list[bytes] = []
    for photo in photos:
        try:
            pixels = decode_photo(photo.read(), source.max_pixels)
        except (PhotoError, ImageFileError) as error:
            left_out[error.reason] += 1
            notice(f"{photo.place} is left out: {getattr(error, 'message', error)}")
            continue
        crops, dropped = screen.choose_crops(
            pixels, source.crop, source.crops_per_photo, source.min_texture, source.min_sharpness
        )
        drops += dropped
        if crops:
            kept.append(_describe(photo, pixels, crops, source.crop, images))
        else:
            left_out["too_small" if "too_small" in dropped else NO_CROP] += 1
    if images:
        _write_images(_part(folder, number), images)
    drops.update({reason: count for reason, count in left_out.items() if reason not in ("too_small", NO_CROP)})
    result = {"photographs": len(photos), "drops": dict(drops), "left_out": dict(left_out), "kept": kept}
    atomic.write_text(done, json.dumps(result))
    return result


def _describe(
    photo: EncodedPhoto, pixels: np.ndarray, crops: Sequence[screen.Crop], size: int, images: list[bytes]
) -> dict[str, Any]:
    """What the index needs of a photograph; its crops are appended to `images`."""
    entries = []
    for crop in crops:
        window = np.ascontiguousarray(pixels[crop.top : crop.top + size, crop.left : crop.left + size])
        entries.append({"source_id": screen.pixel_digest(window), "top": crop.top, "left": crop.left, "row": len(images)})
        images.append(codec.encode_rgb(window))
    return {
        "photo_id": screen.pixel_digest(pixels), "hash": screen.perceptual_hash(pixels), "photo": photo.name,
        "photo_height": pixels.shape[0], "photo_width": pixels.shape[1], "license": photo.license,
        "attribution": photo.attribution, "crops": entries,
    }  # fmt: skip


def _write_images(path: Path, images: list[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic.replacing(path) as file:
        pq.write_table(pa.table({"image": images}), file, row_group_size=1, compression="none", use_dictionary=False)


def _write_index(folder: Path, duplicate_bits: int, splits: Mapping[str, float], opened: PhotoSource) -> None:
    left_out = Counter(opened.left_out)
    drops = Counter({reason: count for reason, count in left_out.items() if reason != NOT_NEEDED})
    seen = left_out.total()
    photos: list[dict[str, Any]] = []
    for done in sorted(folder.glob("part-*.json")):
        block = json.loads(done.read_text())
        drops.update(block["drops"])
        left_out.update(block.get("left_out", {}))
        seen += block["photographs"]
        photos += [photo | {"part": int(done.stem.removeprefix("part-"))} for photo in block["kept"]]
    photos.sort(key=lambda photo: (photo["photo_id"], photo["photo"]))
    unique = [photo for i, photo in enumerate(photos) if not i or photo["photo_id"] != photos[i - 1]["photo_id"]]
    near = screen.near_duplicates(np.array([photo["hash"] for photo in unique], np.uint64), duplicate_bits)
    for counter in (drops, left_out):
        counter.update({"duplicate": len(photos) - len(unique), "near_duplicate": int(near.sum())})
    kept = [photo for photo, twin in zip(unique, near, strict=True) if not twin]
    by_photo = _splits(kept, splits, opened.count) if kept else {}
    references: dict[str, Reference] = {}
    for photo in kept:
        split = by_photo[photo["photo_id"]]
        for crop in photo["crops"]:
            values = {field.name: (photo | crop | {"split": split})[field.name] for field in fields(Reference)}
            references.setdefault(crop["source_id"], Reference(**values))
    ordered = sorted(references.values(), key=lambda one: (SPLITS.index(one.split), one.source_id))
    counts = Counter(by_photo.values())
    content = {
        "references": [asdict(one) for one in ordered],
        "drops": {reason: count for reason, count in sorted(drops.items()) if count},
        "photographs": {split: counts[split] for split in SPLITS},
        "moved": {photo_id: split for photo_id, split in by_photo.items() if split != screen.split_of(photo_id, splits)},
        "source": {"seen": seen, "used": len(kept), "left_out": {reason: n for reason, n in sorted(left_out.items()) if n}},
    }
    atomic.write_once(folder / INDEX, json.dumps(content).encode())


def _splits(photos: Sequence[Mapping[str, Any]], shares: Mapping[str, float], expected: int | None) -> dict[str, str]:
    """The split of each photograph by its digest; said, where a split is filled otherwise or cannot be.

    What follows from the number of photographs was said before the run, if all that were `expected` are left.
    """
    names = {photo["photo_id"]: photo["photo"] for photo in photos}
    if len(names) != expected and (unfilled := unfilled_splits(len(names), shares)):
        notice(unfilled)
    found, moved = screen.splits_of(list(names), fillable(len(names), shares))
    for split, photo_id in moved.items():
        notice(f"no photograph's digest falls into '{split}': it is given the nearest one, {names[photo_id]}.")
    return found


def fillable(photographs: int, shares: Mapping[str, float]) -> dict[str, float]:
    """The shares of as many splits as there are photographs, those with the largest, and 0 for the others."""
    wanted = sorted((split for split in SPLITS if shares[split]), key=lambda split: -shares[split])[:photographs]
    total = sum(shares[split] for split in wanted)
    return {split: shares[split] / total if split in wanted else 0.0 for split in SPLITS}


def unfilled_splits(photographs: int, shares: Mapping[str, float]) -> str:
    """A sentence for fewer photographs than splits with a share: which stay empty. An empty one where there are enough."""
    unfilled = [split for split, share in fillable(photographs, shares).items() if shares[split] and not share]
    if not unfilled or not photographs:
        return ""
    count = f"{photographs} photograph{'s' if photographs > 1 else ''}"
    return f"{count} cannot fill {len(unfilled) + photographs} splits, since none is in two: nothing in {' and '.join(unfilled)}."


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"
