"""Which splits of a dataset a run tunes on, audits and reports on."""

from typing import NamedTuple

from fgr.dataset.location import has_split
from fgr.errors import UserError, notice
from fgr.recipe.rlhf import RlhfRecipe


class SplitChoice(NamedTuple):
    """A dataset's splits by name: what is tuned on (and units and natural images are taken from), audited and reported on."""

    trained: str
    audited: str
    reported: str


def choose_splits(recipe: RlhfRecipe, data: str, is_dataset: bool, given: bool) -> SplitChoice:
    """The splits by the recipe: reported on is the audited one where the data has no other. Where the network is `given`, what a
    dataset lacks is that one too. UserError: it is trained on, or a given network has none to be audited on."""
    trained, audited, reported = recipe.data.split, recipe.audit.split, recipe.audit.test_split
    if reported == trained:
        raise UserError(
            f"audit.test_split is '{reported}', which the policy is tuned on.", "Name a split that is not trained on."
        )
    if not is_dataset:
        return SplitChoice(trained, audited, audited)
    if not has_split(data, reported):
        if given and not has_split(data, audited):
            raise UserError(
                f"The dataset {data} has neither a split '{reported}' (audit.test_split) nor '{audited}' (audit.split): there is "
                "nothing to audit the network on.",
                "Name a split that it has and that the network was not tuned on: audit.test_split=NAME.",
            )
        reported = audited
    if given:
        trained, audited = (name if has_split(data, name) else reported for name in (trained, audited))
    if trained != recipe.data.split:
        notice(f"{data} has no split '{recipe.data.split}': natural images and the reward's units are those of '{reported}'")
    return SplitChoice(trained, audited, reported)
