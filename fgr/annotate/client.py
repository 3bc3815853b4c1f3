"""Requests to a Label Studio server: tokens, retries with backoff, errors that carry no secret.

Plain httpx rather than the SDK: the SDK repeats imports that are not repeatable, its errors carry whole requests with
cookies, it has no upload, and turning every stroke into models costs more than decoding it.
"""

import json
import random
import time
from collections.abc import Generator
from typing import Any, Self

import httpx

from fgr.errors import UserError

TRANSIENT = {408, 429, 500, 502, 503, 504}  # statuses that another try may change
ATTEMPTS = 7  # waits of 0.5, 1, 2 … s: a restart of the server fits in
MAX_WAIT = 30.0  # seconds
TOKENS = (
    "A personal access token is made under Account & Settings → Personal Access Token, a legacy token under → Access Token "
    "(an owner allows each kind under Organization → API Tokens Settings). Put it into LABEL_STUDIO_API_KEY."
)


class TransientError(Exception):
    """A failure that may pass; the message is fit to print. `retry_after`: seconds that the server asks to wait."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TokenAuth(httpx.Auth):
    """Sends a legacy token as it is; a personal access token (a JWT) is exchanged for access tokens of five minutes."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token, self.access = url, token, ""
        self.personal = token.count(".") == 2

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self.personal:
            request.headers["Authorization"] = f"Token {self.token}"
            yield request
            return
        if self.access:
            request.headers["Authorization"] = f"Bearer {self.access}"
            if (yield request).status_code != 401:
                return
        response = yield httpx.Request("POST", f"{self.url}/api/token/refresh/", json={"refresh": self.token})
        if response.status_code in TRANSIENT:
            raise TransientError(f"the server answered {response.status_code} when asked for access")
        self.access = response.json().get("access", "") if response.status_code == 200 else ""
        request.headers["Authorization"] = f"Bearer {self.access or 'refused'}"
        yield request


class Client:
    """One server and one token. Every failure is a UserError once retries are used up."""

    def __init__(self, url: str, token: str, timeout: float = 120.0, attempts: int = ATTEMPTS) -> None:
        self.url, self.attempts = url.rstrip("/"), attempts
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"'{url}' is not the address of a Label Studio server.", "Example: --url http://127.0.0.1:8080")
        if not token or not token.isascii() or any(letter.isspace() for letter in token):
            raise UserError("The Label Studio token is empty or contains characters that no token has.", TOKENS)
        self._http = httpx.Client(auth=TokenAuth(self.url, token), timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, repeated while its failure may pass. For requests that may be repeated without harm."""
        for attempt in range(self.attempts):
            try:
                return self.call_once(method, path, **options)
            except TransientError as failure:
                if attempt + 1 == self.attempts:
                    raise UserError(
                        f"Label Studio at {self.url} is not available: {failure} ({self.attempts} tries).",
                        "Start the server again or wait, then run the same command again: finished work is kept.",
                    ) from None
                self.pause(attempt, failure.retry_after)
        raise AssertionError("unreachable")

    def call_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, sent once. TransientError for what may pass, UserError for a refusal."""
        try:
            response = self._http.request(method, self.url + path, **options)
        except httpx.TimeoutException:
            raise TransientError("no answer in time") from None
        except httpx.TransportError as error:
            raise TransientError(f"no connection ({type(error).__name__})") from None
        if response.status_code in TRANSIENT:
            raise TransientError(f"the server answered {response.status_code}", _retry_after(response))
        if response.is_success:
            return response
        raise _refusal(response, self.url)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON body of a repeatable request."""
        return self.decoded(self.call(method, path, **options))

    def decoded(self, response: httpx.Response) -> Any:
        """The JSON body of a response. UserError if it has none."""
        try:
            return response.json()
        except json.JSONDecodeError:
            raise UserError(f"{self.url} does not look like a Label Studio server.", "Check --url.") from None

    @staticmethod
    def pause(attempt: int, retry_after: float = 0.0) -> None:
        """Wait before another try: longer each time, with some chance in it, and at least `retry_after` seconds."""
        time.sleep(max(min(MAX_WAIT, 0.5 * 2**attempt) * random.uniform(0.75, 1.25), min(MAX_WAIT, retry_after)))


def _retry_after(response: httpx.Response) -> float:
    """Seconds of a Retry-After header; 0 where there is none (or a date, which servers of this kind do not send)."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _refusal(response: httpx.Response, url: str) -> UserError:
    """The sentence for a response that another try will not change; bodies are cut, since they echo whole requests."""
    if response.status_code == 401:
        legacy = "legacy" in response.text[:2000]
        why = "this organization has legacy tokens switched off" if legacy else "it is wrong or expired"
        return UserError(f"Label Studio at {url} does not accept the token: {why}.", TOKENS)
    if response.status_code == 403:
        return UserError(
            f"Label Studio at {url} does not permit this to the token's user.", "Ask the project's owner for access."
        )
    path = response.request.url.path
    if response.status_code == 404:
        return UserError(f"Label Studio at {url} has no {path}.", "Was the project deleted? Check --url and --project.")
    return UserError(f"Label Studio refused {response.request.method} {path} ({response.status_code}): {_detail(response)}")


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return "no reason given"
    detail = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    return " ".join(str(detail).split())[:300]
