"""Uploads to the Hugging Face Hub, with a sentence for everything that can go wrong there.

The only file of this package that uses the network.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from fgr.errors import UserError
from fgr.hub_files import is_hub_id

Kind = Literal["dataset", "model"]
LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


def check_name(name: str) -> None:
    """UserError unless `name` is ORG/NAME as the Hub takes it."""
    if not is_hub_id(name):
        raise UserError(
            f"'{name}' is not a valid repository name: it must be ORG/NAME.",
            "Use letters, digits and single - _ . only, for example acme/fgr-portraits.",
        )


def address(name: str, kind: Kind) -> str:
    """The page of a repository."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"


def upload(
    folder: Path, name: str, kind: Kind, files: Sequence[str], stale: Sequence[str], private: bool, message: str
) -> tuple[str, bool]:
    """Upload `files` (paths within `folder`) to the repository `name`, made if absent, and remove remote files that match the
    patterns `stale` and are not among them. The repository's page, and whether anything changed.

    What is there already is not sent again, so calling it again after an interruption goes on. UserError: no such organisation,
    no right to write, no connection; a public repository where a private one is meant.
    """
    check_name(name)
    with sentences(name):
        from huggingface_hub import HfApi

        api = HfApi(library_name="fgr")
        api.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        before = api.repo_info(name, repo_type=kind)
        _expect_private(name, private, before)
        api.upload_folder(
            repo_id=name, repo_type=kind, folder_path=folder, commit_message=message, allow_patterns=[_literal(f) for f in files],
            delete_patterns=list(stale) or None,
        )  # fmt: skip
        after = api.repo_info(name, repo_type=kind)
    return address(name, kind), before.sha != after.sha


def _expect_private(name: str, private: bool, there: Any) -> None:
    if private and not there.private:
        raise UserError(f"{name} exists and is public.", "Add --public if that is intended, or name another repository.")


def _literal(file: str) -> str:
    """A pattern that matches this path alone."""
    return re.sub(r"([*?\[])", r"[\1]", file)


@contextlib.contextmanager
def sentences(name: str) -> Iterator[None]:
    """Turns what the Hub's client raises into UserErrors about the repository `name`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        translated = _sentence(name, error)
        if translated is None:
            raise
        raise translated from None


def _sentence(name: str, error: BaseException) -> UserError | None:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return UserError(
            "HF_HUB_OFFLINE is set, so nothing can be uploaded.", "Unset it, or use --dry-run to see what would be uploaded."
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return UserError("You are not logged in to the Hub.", LOG_IN)
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(name, error)
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "hf_xet"):
        return _unreachable(name, error)
    return _sentence(name, error.__cause__) if error.__cause__ else None  # the uploader wraps what happened to a file


def _refusal(name: str, error: Any) -> UserError:
    status = getattr(error.response, "status_code", None)
    detail = getattr(error, "server_message", None) or " ".join(str(error).split())[:200]
    if status == 401:
        return UserError("You are not logged in to the Hub, or your token is no longer valid.", LOG_IN)
    if status == 403:
        return UserError(
            f"You do not have write access to {name}: {detail}", "Join the organisation, or use a token with the right to write."
        )
    if status == 404:
        return UserError(
            f"The Hub has no such organisation or repository: {name}: {detail}", f"Check the organisation's name. {LOG_IN}"
        )
    return UserError(
        f"The Hub refused the upload to {name} (HTTP {status}): {detail}",
        "Run the same command again: what was uploaded is kept.",
    )


def _unreachable(name: str, error: BaseException) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"The upload to {name} was interrupted: {reason}", "Run the same command again: what was uploaded is kept.")
