"""What is kept of a campaign beside the dataset."""

import json
import stat

import pytest

from fgr.annotate import campaign as campaigns
from fgr.annotate.campaign import Campaign, Entry
from fgr.errors import UserError


def test_a_campaign_is_read_back_as_it_was_by_its_owner_alone(tmp_path):
    entries = (Entry("a", ("ada", "ben"), "clean"), Entry("b", ("ben",), cold=True))
    made = Campaign("A title", "http://x", {"raters": 2}, {"ada": "A title · ada", "ben": "A title · ben"}, entries)
    campaigns.save(tmp_path, made)
    assert campaigns.load(tmp_path, "A title") == made
    assert campaigns.known(tmp_path) == [made]
    assert made.gold == {"a": "clean"}
    file = campaigns.path(tmp_path, "A title")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_what_the_first_version_wrote_is_read(tmp_path):
    file = campaigns.path(tmp_path, "old")
    file.parent.mkdir()
    entry = {"key": "a", "rooms": ["ada"], "gold": "", "cold": False}
    tree = {"name": "old", "url": "http://x", "recipe": {"overlap": 1}, "rooms": {"ada": "old · ada"}, "entries": [entry]}
    file.write_text(json.dumps(tree | {"pulled": {}, "people": {}, "places": {}}))
    assert campaigns.load(tmp_path, "old") == Campaign(
        "old", "http://x", {"raters": 1}, {"ada": "old · ada"}, (Entry("a", ("ada",)),)
    )


def test_a_damaged_file_and_an_unknown_name_are_sentences(tmp_path):
    campaigns.save(tmp_path, Campaign("one", "http://x", {}, {"": "one"}))
    with pytest.raises(UserError, match=r"No project 'two' was pushed from .* Pushed from it: one\."):
        campaigns.expect(tmp_path, "two")
    for text in ("{", "[]", '{"entries": [1]}'):
        campaigns.path(tmp_path, "one").write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            campaigns.load(tmp_path, "one")


def test_pseudonyms_follow_from_the_salt_and_the_address_alone(tmp_path):
    salt = campaigns.read_salt(tmp_path)
    assert campaigns.read_salt(tmp_path) == salt
    assert campaigns.pseudonym(salt, "Ada@example.org ") == campaigns.pseudonym(salt, "ada@example.org")
    assert campaigns.pseudonym(b"another", "ada@example.org") != campaigns.pseudonym(salt, "ada@example.org")
