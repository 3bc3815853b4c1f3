"""What a broken server or a proxy before it may answer: sentences, tries that stop, no copies left behind."""

import contextlib

import httpx
import jwt
import pytest
from fuzz_budget import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio_double import StudioDouble

from fgr.annotate import client
from fgr.annotate.studio import Studio
from fgr.errors import UserError

AHEAD = 4_000_000_000  # seconds since 1970: tokens of these tests do not run out
PERSONAL, FIRST, SECOND = (jwt.encode({"exp": AHEAD, "jti": name}, "k" * 32) for name in ("personal", "first", "second"))
REFRESH = "/api/token/refresh/"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(200, text="<html>log in</html>"), "gave no access token"),
        (httpx.Response(200, json=["access"]), "gave no access token"),
        (httpx.Response(200, json={"access": 5}), "gave no access token"),
        (httpx.Response(200, json={"access": "a\r\nX-Evil: 1"}), "gave no access token"),
        (httpx.Response(200, json={"access": ""}), "gave no access token"),
        (httpx.Response(200, content=b"[" * 100_000), "gave no access token"),
        (httpx.Response(302, headers={"location": "/login"}), "gave no access token"),
        (httpx.Response(404), "gave no access token"),
        (httpx.Response(401, json={"detail": "expired"}), "does not accept the token"),
        (httpx.Response(500), "500 when asked for access"),
    ],
)
def test_odd_answers_to_a_token_refresh_are_sentences(monkeypatch, answer, says):
    double = StudioDouble()
    double.spoil = lambda request: answer if request.url.path == REFRESH else None
    with pytest.raises(UserError, match=says) as error, double.studio(monkeypatch, PERSONAL) as studio:
        studio.people()
    assert PERSONAL not in str(error.value)
    assert len(double.asked) == (3 if answer.status_code == 500 else 1)


def test_an_access_token_that_ran_out_is_renewed_once(monkeypatch):
    double, given_out = StudioDouble(), []

    def spoil(request):
        if request.url.path == REFRESH:
            given_out.append((FIRST, SECOND)[len(given_out)])
            return httpx.Response(200, json={"access": given_out[-1]})
        return None if request.headers["Authorization"] == f"Bearer {SECOND}" else httpx.Response(401)

    double.spoil = spoil
    with double.studio(monkeypatch, PERSONAL) as studio:
        assert studio.people() == {7: "ada@example.org"}
    assert given_out == [FIRST, SECOND]


def test_a_personal_token_whose_time_is_up_is_a_sentence(monkeypatch):
    past = jwt.encode({"exp": 1}, "k" * 32)
    with pytest.raises(UserError, match="wrong or expired") as error, StudioDouble().studio(monkeypatch, past):
        pass
    assert past not in str(error.value)


def test_answers_have_a_limit_before_they_are_in_memory(monkeypatch):
    monkeypatch.setattr(client, "LARGEST", 1000)
    sent = []

    def endless():
        while True:
            sent.append(1)
            yield bytes(100)

    double = StudioDouble()
    double.spoil = lambda request: httpx.Response(200, content=endless())
    with pytest.raises(UserError, match="more than"), double.studio(monkeypatch) as studio:
        studio.people()
    assert len(sent) < 20


def test_an_address_that_has_moved_is_told(monkeypatch):
    double = StudioDouble()
    double.spoil = lambda request: httpx.Response(301, headers={"location": "https://studio.test/api/users/"})
    with pytest.raises(UserError, match="on to another address"), double.studio(monkeypatch) as studio:
        studio.people()


FILES = {f"{name}.webp": b"x" for name in "abcd"}


@pytest.mark.parametrize("kept", [4, 2, 0])
def test_uploads_whose_answer_was_lost_leave_no_copies(monkeypatch, kept):
    """The server kept so many of the files before its answer was lost, and once more all of them, late."""
    double = StudioDouble()

    def spoil(request):
        if request.method == "POST" and not double.files:
            double.receive(request)
            double.files = {number: double.files[number] for number in list(double.files)[:kept]}
            double.files[999] = "upload/1/0123abcd-other.webp"
            return httpx.Response(502)
        return None

    double.spoil = spoil
    with double.studio(monkeypatch) as studio:
        places = studio.upload(1, FILES)
    assert sorted(double.files.values()) == [f"upload/1/0123abcd-{name}" for name in (*FILES, "other.webp")]
    assert places == {name: f"/data/upload/1/0123abcd-{name}" for name in FILES}


def test_a_late_copy_of_an_upload_is_removed(monkeypatch):
    double, posts = StudioDouble(), []

    def spoil(request):
        if request.method == "POST" and not posts:
            posts.append(request)
            return httpx.Response(504)  # still at work
        if request.method == "POST" and len(posts) == 1:
            double.receive(posts[0])
            posts.append(request)
        return None

    double.spoil = spoil
    with double.studio(monkeypatch) as studio:
        studio.upload(1, FILES)
    assert sorted(double.files.values()) == [f"upload/1/0123abcd-{name}" for name in FILES]


BODIES = st.one_of(
    st.binary(max_size=20),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["id", "email", "results", "next", "tasks", "title", "access", "file"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    ).map(lambda value: httpx.Response(200, json=value).content),
)
QUESTIONS = {
    "me": Studio.me,
    "people": Studio.people,
    "project": lambda studio: studio.project("x"),
    "create": lambda studio: studio.create_project("x", "<View/>", "", 1),
    "keys": lambda studio: studio.keys(1),
    "annotated": lambda studio: list(studio.annotated_tasks(1)),
    "changed": lambda studio: list(studio.annotated_tasks(1, "2026-01-01T00:00:00Z")),
    "uploads": lambda studio: studio.uploads(1),
    "upload": lambda studio: studio.upload(1, FILES),
    "import": lambda studio: studio.import_tasks(1, [{"data": {"fgr_id": "a"}}]),
    "serve_folder": lambda studio: studio.serve_folder(1, "/x"),
    "remove_duplicates": lambda studio: studio.remove_duplicates(1),
}


@pytest.mark.fuzz
@pytest.mark.parametrize("question", QUESTIONS)
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(BODIES, min_size=1, max_size=4),
    status=st.sampled_from([200, 200, 200, 201, 204, 301, 401, 403, 404, 418, 429, 500]),
    token=st.sampled_from(["0" * 40, PERSONAL]),
)
def test_no_answer_ends_raw(question, bodies, status, token, monkeypatch):
    double = StudioDouble()
    double.spoil = lambda request: httpx.Response(status, content=bodies[len(double.asked) % len(bodies)])
    with monkeypatch.context() as patch, double.studio(patch, token, attempts=2) as studio, contextlib.suppress(UserError):
        QUESTIONS[question](studio)
    assert len(double.asked) < 500
