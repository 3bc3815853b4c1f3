"""Whether a dataset or a tuned model may be redistributed, by the licences of its SR models. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from fgr.errors import UserError

# By licence id, where an entry does not say `redistribute` itself: may outputs and changed weights be passed on for any purpose?
FREE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "unlicense", "public domain", "none"}
BARRED = {"cc-by-nd-4.0", "cc-by-nc-nd-4.0"}
NON_COMMERCIAL = ("-nc-", "noncommercial", "non-commercial", "s-lab")


def may_redistribute(model: Mapping[str, Any]) -> bool | None:
    """True or false (not at all, or for non-commercial use only) as the entry says, else by its licence; None: not known."""
    said = model.get("redistribute")
    if isinstance(said, bool):
        return said
    license = _license(model)
    return True if license in FREE else False if license in BARRED or is_non_commercial(license) else None


def is_non_commercial(license: str) -> bool:
    """Whether the id is one of a licence for non-commercial use only."""
    text = f"-{license.strip().lower()}-"
    return any(sign in text for sign in NON_COMMERCIAL)


def check(models: Sequence[Mapping[str, Any]], what: str, *, public: bool, vouched: bool, non_commercial: bool) -> list[str]:
    """Warnings about the SR models' terms.

    UserError where one forbids passing `what` on; where one allows it for `non_commercial` use alone and that is not said; and
    where nothing is known of one, `what` would be public, and nobody vouches for it.
    """
    limited = [one for one in models if may_redistribute(one) is False]
    for_some = [one for one in limited if is_non_commercial(_license(one)) and _license(one) not in BARRED]
    barred = [one for one in limited if one not in for_some]
    if barred:
        raise UserError(f"The licence of {_names(barred)} forbids passing on {what}.", "Make it again without: models=[…].")
    if for_some and not non_commercial:
        raise UserError(
            f"The licence of {_names(for_some)} allows passing on {what} for non-commercial use only.",
            "If that is how you publish it, say --non-commercial: the card will say so too. Else make it again without.",
        )
    unknown = [one for one in models if may_redistribute(one) is None]
    if unknown and public and not vouched:
        raise UserError(
            f"The licence of {_names(unknown)} does not say whether {what} may be passed on, and they would be public.",
            "If you have the right to publish them, say so with --vouch.",
        )
    return [f"The licence of {_names([one])} does not say whether {what} may be passed on: see that you may." for one in unknown]


def _license(model: Mapping[str, Any]) -> str:
    return str(model.get("license", "unknown")).strip().lower()


def _names(models: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} ({one.get('license', 'unknown')})" for one in models)
