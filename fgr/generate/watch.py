"""Stopping a run whose SR models give values that are no image."""

from collections import Counter
from collections.abc import Callable

from fgr.errors import UserError

NOT_FINITE = "not_finite"  # reason of a drop, followed by the model


def not_finite(model: str) -> str:
    """The reason of a drop: the model gave NaN or infinity."""
    return f"{NOT_FINITE}:{model}"


class Watch:
    """Passes counts on to `tick`, and stops the run once more than `share` of `total` samples are dropped as not finite."""

    def __init__(self, tick: Callable[[int, dict[str, int]], None], total: int, share: float) -> None:
        self._tick, self._total, self._share = tick, total, share
        self._dropped: Counter[str] = Counter()

    def __call__(self, count: int, drops: dict[str, int]) -> None:
        """Count finished samples and drops by reason. UserError above the limit."""
        self._tick(count, drops)
        self._dropped.update({reason: number for reason, number in drops.items() if reason.startswith(NOT_FINITE)})
        if self._dropped.total() > self._share * self._total:
            by_model = ", ".join(
                f"{reason.removeprefix(f'{NOT_FINITE}:')} {number}" for reason, number in sorted(self._dropped.items())
            )
            raise UserError(
                f"Too many images with values that are not finite (NaN or infinity), by SR model: {by_model}.",
                "Run that model with inference.precision=fp32, check its weights, or leave it out; "
                f"not_finite={self._share:g} is the share of samples that may be dropped for it.",
            )
