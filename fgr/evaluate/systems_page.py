"""What the page of SR systems shows of images: each one's outputs and maps beside the reference."""

from collections.abc import Sequence
from typing import Any

from fgr.evaluate import evaluation_page, page_images
from fgr.evaluate.systems import System
from fgr.evaluate.testset import TestSet
from fgr.metrics.registry import Metric
from fgr.report.swipe import Picture
from fgr.reward.score import score


def images(
    records: Sequence[dict[str, Any]],
    systems: Sequence[System],
    tests: TestSet,
    metrics: Sequence[Metric],
    reward: Any,
    limit: int,
) -> evaluation_page.Images:
    """Where the reward's score and the first full-reference figure disagree most comes first; without a reward, the worst.

    The outputs of the `limit` images with pictures are made again.
    """
    items = {item.name: item for item in tests.items}
    paired = next((metric for metric in metrics if metric.needs_reference), None)
    first = metrics[0] if metrics else None
    scorer = "score" if reward is not None else first.name if first else ""
    against = paired.name if reward is not None and paired is not None else ""
    signs = tuple(-1 if one is not None and one.lower_is_better else 1 for one in (None if reward is not None else first, paired))

    def pictures(name: str, rows: Sequence[dict[str, Any]]) -> list[Picture]:
        item, by_system = items[name], {row["system"]: row for row in rows}
        shown = [page_images.picture("reference", item.reference())] if item.reference else []
        for system in systems:
            output = system.restore(item)
            figures = {key: by_system[system.name][key] for key in dict.fromkeys((scorer, against)) if key}
            map_ = score(reward, output)[1] if reward is not None else None
            shown.append(page_images.picture(system.name, output, map_, **figures))
        return shown

    return page_images.of_rows(
        list(records), scorer, against, "system", "image", "system", pictures, limit, better=(signs[0], signs[1])
    )
