"""Licences of weights: may their outputs train other models, and may they be redistributed?"""

from collections.abc import Sequence
from dataclasses import dataclass

from fgr.errors import UserError

AND = " AND "  # joins the licences of a model whose weights have several


@dataclass(frozen=True, slots=True)
class Terms:
    """True: for any purpose. False: not, or for non-commercial purposes only. None: the licence does not say, or is not known."""

    train_on_outputs: bool | None
    redistribute: bool | None
    limit: str = ""  # what a False means, in words


NONCOMMERCIAL = "allows non-commercial use only"

LICENSES: dict[str, Terms] = {
    "none": Terms(True, True),  # no weights at all
    "Apache-2.0": Terms(True, True),
    "BSD-3-Clause": Terms(True, True),
    "MIT": Terms(True, True),
    "CreativeML-OpenRAIL-M": Terms(True, True),  # no claim on outputs; its list of forbidden uses goes with the weights
    "CreativeML-OpenRAIL++-M": Terms(True, True),
    "S-Lab-1.0": Terms(False, False, NONCOMMERCIAL),
    "CC-BY-NC-4.0": Terms(False, False, NONCOMMERCIAL),
    "CC-BY-NC-SA-4.0": Terms(False, False, NONCOMMERCIAL),
    "PolyForm-Noncommercial-1.0.0": Terms(False, False, NONCOMMERCIAL),
    "unknown": Terms(None, None),
}


def terms(license: str) -> Terms:
    """The terms of a licence, or the strictest of those that `A AND B` names; a licence not in the table says nothing."""
    parts = [LICENSES.get(name, LICENSES["unknown"]) for name in license.split(AND)]
    limits = list(dict.fromkeys(part.limit for part in parts if part.limit))
    return Terms(
        _strictest([part.train_on_outputs for part in parts]),
        _strictest([part.redistribute for part in parts]),
        " and ".join(limits),
    )


def expect_accepted(licenses: dict[str, str], accepted: Sequence[str]) -> None:
    """UserError unless every model of `licenses` (name without settings → licence) that limits the samples is in `accepted`."""
    refused = [
        (name, license, found.limit)
        for name, license in licenses.items()
        if False in ((found := terms(license)).train_on_outputs, found.redistribute) and name not in accepted
    ]
    if refused:
        lines = [
            f"The SR model '{name}' is under {license}, which {limit}: so would be its samples."
            for name, license, limit in refused
        ]
        names = ", ".join(name for name, _, _ in refused)
        raise UserError(
            "\n".join(lines),
            f"If that suits you, say so in the recipe (accept_license: [{names}]) or on the command line "
            f"(accept_license='[{names}]'); otherwise choose models that `fgr models` lists without such a limit.",
        )


def _strictest(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True
