"""Downloads of weights: broken connections, what is kept for the next run, files that changed in between, full disks."""

import shutil

import pytest
from weights_double import CONTENT

from fgr import downloads
from fgr.errors import UserError
from fgr.sr.fetch import fetch


def test_a_connection_that_breaks_is_taken_up_where_it_broke(weights_server, listed):
    weights_server.breaks = 2
    assert fetch("net" if listed("/net.pth") else "")[0].read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert [asked[2] for asked in weights_server.requests] == [None, f"bytes={half}-", f"bytes={quarter}-"]


def test_what_arrived_is_kept_for_the_next_run(weights_server, listed):
    target = listed("/net.pth")
    weights_server.breaks = downloads.ATTEMPTS
    with pytest.raises(UserError, match=r"(?s)the connection broke after \d+ of 3072000 bytes.*continues where it stopped"):
        fetch("net")
    assert not target.exists()
    [partial] = target.parent.iterdir()
    kept = partial.stat().st_size
    assert kept > len(CONTENT) * 0.9
    assert fetch("net") == [target]
    assert weights_server.requests[-1][2] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(weights_server, listed):
    target = listed("/net.pth")
    weights_server.breaks, weights_server.ranges = 1, False
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_fetched_anew(weights_server, listed):
    target = listed("/net.pth")
    weights_server.breaks = 1
    weights_server.content, weights_server.later = b"x" * len(CONTENT), CONTENT
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [asked[2] is None for asked in weights_server.requests] == [True, False, True]


def test_a_whole_part_of_a_killed_run_is_only_checked(weights_server, listed):
    target = listed("/net.pth")
    weights_server.breaks = downloads.ATTEMPTS
    with pytest.raises(UserError):
        fetch("net")
    [partial] = target.parent.iterdir()
    partial.write_bytes(CONTENT)
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT


def test_no_room_on_the_disk_is_said_before_anything_is_written(listed, monkeypatch):
    target = listed("/net.pth")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(UserError, match=r"has 1 MB free, but 2 MB of net\.pth are still to come\.\n.*FGR_WEIGHTS"):
        fetch("net")
    assert not list(target.parent.iterdir())
