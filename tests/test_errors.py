"""Text from outside, as a terminal may show it."""

import subprocess
import sys

import pytest

from fgr.errors import UserError, all_of, notice, printable
from fgr.progress import Progress


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße – ½\u00a0Bild", "Grüße – ½\u00a0Bild"),
        ("a\x1b[2K\rb", "a\\x1b[2K\\rb"),
        ("a\u202eb\x9bm\x07", "a\\u202eb\\x9bm\\x07"),
        ("\udcff", "\\udcff"),
        ("a\n\tb", "a\\n\\tb"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_an_error_has_the_lines_that_it_was_given_and_no_others():
    error = UserError("a\nfgr: all is well", "b\nc", ["d\u2028e", "f"])
    assert str(error).split("\n") == ["a\\nfgr: all is well", "  d\\u2028e", "  f", "b\\nc"]
    assert str(error).splitlines() == str(error).split("\n")


def test_a_name_with_escape_codes_prints_no_false_line(tmp_path):
    name = tmp_path / "x\x1b[2K\rgood\nfgr: 1 image scored.png"
    name.write_bytes(b"no image")
    command = [sys.executable, "-m", "fgr", "evaluate", "--benchmark", str(name), "--metrics", "clipiqa"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "x\\x1b[2K\\rgood\\nfgr: 1 image scored.png" in done.stderr


def test_a_notice_and_a_line_of_progress_are_one_line(capsys):
    notice("x\ny")
    with Progress("a\nb", 1) as progress:
        progress.advance(1, {"c\nd": 1})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fgr: x\\ny"
    assert len(lines) == 2
    assert lines[1].startswith("a\\nb: 1/1")
    assert "dropped: c\\nd 1 · " in lines[1]


def test_all_that_refuses_is_named_at_once():
    def refuse(message, hint):
        raise UserError(message, hint)

    assert all_of({"a": lambda: 1, "b": lambda: 2}) == {"a": 1, "b": 2}
    with pytest.raises(UserError) as refused:
        all_of({name: lambda name=name: refuse(f"No {name}.", "Bring it.") for name in "ab"} | {"c": lambda: 3})
    assert str(refused.value) == "2 things have to be put right:\n  No a.\n  No b.\nBring it."
