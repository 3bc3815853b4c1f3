"""What a Label Studio server's answers mean: refusals as sentences that carry no secret."""

import json

import httpx

from fgr.errors import UserError

TOKENS = (
    "A personal access token is made under Account & Settings → Personal Access Token, a legacy token under → Access Token "
    "(an owner allows each kind under Organization → API Tokens Settings). Put it into LABEL_STUDIO_API_KEY."
)


def retry_after(answer: httpx.Response) -> float:
    """Seconds of a Retry-After header; 0 where there is none (or a date, which servers of this kind do not send)."""
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0


def refusal(answer: httpx.Response, url: str) -> UserError:
    """The sentence for an answer that another try will not change; bodies are cut, since they echo whole requests."""
    if answer.status_code == 401:
        legacy = "legacy" in answer.text[:2000]
        why = "this organization has legacy tokens switched off" if legacy else "it is wrong or expired"
        return UserError(f"Label Studio at {url} does not accept the token: {why}.", TOKENS)
    if answer.status_code == 403:
        return UserError(f"Label Studio at {url} forbids this to the token's user.", "Ask the project's owner for access.")
    path = answer.request.url.path
    if answer.status_code == 404:
        return UserError(f"Label Studio at {url} has no {path}.", "Was the project deleted? Check --url and --project.")
    return UserError(f"Label Studio refused {answer.request.method} {path} ({answer.status_code}): {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return "no reason given"
    said = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    return " ".join(str(said).split())[:300]
