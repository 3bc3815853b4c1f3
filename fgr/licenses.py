"""Licences: may outputs train models, may outputs and changed weights be shared, the Hub's ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgr.errors import UserError

AND = " AND "  # joins the licences of a model whose weights have several
NONCOMMERCIAL = "allows non-commercial use only"
UNCHANGED = "forbids sharing what is made of it"
NONCOMMERCIAL_SIGNS = ("-nc-", "noncommercial", "non-commercial", "s-lab")  # in the ids of licences that the table lacks


@dataclass(frozen=True, slots=True)
class LicenseTerms:
    """True: for any purpose. False: not, or for non-commercial purposes only. None: the licence does not say, or is not known."""

    train_on_outputs: bool | None = None
    redistribute: bool | None = None  # outputs
    share_weights: bool | None = None  # changed ones, without conditions of their own
    hub_id: str = ""  # as a card on the Hub names the licence, if it has a name there
    limit: str = ""  # what a False means, in words


LICENSES: dict[str, LicenseTerms] = {
    "none": LicenseTerms(True, True, True),  # no weights at all
    "public domain": LicenseTerms(True, True, True),
    "Apache-2.0": LicenseTerms(True, True, True, "apache-2.0"),
    "BSD-2-Clause": LicenseTerms(True, True, True),
    "BSD-3-Clause": LicenseTerms(True, True, True, "bsd-3-clause"),
    "MIT": LicenseTerms(True, True, True, "mit"),
    "Unlicense": LicenseTerms(True, True, True, "unlicense"),
    "CC0-1.0": LicenseTerms(True, True, True, "cc0-1.0"),
    "CC-BY-2.0": LicenseTerms(True, True, True, "cc-by-2.0"),
    "CC-BY-4.0": LicenseTerms(True, True, True, "cc-by-4.0"),
    "CC-BY-SA-4.0": LicenseTerms(hub_id="cc-by-sa-4.0"),
    "CreativeML-OpenRAIL-M": LicenseTerms(True, True),  # no claim on outputs; its list of forbidden uses goes with the weights
    "CreativeML-OpenRAIL++-M": LicenseTerms(True, True),
    "S-Lab-1.0": LicenseTerms(False, False, False, limit=NONCOMMERCIAL),
    "Stability-AI-NC-Research-Community": LicenseTerms(False, False, False, limit=NONCOMMERCIAL),  # of SD-Turbo
    "CC-BY-NC-4.0": LicenseTerms(False, False, False, "cc-by-nc-4.0", NONCOMMERCIAL),
    "CC-BY-NC-SA-4.0": LicenseTerms(False, False, False, "cc-by-nc-sa-4.0", NONCOMMERCIAL),
    "CC-BY-ND-4.0": LicenseTerms(False, False, False, limit=UNCHANGED),
    "CC-BY-NC-ND-4.0": LicenseTerms(False, False, False, limit=f"{NONCOMMERCIAL} and {UNCHANGED}"),
    "PolyForm-Noncommercial-1.0.0": LicenseTerms(False, False, False, limit=NONCOMMERCIAL),
    "unknown": LicenseTerms(),
}
BY_LOWER_CASE = {name.lower(): found for name, found in LICENSES.items()}  # ids are written in both ways


def terms_of(license: str) -> LicenseTerms:
    """The terms of a licence, or the strictest of those that `A AND B` names; a licence that is not known says nothing."""
    parts = [_single(name) for name in license.split(AND)]
    return LicenseTerms(
        _strictest([part.train_on_outputs for part in parts]),
        _strictest([part.redistribute for part in parts]),
        _strictest([part.share_weights for part in parts]),
        parts[0].hub_id if len(parts) == 1 else "",
        " and ".join(dict.fromkeys(part.limit for part in parts if part.limit)),
    )


def is_noncommercial(license: str) -> bool:
    """Whether it is a licence for non-commercial use only."""
    return NONCOMMERCIAL in terms_of(license).limit


def hub_license(license: str) -> str:
    """The licence as the Hub calls it; "other" where it has no name there."""
    return terms_of(license).hub_id or "other"


def expect_accepted(licenses: Mapping[str, str], accepted: Sequence[str]) -> None:
    """UserError unless every model of `licenses` (name without settings → licence) that limits the samples is in `accepted`."""
    refused = [
        (name, license, found.limit)
        for name, license in licenses.items()
        if False in ((found := terms_of(license)).train_on_outputs, found.redistribute) and name not in accepted
    ]
    if refused:
        lines = [
            f"The SR model '{name}' is under {license}, which {limit}: so would be its samples."
            for name, license, limit in refused
        ]
        names = ", ".join(name for name, _, _ in refused)
        raise UserError(
            lines[0] if len(lines) == 1 else f"{len(lines)} SR models limit what may be done with their samples:",
            f"If you accept that, say so in the recipe (accept_license: [{names}]) or on the command line "
            f"(accept_license='[{names}]'); otherwise choose models that `fgr models` lists without such a limit.",
            lines if len(lines) > 1 else (),
        )


def _single(license: str) -> LicenseTerms:
    name = license.strip().lower()
    if name not in BY_LOWER_CASE and any(sign in f"-{name}-" for sign in NONCOMMERCIAL_SIGNS):
        return LicenseTerms(False, False, False, limit=NONCOMMERCIAL)
    return BY_LOWER_CASE.get(name, LicenseTerms())


def _strictest(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True
