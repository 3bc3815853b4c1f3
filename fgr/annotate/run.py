"""`fgr annotate`, command by command, from a recipe and a dataset directory."""

import getpass
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr import recipe as recipes
from fgr.annotate import campaign as campaigns
from fgr.annotate import pull as pulls
from fgr.annotate import push as pushes
from fgr.annotate import status as statuses
from fgr.annotate.campaign import Campaign
from fgr.annotate.client import TOKENS
from fgr.annotate.consensus_table import write_consensus
from fgr.annotate.push import Predict
from fgr.annotate.reader import Tally
from fgr.annotate.selection import new_entries
from fgr.annotate.serve import local_token
from fgr.annotate.studio import Studio
from fgr.errors import UserError
from fgr.recipe.annotate import AnnotateRecipe

VARIABLE = "LABEL_STUDIO_API_KEY"
FREE = ("select", "consensus")  # parts of the recipe that may change between pushes


def token(url: str) -> str:
    """The token for the Label Studio server at `url`: from the environment, of the local server that runs there, or from a prompt
    without echo. UserError if it is given in none of these ways."""
    given = os.environ.get(VARIABLE, "").strip() or local_token(url)
    if not given and sys.stdin.isatty():
        given = getpass.getpass("Label Studio token: ").strip()
    if not given:
        raise UserError(
            f"No Label Studio token was given: {VARIABLE} is not set, and no `fgr annotate serve` runs at {url}.", TOKENS
        )
    return given


def url_of(directory: Path, name: str) -> str:
    """The server that a campaign was pushed to. UserError if it was not."""
    return campaigns.expect(directory, name).url


def links(campaign: Campaign, key: str) -> dict[str, str]:
    """The pages of a campaign's projects on the server, by their titles."""
    with Studio(campaign.url, key) as studio:
        found = {title: studio.project(title) for title in campaign.projects.values()}
    return {title: f"{campaign.url}/projects/{project['id']}" for title, project in found.items() if project}


def push(
    recipe: AnnotateRecipe, directory: Path, url: str, key: str, folder: Path | None = None, predict: Predict | None = None
) -> tuple[Campaign, int]:
    """Make or find the project(s) and add the tasks that are missing; the campaign and the number added.

    `folder` is what the server serves files from (images: folder). `predict` is a reward model's forward.
    """
    if (recipe.images == "folder") != (folder is not None):
        raise UserError("Images are served from a folder only with both images=folder and --files.", "Give both or neither.")
    if recipe.prediction.source == "reward" and predict is None:
        raise UserError("prediction.source=reward needs a reward model.", "Name it with --reward.")
    with _alone(directory):
        campaign = extended(recipe, directory, url, predict)
        with Studio(url, key) as studio:
            studio.me()
            campaigns.save(directory, campaign)  # not before: a mistaken address or token must not bind the campaign to it
            return campaign, pushes.push(studio, directory, campaign, recipe, folder, predict)


def extended(recipe: AnnotateRecipe, directory: Path, url: str, predict: Predict | None) -> Campaign:
    """The campaign as pushed before, with what the recipe's selection adds. UserError for another recipe or server."""
    campaign, url, resolved = campaigns.load(directory, recipe.name), url.rstrip("/"), recipes.resolved(recipe)
    if campaign is None:
        titles = {name: f"{recipe.name} · {name}" for name in recipe.annotators} or {"": recipe.name}
        campaign = Campaign(recipe.name, url, resolved, titles)
    old, new = ({name: value for name, value in tree.items() if name not in FREE} for tree in (campaign.recipe, resolved))
    changed = recipes.differences(old, new)
    if campaign.url != url:
        changed.append(f"url: {campaign.url} there, {url} here")
    if changed:
        raise UserError(
            f"The project '{recipe.name}' was pushed with another recipe: {'; '.join(changed)}.",
            "Use the same values, or name another project: --project NAME",
        )
    return replace(campaign, recipe=resolved, entries=campaign.entries + new_entries(recipe, directory, campaign, predict))


def pull(directory: Path, name: str, key: str, everything: bool = False) -> Tally:
    """Bring people's work into `annotations` or `preferences`; changes since the last pull alone unless `everything`."""
    campaigns.expect(directory, name)
    with _alone(directory):
        campaign = campaigns.expect(directory, name)
        with Studio(campaign.url, key) as studio:
            tally, campaign = pulls.pull(studio, directory, campaign, everything)
        campaigns.save(directory, campaign)
    return tally


def status(directory: Path, name: str, key: str) -> dict[str, Any]:
    """How far the people are, as JSON values."""
    campaign = campaigns.expect(directory, name)
    with Studio(campaign.url, key) as studio:
        return statuses.status(studio, directory, campaign)


def consensus(recipe: AnnotateRecipe, directory: Path) -> dict[str, Any]:
    """Write `consensus` from all annotations and preferences; the report on the raters."""
    gold = {key: kind for campaign in campaigns.known(directory) for key, kind in campaign.gold.items()}
    return write_consensus(directory, gold, recipe.consensus)


def read_export(directory: Path, name: str, file: Path) -> Tally:
    """Bring a JSON or JSON-MIN export made by hand into `annotations` or `preferences`."""
    campaign = campaigns.load(directory, name) or Campaign(name, "", {}, {"": name})
    with _alone(directory):
        return pulls.from_file(directory, campaign, file)


def _alone(directory: Path) -> AbstractContextManager[None]:
    """Within, no other process pushes from the dataset or writes its tables."""
    return atomic.alone(directory, f"the annotations of {directory}", "annotating")
