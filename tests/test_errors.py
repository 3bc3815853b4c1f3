"""Text from outside, as a terminal may show it."""

import subprocess
import sys

import pytest

from fgr.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße – ½\u00a0Bild", "Grüße – ½\u00a0Bild"),
        ("a\x1b[2K\rb", "a\\x1b[2K\\rb"),
        ("a\u202eb\x9bm\x07", "a\\u202eb\\x9bm\\x07"),
        ("\udcff", "\\udcff"),
        ("a\n\tb", "a\n\tb"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_names_in_a_line_have_no_line_breaks():
    assert printable("a\nfgr: all is well", keep="") == "a\\nfgr: all is well"


def test_a_name_with_escape_codes_prints_no_false_line(tmp_path):
    name = tmp_path / "x\x1b[2K\rgood.png"
    name.write_bytes(b"no image")
    command = [sys.executable, "-m", "fgr", "evaluate", "--benchmark", str(name), "--metrics", "clipiqa"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "x\\x1b[2K\\rgood.png" in done.stderr
