"""Whether the licences of SR models allow what was made with them to be published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgr.errors import UserError
from fgr.licenses import NONCOMMERCIAL, is_noncommercial, terms_of
from fgr.publish.package import Consent


@dataclass(frozen=True, slots=True)
class UsedModel:
    """An SR model that something was made with, and whether that may be passed on for any purpose; None: not known."""

    name: str
    license: str
    may: bool | None

    def __str__(self) -> str:
        return f"{self.name} ({self.license})"

    @property
    def noncommercial(self) -> bool:
        """Whether it may be passed on for non-commercial use, and only so."""
        return self.may is False and is_noncommercial(self.license) and terms_of(self.license).limit == NONCOMMERCIAL


def maker_of_images(entry: Mapping[str, Any]) -> UsedModel:
    """A model of a dataset's `fgr.json`: its images may be passed on as the entry says, else by its licence."""
    license = str(entry.get("license", "unknown"))
    stated = entry.get("redistribute")
    return UsedModel(str(entry.get("name")), license, stated if isinstance(stated, bool) else terms_of(license).redistribute)


def tuned_from(name: str, license: str) -> UsedModel:
    """A model whose weights were changed."""
    return UsedModel(name, license, terms_of(license).share_weights)


def expect_shareable(models: Sequence[UsedModel], what: str, consent: Consent) -> list[str]:
    """Warnings about the SR models' licences.

    UserError where one forbids passing `what` on; where one allows it for non-commercial use alone and that is not agreed to; and
    where nothing is known of one, `what` would be public, and nobody vouches for it.
    """
    for_some = [model for model in models if model.noncommercial]
    barred = [model for model in models if model.may is False and not model.noncommercial]
    if barred:
        raise UserError(f"The licence of {_listed(barred)} forbids passing on {what}.", "Make it again without: models=[…].")
    if for_some and not consent.non_commercial:
        raise UserError(
            f"The licence of {_listed(for_some)} allows passing on {what} for non-commercial use only.",
            "If you publish it for such use, add --non-commercial, which the card will state too. "
            "Otherwise make it again without them.",
        )
    unknown = [model for model in models if model.may is None]
    if unknown and consent.public and not consent.vouched:
        raise UserError(
            f"The licence of {_listed(unknown)} does not say whether {what} may be passed on, and they would be public.",
            "If you have the right to publish them, add --vouch.",
        )
    return [f"The licence of {model} does not say whether {what} may be passed on: see that you may." for model in unknown]


def _listed(models: Sequence[UsedModel]) -> str:
    return ", ".join(map(str, models))
