"""Progress where stderr is not a terminal: lines, now and then."""

import pytest

from fgr.progress import Progress, duration, remark, without_loading_bars


def test_lines_tell_the_count_the_drops_and_nothing_on_stdout(capsys):
    with Progress("make", 4, "samples", every=0.0) as progress:
        progress.advance(1)
        progress.advance(3, {"flat": 2})
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.partition(" · ")[0] for line in lines] == ["make: 1/4", "make: 4/4", "make: 4/4"]
    assert lines[-1].endswith("dropped: flat 2 · 1 s")
    assert lines[0].endswith(" · 1 s, 1 s left")


def test_what_is_being_done_is_said_at_once_and_then_with_the_counts(capsys):
    remark("nothing is open")
    with Progress("tune", 2, "steps") as progress:
        remark("denoising step 1 of 40")
        remark("denoising step 2 of 40")
        with Progress("planted", 3) as inner:
            inner.advance(2)
            remark("image 3")
        progress.advance(2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" · ")[0] for line in lines] == ["tune: 0/2", "tune: 2/2"]
    assert "steps/s · denoising step 1 of 40 · " in lines[0]
    assert "planted 2/3, image 3" in lines[1]


def test_an_error_ends_it_without_a_line(capsys):
    try:
        with Progress("make", 4):
            raise ValueError
    except ValueError:
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shown", "downloads_hidden"), [(True, False), (True, True), (False, True)])
def test_transformers_shows_its_bars_as_before_afterwards(shown, downloads_hidden):
    hub = pytest.importorskip("huggingface_hub.utils")
    logging = pytest.importorskip("transformers.utils.logging")
    change = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    before, before_hub = logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    try:
        change[shown]()
        (hub.disable_progress_bars if downloads_hidden else hub.enable_progress_bars)()
        with without_loading_bars():
            assert not logging.is_progress_bar_enabled()
        assert (logging.is_progress_bar_enabled(), hub.are_progress_bars_disabled()) == (shown, downloads_hidden)
    finally:
        change[before]()
        (hub.disable_progress_bars if before_hub else hub.enable_progress_bars)()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "1 s"), (42.4, "42 s"), (99, "99 s"), (130, "2 min"), (5400, "90 min"), (9000, "2.5 h"), (400_000, "5 days")],
)
def test_a_time_is_told_in_the_unit_that_it_is_read_in(seconds, said):
    assert duration(seconds) == said


def test_a_bar_shows_the_time_so_far_and_the_time_left(monkeypatch):
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress("make", 2) as progress:
        kinds = [type(column) for column in progress.columns]
    assert TimeElapsedColumn in kinds
    assert TimeRemainingColumn in kinds
