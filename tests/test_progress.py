"""Progress where stderr is not a terminal: lines, now and then."""

from fgr.progress import Progress


def test_lines_tell_the_count_the_drops_and_nothing_on_stdout(capsys):
    with Progress("make", 4, "samples", every=0.0) as progress:
        progress.advance(1)
        progress.advance(3, {"flat": 2})
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert [line.partition(" · ")[0] for line in lines] == ["make: 1/4", "make: 4/4", "make: 4/4"]
    assert lines[-1].endswith("dropped: flat 2")
    assert "min left" in lines[0]


def test_an_error_ends_it_without_a_line(capsys):
    try:
        with Progress("make", 4):
            raise ValueError
    except ValueError:
        pass
    assert capsys.readouterr().err == ""
