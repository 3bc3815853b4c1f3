"""Connects a campaign's projects to our ML backend for as long as it runs, by the SDK's client."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fgr.annotate import campaign as campaigns
from fgr.annotate.campaign import Campaign
from fgr.annotate.client import Refused
from fgr.annotate.studio import Studio
from fgr.errors import UserError, notice

if TYPE_CHECKING:
    from label_studio_sdk.types.ml_backend import MlBackend

TITLE = "fgr"  # of our entry among a project's backends
APART = "Or serve without connecting: --no-connect"


def chosen(directory: Path, name: str | None) -> Campaign:
    """The campaign `name`, or the only one that was pushed from the dataset. UserError if it has nothing to paint."""
    if name is not None:
        campaign = campaigns.expect(directory, name)
    else:
        known = [one for one in campaigns.known(directory) if _painted(one)]
        if not known:
            raise UserError(
                f"No project to connect to was pushed from {directory}.", f"Start with: fgr annotate push {directory}. {APART}"
            )
        if len(known) > 1:
            names = ", ".join(one.name for one in known)
            raise UserError(f"Several projects were pushed from {directory}: {names}.", "Name one: --project NAME")
        campaign = known[0]
    if not _painted(campaign):
        raise UserError(f"People compare images in '{campaign.name}': there is nothing to paint.", "Name another: --project NAME")
    return campaign


def unpainted(directory: Path, campaign: Campaign | None) -> set[str]:
    """Keys that are shown without anything painted: gold and cold samples of the campaign, or of all where it is None."""
    every = campaigns.known(directory) if campaign is None else [campaign]
    return {entry.key for one in every for entry in one.entries if entry.gold or entry.cold}


def _painted(campaign: Campaign) -> bool:
    return campaign.recipe.get("interface") != "preference"


@contextmanager
def connected(studio: Studio, campaign: Campaign, address: str) -> Iterator[dict[str, str]]:
    """Within, people who open a task of the campaign see what the backend at `address` paints; the projects' pages by title.

    An entry that an earlier run left is taken over. On leaving, the entries go and people see again what they saw before.
    UserError if a project is gone or the server does not connect.
    """
    pages = {}
    with ExitStack() as stack:
        for title in campaign.projects.values():
            project = studio.project(title)
            if project is None:
                raise UserError(
                    f"Label Studio at {studio.url} has no project '{title}'.", f"Push it again: fgr annotate push. {APART}"
                )
            pages[title] = f"{studio.url}/projects/{project['id']}"
            before = project.get("model_version") or ""
            stack.callback(_disconnect, studio, project["id"], address, _pushed(campaign) if before == TITLE else before)
            _connect(studio, project["id"], address)
        yield pages


def _pushed(campaign: Campaign) -> str:
    """The version under which what was painted beforehand was pushed; empty where nothing was."""
    source = str((campaign.recipe.get("prediction") or {}).get("source") or "none")
    return "" if source == "none" else source


def _connect(studio: Studio, project: int, address: str) -> None:
    try:
        studio.asked(partial(_enter, studio, project, address))
    except Refused as refusal:
        if refusal.status not in (400, 403):
            raise
        raise _unreached(studio.url, address, refusal.status) from None
    studio.asked(partial(_show, studio, project, TITLE))
    studio.asked(partial(_remove_webhook, studio, project, address))


def _enter(studio: Studio, project: int, address: str) -> None:
    """Our entry, made or brought to `address`. May be repeated: what a lost answer had made is found."""
    from label_studio_sdk.ml.client import MlClient

    backends = MlClient(client_wrapper=studio.sdk)
    ours = _ours(studio, project)
    for one in ours[1:]:
        backends.delete(_id(one))
    if ours:
        backends.update(_id(ours[0]), project=project, url=address, title=TITLE, is_interactive=False)
    else:
        backends.create(project=project, url=address, title=TITLE, is_interactive=False, description="fgr annotate ml-backend")


def _ours(studio: Studio, project: int) -> "list[MlBackend]":
    from label_studio_sdk.ml.client import MlClient

    return [one for one in MlClient(client_wrapper=studio.sdk).list(project=project) if one.title == TITLE]


def _id(backend: "MlBackend") -> int:
    if backend.id is None:
        raise ValueError("a backend without an id")
    return backend.id


def _show(studio: Studio, project: int, version: str) -> None:
    """Let people see the predictions of that version."""
    from label_studio_sdk.projects.client import ProjectsClient

    ProjectsClient(client_wrapper=studio.sdk).update(project, model_version=version)


def _remove_webhook(studio: Studio, project: int, address: str) -> None:
    """The server adds a webhook with each backend, and would send us all work of people as they submit it."""
    from label_studio_sdk.webhooks.client import WebhooksClient

    webhooks = WebhooksClient(client_wrapper=studio.sdk)
    for one in webhooks.list(project=str(project)):
        if one.url == f"{address}/webhook" and one.id is not None:
            webhooks.delete(one.id)


def _disconnect(studio: Studio, project: int, address: str, before: str) -> None:
    """Remove our entry unless another run took it over; a server that is gone is waited for only shortly."""
    studio.attempts = 1
    try:
        if studio.asked(partial(_leave, studio, project, address)) and before:
            studio.asked(partial(_show, studio, project, before))
    except UserError as error:
        notice(f"could not disconnect from {studio.url}/projects/{project}: {error.message} See Settings → Model there.")


def _leave(studio: Studio, project: int, address: str) -> bool:
    from label_studio_sdk.ml.client import MlClient

    ours = [one for one in _ours(studio, project) if one.url == address]
    for one in ours:
        MlClient(client_wrapper=studio.sdk).delete(_id(one))
    return bool(ours)


def _unreached(url: str, address: str, status: int) -> UserError:
    """The sentence for a server that does not take the backend's address."""
    if status == 403:
        return UserError(
            f"Label Studio at {url} does not permit a backend at {address}: it forbids addresses of its own machine and of "
            "private networks (protection against SSRF), or the token's user may not change the project.",
            "`fgr annotate serve` permits them. Otherwise start that server with LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false and "
            f"LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false, or give an address that it permits: --address URL. {APART}",
        )
    return UserError(
        f"Label Studio at {url} does not reach the backend at {address}, which listens on this machine alone.",
        "Is the server on another machine or in a container? Then forward a port from there to here, and name it as seen from "
        f"there: --address URL. {APART}",
    )
