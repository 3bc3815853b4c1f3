"""Pairs that DPO learns from: for one low-resolution input, an image that is preferred and one that is not."""

import json
from typing import Any

from fgr.errors import UserError
from fgr.images import codec, degrade
from fgr.rlhf.inputs import EXTERNAL, Pair, digest_of

Choice = tuple[tuple[int, str], tuple[int, str]]  # row and column of the winner, and of the loser
WHOLE = ("full", "sham")  # mask kinds whose composite is the SR image, or as good as the reference


class Ranked:
    """Pairs of a dataset's split by index, each (input, winner, loser).

    `kind` is `triplets`: reference before composite before SR image, of every row; or `preferences`: composites that people chose
    between, where both were made of one input. UserError: another scale, or no pair.
    """

    def __init__(self, kind: str, data: str, split: str, scale: int) -> None:
        from fgr.reward import splits

        self.rows = splits.open_split(data, split)
        if set(self.rows["scale"]) != {scale}:
            raise UserError(f"The dataset {data} is not of scale ×{scale}.", "Name a generator and a dataset of one scale.")
        self._pairs = {"triplets": _triplets, "preferences": _preferences}[kind](self.rows, data)
        if not self._pairs:
            raise UserError(
                f"The split '{split}' of {data} has no pairs of the kind {kind}.",
                "Preferences count where both images were made of one input; algorithm.pairs=triplets takes the dataset's own.",
            )
        self.side = splits.size_of(self.rows)[0]
        names = self.rows["id"]
        self.digest = digest_of([f"{names[a]} {x} {names[b]} {y}" for (a, x), (b, y) in self._pairs])

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        winner, loser = self._pairs[index]
        row = self.rows[winner[0]]
        low = degrade.apply(codec.decode_rgb(row["reference"]["bytes"]), json.loads(row["degradation"]))
        return low, *(codec.decode_rgb(self.rows[place][column]["bytes"]) for place, column in (winner, loser))


def _triplets(rows: Any, data: str) -> list[Choice]:
    found: list[Choice] = []
    for index, (kind, record) in enumerate(zip(rows["mask_kind"], rows["degradation"], strict=True)):
        if json.loads(record)["preset"] == EXTERNAL:
            continue
        found.append(((index, "reference"), (index, "sr")))
        if kind not in WHOLE:
            found += [((index, "reference"), (index, "composite")), ((index, "composite"), (index, "sr"))]
    return found


def _preferences(rows: Any, data: str) -> list[Choice]:
    from fgr.reward import splits

    inputs = list(zip(rows["source_id"], rows["degradation"], strict=True))
    chosen = [pair for pair in splits.open_preferences(data, rows) if inputs[pair[0]] == inputs[pair[1]] and pair[2] != 0.5]
    ordered = [(left, right) if choice == 1.0 else (right, left) for left, right, choice in chosen]
    return [((winner, "composite"), (loser, "composite")) for winner, loser in ordered]
