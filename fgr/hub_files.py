"""Files on the Hugging Face Hub: names, cache, fetching, and why a file is not available."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
