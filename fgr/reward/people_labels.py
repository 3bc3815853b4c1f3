"""People's opinions and marked regions as a source of training batches, linked to the scale of S_base."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from fgr import atomic
from fgr.errors import UserError
from fgr.image_files import ImageFileError, read_file
from fgr.images.arrays import as_tensor
from fgr.people.map_layouts import Marked, open_map_benchmark, scene_of
from fgr.people.opinions import Source, read_source
from fgr.people.scenes import part_of
from fgr.people.score_layouts import open_score_benchmark
from fgr.recipe.reward import People, RewardRecipe
from fgr.reward.data import Draw, Draws, loader, turned, window
from fgr.reward.pretrained import folder_of, run_of
from fgr.training import directory

LARGEST_LINKED = 512  # pixels of a side of the crop from the middle that S_base sees for the link
Known = tuple[np.ndarray, np.ndarray]  # opinions and what S_base says of them, ascending


class Labelled(NamedTuple):
    """An image with people's mean opinion of it (or None), the number of the set, and its marked regions."""

    image: Source
    source: int
    opinion: float | None = None
    regions: tuple[Marked, ...] = ()


class PeopleLabels:
    """The labelled images of the recipe's sets, of the training part of the scenes; `facts` identify them.

    UserError for a set that is absent or incomplete, whose images are all outside the part, or that holds ranks: these say
    nothing between scenes.
    """

    def __init__(self, settings: People) -> None:
        self.settings = settings
        self.sources = [*settings.scores, *settings.masks]
        self.rows = [*self._opinions(), *self._regions()]
        sha = hashlib.sha256()
        for row in self.rows:
            sha.update(f"{row.image}\0{row.opinion}\0{[one.prominence for one in row.regions]}\0".encode())
        self.facts = {
            "sources": [source.partition("=")[0] for source in self.sources], "part": settings.part, "images": len(self.rows),
            "digest": sha.hexdigest()[:16],
        }  # fmt: skip

    def _opinions(self) -> Iterator[Labelled]:
        for number, source in enumerate(self.settings.scores):
            found = open_score_benchmark(*_named(source), _columns(self.settings.score_columns))
            if found.pairs or "rank" in found.opinions:
                raise UserError(
                    f"people.scores: {source} holds {'pairs' if found.pairs else 'ranks'}, not opinions.",
                    "A training takes tables with the column mos.",
                )
            rows = [row for row in found.rows if self._learned(row.scene)]
            _expect(rows, source)
            yield from (Labelled(row.image, number, row.mos) for row in rows)

    def _regions(self) -> Iterator[Labelled]:
        for number, source in enumerate(self.settings.masks, len(self.settings.scores)):
            found = open_map_benchmark(*_named(source), _columns(self.settings.mask_columns))
            images: dict[Path, list[Marked]] = {}
            for row in found.rows:
                if self._learned(scene_of(row)):
                    images.setdefault(row.image, []).append(row)
            _expect(images, source)
            yield from (Labelled(image, number, None, tuple(regions)) for image, regions in images.items())

    def _learned(self, scene: str) -> bool:
        return self.settings.part == "all" or part_of(scene) == self.settings.part

    def linked(self, base: Callable[[torch.Tensor], torch.Tensor], device: Any) -> dict[int, Known]:
        """By set of opinions, the isotonic regression of what S_base says of up to `link` images on their opinions, as knots.

        UserError if too few images can be read.
        """
        from sklearn.isotonic import IsotonicRegression

        links = {}
        for number, source in enumerate(self.settings.scores):
            rows = [row for row in self.rows if row.source == number]
            chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), self.settings.link)).round().astype(int)]
            pairs = list(_said(chosen, base, device))
            if len(pairs) < 3:
                raise UserError(f"people.scores: only {len(pairs)} images of {source} can be read.", "Check the images.")
            opinions, scores = np.array(pairs).T
            fit = IsotonicRegression(out_of_bounds="clip").fit(opinions, scores)
            links[number] = (np.asarray(fit.X_thresholds_, float), np.asarray(fit.y_thresholds_, float))
        return links


def _named(source: str) -> tuple[str, str | None]:
    name, equals, folder = source.partition("=")
    return (name, folder) if equals else (source, None)


def _columns(named: Sequence[str]) -> dict[str, str]:
    return {ours: theirs for ours, _, theirs in (one.partition("=") for one in named)}


def _expect(rows: Iterable[Any], source: str) -> None:
    if not list(rows):
        raise UserError(
            f"people: no scene of {source} is in the training part.", "Set people.part=all, if nothing is measured on it."
        )


@torch.no_grad()
def _said(rows: Sequence[Labelled], base: Callable[[torch.Tensor], torch.Tensor], device: Any) -> Iterator[tuple[float, float]]:
    for row in rows:
        try:
            image = read_source(row.image)
        except ImageFileError:
            continue
        top, left = (max(0, (side - LARGEST_LINKED) // 2) for side in image.shape[:2])
        middle = np.ascontiguousarray(image[top : top + LARGEST_LINKED, left : left + LARGEST_LINKED])
        yield float(row.opinion or 0.0), float(base(as_tensor([middle], device))[0])


class PeopleCrops(Dataset):
    """Crops of labelled images by (row, seed).

    `people_image` uint8 (3, C, C); `people_map` and `people_known` float32 (1, C, C), the share of viewers who see a region, and
    where that is known; `people_target`, the opinion on S_base's scale, `people_opinion`, in standard deviations of its set, and
    `people_rated`, 0 or 1; `people_source`. An image that cannot be read, or is smaller than a crop, gives way to the next.
    """

    def __init__(self, labels: PeopleLabels, links: Mapping[int, Known], crop: int) -> None:
        self.rows, self.links, self.crop = labels.rows, links, crop
        opinions = {number: np.array([row.opinion for row in self.rows if row.source == number]) for number in links}
        self.spread = {number: max(float(values.std()), 1e-6) for number, values in opinions.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index, seed = draw
        rng = np.random.default_rng(seed)
        for step in range(len(self.rows)):
            row = self.rows[(index + step) % len(self.rows)]
            try:
                return self._cut(row, rng)
            except ImageFileError:
                continue
        raise UserError(
            f"No image that people labelled can be read or has {self.crop} pixels a side.",
            "Check the images, or lower people.crop.",
        )

    def _cut(self, row: Labelled, rng: np.random.Generator) -> dict[str, Any]:
        image = read_source(row.image)
        if min(image.shape[:2]) < self.crop:
            raise ImageFileError(f"{row.image} is smaller than a crop.", reason="size")
        map_, known = marked_map(row.regions, image.shape[:2])
        place = window(known, self.crop, rng)
        arrays = turned({"people_image": image[place], "people_map": map_[place], "people_known": known[place]}, rng)
        knots = self.links.get(row.source)
        opinion = row.opinion if row.opinion is not None else 0.0
        return {
            "people_image": np.ascontiguousarray(arrays["people_image"].transpose(2, 0, 1)),
            "people_map": np.ascontiguousarray(arrays["people_map"][None]),
            "people_known": np.ascontiguousarray(arrays["people_known"][None]),
            "people_target": np.float32(np.interp(opinion, *knots) if knots else 0.0),
            "people_opinion": np.float32(opinion / self.spread[row.source] if knots else 0.0),
            "people_rated": np.float32(knots is not None), "people_source": row.source,
        }  # fmt: skip


def marked_map(regions: Sequence[Marked], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The share of viewers who see each place, and where it is known (0 or 1): float32 (H, W), 0 outside the regions.

    ImageFileError for a mask that cannot be read.
    """
    map_, known = np.zeros(shape[:2], np.float32), np.zeros(shape[:2], np.float32)
    for region in regions:
        data = read_file(region.mask)
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
        if grey is None:
            raise ImageFileError(f"The mask {region.mask} cannot be read.", "Write it as PNG.")
        inside = cv2.resize(grey, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > grey.max() / 2
        map_[inside] = np.maximum(map_[inside], region.prominence)
        known[inside] = 1
    return map_, known


def learned_note(reward: str | None, benchmark: str, split: str | None) -> list[str]:
    """That a reward model, a run, learned from opinions of this benchmark, where these are measured as well."""
    run = run_of(folder_of(reward)) if reward else None
    facts: dict[str, Any] = directory.read(run)["facts"].get("people", {}) if run else {}
    names = {Path(source).name.lower() for source in facts.get("sources", ())}
    if Path(benchmark).name.lower() not in names or (split in ("validation", "test") and facts["part"] == "train"):
        return []
    parts = f"the part {facts['part']} of its scenes" if facts["part"] != "all" else "all of its scenes"
    return [
        f"{reward} learned from people's labels of {benchmark}, {parts}: --split test measures it on scenes that it did not see"
    ]


def with_people(
    main: Iterator[Any], labels: PeopleLabels, base: Callable[[torch.Tensor], torch.Tensor], recipe: RewardRecipe,
    accelerator: Any, out: Path, steps: int, done: int,
) -> Iterator[Any]:  # fmt: skip
    """The batches `main` of a phase, from step `done` on, with one of images that people labelled beside each; people.json in the
    run's folder `out` says what the labels are and how they are linked."""
    links = labels.linked(base, accelerator.device)
    if accelerator.is_main_process:
        knots = {labels.sources[number].partition("=")[0]: [knot.tolist() for knot in link] for number, link in links.items()}
        atomic.write_json(out / "people.json", labels.facts | {"opinion_to_base": knots})
    crops = PeopleCrops(labels, links, recipe.people.crop)
    part = (accelerator.process_index, accelerator.num_processes)
    draws = Draws(len(crops), recipe.people.batch, recipe.seed * 1000 + 700, steps, done, recipe.training.accumulate, part)
    return (batch | labelled for batch, labelled in zip(main, loader(crops, draws, recipe.data.workers), strict=False))
