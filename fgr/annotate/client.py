"""Requests to a Label Studio server: the SDK's client under our own retries, limits and sentences.

The SDK authenticates, exchanges personal tokens, and answers for users, projects and storages. Its retries are off: it repeats
imports that are not repeatable. Its errors never arise, since they carry whole requests with cookies: what fails is told by
`_Guard`, below it. Uploads (which it lacks), bulk imports and paged exports (where turning every stroke into models costs more
than decoding it) are requests of our own, with the SDK's authentication.
"""

import json
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from fgr.errors import UserError, printable

if TYPE_CHECKING:
    from label_studio_sdk.core.client_wrapper import SyncClientWrapper

TRANSIENT = {408, 429, 500, 502, 503, 504}  # statuses that another try may change
ATTEMPTS = 7  # waits of 0.5, 1, 2 … s: a restart of the server fits in
MAX_WAIT = 30.0  # seconds
LARGEST = 256 << 20  # bytes of an answer
EXCHANGE = "/api/token/refresh/"  # where the SDK exchanges a personal token for access
Answer = TypeVar("Answer")
TOKENS = (
    "A personal access token is made under Account & Settings → Personal Access Token, a legacy token under → Access Token "
    "(an owner allows each kind under Organization → API Tokens Settings). Put it into LABEL_STUDIO_API_KEY. Of a server that "
    "`fgr annotate serve DIR` started: fgr annotate serve DIR --show-token"
)


class TransientError(Exception):
    """A failure that may pass; the message is fit to print. `retry_after`: seconds that the server asks to wait.

    `status` is that of the answer, 0 where none came whole.
    """

    def __init__(self, message: str, retry_after: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.retry_after, self.status = retry_after, status


class Unavailable(UserError):
    """A request that failed as often as it was tried; `status` is that of the last answer, 0 where none came whole."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class Refused(UserError):
    """A request that another try will not change: 401, its token is not accepted; 403, it is not permitted; 400, it is wrong."""

    def __init__(self, message: str, hint: str | None, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class TooLarge(UserError):
    """An answer of more bytes than are read."""


def usable(token: str) -> bool:
    """Whether a header can carry it."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


class _Guard(httpx.BaseTransport):
    """Passes requests on and returns only whole answers that are good, of at most LARGEST bytes.

    TransientError for what may pass, UserError for a refusal; a personal token's exchange answers with a token that a header can
    carry.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport) -> None:
        self._url, self._transport = url, transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, read. The exceptions are those of the class."""
        try:
            response = self._whole(request)
        except httpx.TimeoutException:
            raise TransientError("no answer in time") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise TransientError(f"no connection ({type(error).__name__})") from None
        if request.url.path.endswith(EXCHANGE):
            _expect_access(response)
        if response.status_code in TRANSIENT:
            raise TransientError(f"the server answered {response.status_code}", _retry_after(response), response.status_code)
        if not response.is_success:
            raise _refusal(response, self._url)
        return response

    def _whole(self, request: httpx.Request) -> httpx.Response:
        answer, body = self._transport.handle_request(request), bytearray()
        answer.request = request
        try:
            for part in answer.iter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise TooLarge(
                        f"{self._url} answered {request.method} {request.url.path} with more than {LARGEST >> 20} MiB.",
                        "Check --url, or look at the project in the browser: does a task hold something huge?",
                    )
        finally:
            answer.close()
        kept = {name: value for name, value in answer.headers.items() if name in ("content-type", "retry-after", "location")}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(body), request=request)

    def close(self) -> None:
        self._transport.close()


class Client:
    """One server and one token. Every failure is a UserError once retries are used up."""

    def __init__(self, url: str, token: str, timeout: float = 120.0, attempts: int = ATTEMPTS) -> None:
        self.url, self.attempts = url.rstrip("/"), attempts
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"'{url}' is not the address of a Label Studio server.", "Example: --url http://127.0.0.1:8080")
        if not usable(token):
            raise UserError("The Label Studio token is empty or contains characters that no token has.", TOKENS)
        self._token, self._timeout = token, timeout
        self._http = httpx.Client(
            timeout=timeout, transport=_Guard(self.url, httpx.HTTPTransport(trust_env=False)), trust_env=False
        )
        self.sdk = self._authenticated()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _authenticated(self) -> "SyncClientWrapper":
        """What the SDK's clients are made of; it holds the access that a personal token was exchanged for."""
        from label_studio_sdk.core.api_error import ApiError
        from label_studio_sdk.core.client_wrapper import SyncClientWrapper

        try:
            return SyncClientWrapper(
                base_url=f"{self.url}/", api_key=self._token, httpx_client=self._http, timeout=self._timeout, max_retries=0
            )
        except ApiError:  # a personal token whose time is up
            raise _not_accepted() from None

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, repeated while its failure may pass. For requests that may be repeated without harm."""
        return self._repeated(lambda: self.call_once(method, path, **options))

    def call_once(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, sent once. TransientError for what may pass, UserError for a refusal."""
        return self.once(lambda: self._http.request(method, self.url + path, headers=self._authorization(), **options))

    def once(self, work: Callable[[], Answer]) -> Answer:
        """`work` with `sdk`, once more where the access that a personal token was exchanged for is refused.

        TransientError for what may pass, UserError for a refusal, and for an answer that the SDK cannot read.
        """
        from label_studio_sdk.core.api_error import ApiError

        try:
            try:
                return work()
            except Refused as refusal:
                if refusal.status != 401 or not self._authorization().get("Authorization", "").startswith("Bearer "):
                    raise
                self.sdk = self._authenticated()
                return work()
        except httpx.InvalidURL:
            raise UserError(f"'{self.url}' is not the address of a Label Studio server.", "Check --url.") from None
        except ApiError as error:  # of an answer that is good by its status: its body is not JSON
            if str(error.body or "")[:1] in ("", "{", "["):
                raise TransientError("an answer broke off", status=error.status_code or 0) from None
            raise self.unknown() from None
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            raise self.unknown() from None

    def asked(self, work: Callable[[], Answer]) -> Answer:
        """`once`, repeated while the failure may pass. For what may be repeated without harm."""
        return self._repeated(lambda: self.once(work))

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": self.sdk.get_headers()["Authorization"]}

    def json(self, method: str, path: str, attempts: int = 0, **options: Any) -> Any:
        """The JSON body of a repeatable request, which is repeated where the body breaks off; `attempts` 0 means the client's."""
        return self._repeated(lambda: self.decoded(self.call_once(method, path, **options)), attempts)

    def decoded(self, response: httpx.Response) -> Any:
        """The JSON body of a response. TransientError if it breaks off, UserError if it is not JSON at all."""
        body = _parsed(response)
        if body is None and response.content[:1] in (b"", b"{", b"["):
            raise TransientError("an answer broke off", status=response.status_code)
        if body is None:
            raise UserError(f"{self.url} does not look like a Label Studio server.", "Check --url.")
        return body

    def shaped(self, shape: type[Answer], body: Any) -> Answer:
        """A response's body, checked to have this shape. UserError if it does not."""
        try:
            return TypeAdapter(shape).validate_python(body)
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
            raise self.unknown(where) from None

    def unknown(self, where: str = "") -> UserError:
        """The error for an answer of another form than Label Studio's; `where` in it that shows."""
        return UserError(
            f"{self.url} gave an answer of an unknown form" + (f" ({where})." if where else "."),
            "Check --url: is it a Label Studio server? fgr is tested with the version that its extra 'annotate' installs.",
        )

    def _repeated(self, once: Callable[[], Answer], attempts: int = 0) -> Answer:
        attempts = attempts or self.attempts
        for attempt in range(attempts):
            try:
                return once()
            except TransientError as failure:
                if attempt + 1 == attempts:
                    raise self.unavailable(failure, attempts) from None
                self.pause(attempt, failure.retry_after)
        raise AssertionError("unreachable")

    def unavailable(self, failure: TransientError, attempts: int) -> Unavailable:
        """The error for a failure that did not pass."""
        return Unavailable(
            f"Label Studio at {self.url} is not available: {failure} ({attempts} tries).",
            "Start the server again or wait, then run the same command again: finished work is kept.",
            failure.status,
        )

    @staticmethod
    def pause(attempt: int, retry_after: float = 0.0) -> None:
        """Wait before another try: longer each time, with some chance in it, and at least `retry_after` seconds."""
        time.sleep(max(min(MAX_WAIT, 0.5 * 2**attempt) * random.uniform(0.75, 1.25), min(MAX_WAIT, retry_after)))


def _expect_access(response: httpx.Response) -> None:
    """UserError if a personal token was not exchanged for access."""
    if response.status_code in TRANSIENT:
        raise TransientError(f"the server answered {response.status_code} when asked for access", _retry_after(response))
    if response.status_code in (400, 401, 403):
        raise _not_accepted()
    body = _parsed(response) if response.is_success else None
    access = body.get("access") if isinstance(body, dict) else None
    if not isinstance(access, str) or not usable(access):
        raise UserError(
            f"The server gave no access token for the personal one (status {response.status_code}).",
            "Check --url: is it a Label Studio server, without a proxy or a login page before it?",
        )


def _not_accepted() -> UserError:
    return UserError("Label Studio does not accept the token: it is wrong or expired.", TOKENS)


def _parsed(response: httpx.Response) -> Any:
    """The JSON body; None where there is none, or null."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError, numbers of thousands of digits
        return None


def _retry_after(response: httpx.Response) -> float:
    """Seconds of a Retry-After header; 0 where there is none (or a date, which servers of this kind do not send)."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _refusal(response: httpx.Response, url: str) -> UserError:
    """The sentence for a response that another try will not change; bodies are cut, since they echo whole requests."""
    if response.status_code == 401:
        legacy = "legacy" in response.text[:2000]
        why = "this organization has legacy tokens switched off" if legacy else "it is wrong or expired"
        return Refused(f"Label Studio at {url} does not accept the token: {why}.", TOKENS, 401)
    if response.status_code == 403:
        message = f"Label Studio at {url} does not permit this to the token's user."
        return Refused(message, "Ask the project's owner for access.", 403)
    path = response.request.url.path
    if response.is_redirect:
        return UserError(f"{url} sends {path} on to another address.", "Give that address with --url: https instead of http?")
    if response.status_code == 404:
        return UserError(f"Label Studio at {url} has no {path}.", "Was the project deleted? Check --url and --project.")
    message = f"Label Studio refused {response.request.method} {path} ({response.status_code}): {_detail(response)}"
    return Refused(message, None, response.status_code)


def _detail(response: httpx.Response) -> str:
    body = _parsed(response)
    if body is None:
        return "no reason given"
    detail = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    return printable(" ".join(str(detail).split())[:300])
