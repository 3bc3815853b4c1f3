"""Files on the Hugging Face Hub: names, cache, fetching, and why a file is not available."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fgr.errors import UserError, nearest, notice

PATIENCE = 10.0  # seconds that the Hub has to say whether it has a repository
TRIES = 5  # of a request that fails while a dataset is read, some seconds apart
RETRYING = ("Retrying in", "thrown while requesting")  # what the Hub's clients say of each try
GATED, GONE, OFFLINE, UNREACHABLE = "gated", "gone", "offline", "unreachable"


class Unavailable(Exception):
    """A file that is not available. `state` is gated, gone, offline or unreachable; the text says why."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


def is_hub_id(text: str) -> bool:
    """Whether `text` is written as a repository on the Hub, ORG/NAME, as the Hub allows names.

    Whether something on the disk has that name and goes first is for callers to ask.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    with contextlib.suppress(HFValidationError):
        validate_repo_id(text)
        return text.count("/") == 1 and text.isascii()
    return False


def folder_or_hub(text: str, what: str, kind: Literal["dataset", "model"], hint: str, asking: bool = True) -> Path | None:
    """The folder on this machine that `text` names; None where it names a repository of the Hub, which was asked for it once.

    Without `asking` what is written as a repository counts as one.

    Folders go first: nothing below a folder that is here is looked for on the Hub. UserError, with `hint`, if there is no such
    `what` in either place, or the Hub neither answers within PATIENCE nor was read before.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{text} is a file, not the folder of a {what}.", hint)
    if not is_hub_id(text) or folder.parent.is_dir():
        raise UserError(f"The {what} {text} does not exist: there is no such folder{_alike(folder) or '.'}", hint)
    if not asking:
        return None
    if kind == "dataset":
        _limit_tries()
    try:
        _ask_repository(text, kind)
    except Unavailable as error:
        if error.state in (OFFLINE, UNREACHABLE) and _is_cached(text, kind):
            return None
        why = f"the Hub cannot be asked: {error}" if error.state == UNREACHABLE else error
        raise UserError(f"The {what} {text} cannot be opened: there is no such folder here, and {why}.", hint) from None
    return None


def _alike(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return nearest(str(folder), [str(one) for one in folder.parent.iterdir() if one.is_dir()])
    return ""


def _ask_repository(repository: str, kind: Literal["dataset", "model"]) -> None:
    """Nothing if the Hub has the repository. Unavailable; it is asked once."""
    from huggingface_hub import HfApi, errors

    def asked() -> None:
        try:
            HfApi().repo_info(repository, repo_type=kind, timeout=PATIENCE)
        except errors.HfHubHTTPError:
            raise
        except Exception as error:  # of the client's own client, whose name depends on the version
            raise Unavailable(UNREACHABLE, first_line(error)) from None

    _tried(repository, asked)


def _is_cached(repository: str, kind: str) -> bool:
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}").is_dir()


def _quieten_retries() -> None:
    """From now on the first retry of a request to the Hub is told in a line, and no other."""
    for name in ("huggingface_hub.utils._http", "datasets.utils.file_utils"):
        logging.getLogger(name).addFilter(FIRST_RETRY)  # once only: it is the same filter


def _limit_tries() -> None:
    """From now on reading a dataset from the Hub gives up earlier."""
    import datasets

    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = TRIES


class _FirstRetry(logging.Filter):
    """Lets no message about a retry through, and prints a line of its own in place of the first."""

    told = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(part in record.getMessage() for part in RETRYING):
            return True
        if not self.told:
            self.told = True
            notice("the Hub does not answer; trying again, for two minutes at most.")
        return False


FIRST_RETRY = _FirstRetry()


def hub_file(text: str) -> tuple[str, str] | None:
    """The repository and the path in it where `text` is written as ORG/NAME/PATH, a file on the Hub; None where it is not."""
    *place, path = (*text.split("/", 2), "", "")[:3]
    repository = "/".join(place)
    return (repository, path) if path and is_hub_id(repository) else None


def offline() -> bool:
    """Whether the user forbids the network: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def page(repository: str) -> str:
    """The repository's page, where licences are accepted."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


def cached(repository: str, path: str) -> Path | None:
    """A file of a repository that the Hub's cache holds."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, path)
    return Path(found) if isinstance(found, str) else None


def fetch(repository: str, path: str, folder: Path | None = None) -> Path:
    """Download a file, going on where an earlier try broke off, into the Hub's cache or into `folder`. Unavailable; OSError."""
    from huggingface_hub import hf_hub_download

    return Path(_tried(repository, lambda: hf_hub_download(repository, path, local_dir=folder)))


def ask(repository: str, path: str) -> None:
    """Nothing if a file could be fetched. Unavailable."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    _tried(repository, lambda: get_hf_file_metadata(hf_hub_url(repository, path)))


def _tried(repository: str, call: Callable[[], Any]) -> Any:
    from huggingface_hub import errors

    if offline():
        raise Unavailable(OFFLINE, "HF_HUB_OFFLINE forbids the network")
    _quieten_retries()
    try:
        return call()
    except errors.GatedRepoError:
        raise Unavailable(GATED, f"its licence has to be accepted first, at {page(repository)}") from None
    except errors.DisabledRepoError:
        raise Unavailable(GONE, f"the Hub has closed {repository}") from None
    except errors.RepositoryNotFoundError:
        raise Unavailable(GONE, f"the Hub has no {repository}, or hides it from you") from None
    except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError):
        raise Unavailable(GONE, f"{repository} no longer has this file") from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, errors.XetDownloadError, ConnectionError) as error:
        raise Unavailable(UNREACHABLE, first_line(error.__cause__ or error)) from None


def first_line(error: BaseException) -> str:
    """The beginning of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
