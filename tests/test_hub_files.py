"""What is written as a name on the Hub."""

import pytest

from fgr.hub_files import hub_file, is_hub_id


@pytest.mark.parametrize("text", ["org/name", "Org-1/na.me_2", "a/b"])
def test_repositories(text):
    assert is_hub_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "./name",
        "../name",
        "~/name",
        "/name",
        "/a/b",
        "a/b/c",
        "a b/c",
        "a/",
        "a/.b",
        "a/b.git",
        "a--b/c",
        "é/b",
        "a/b:x",
    ],
)
def test_what_is_no_repository(text):
    assert not is_hub_id(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("org/net/a.pth", ("org/net", "a.pth")),
        ("org/net/a/b.pth", ("org/net", "a/b.pth")),
        ("org/net", None),
        ("/org/net", None),
        ("../net/a.pth", None),
        ("https://example.org/a/b.pth", None),
    ],
)
def test_files_of_repositories(text, place):
    assert hub_file(text) == place
