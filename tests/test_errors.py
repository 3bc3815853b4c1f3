"""Text from outside, as a terminal may show it."""

import subprocess
import sys

import pytest

from fgr.errors import UserError, all_of, printable


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


def test_all_that_refuses_is_named_at_once():
    def refuse(message, hint):
        raise UserError(message, hint)

    assert all_of({"a": lambda: 1, "b": lambda: 2}) == {"a": 1, "b": 2}
    with pytest.raises(UserError) as refused:
        all_of({name: lambda name=name: refuse(f"No {name}.", "Bring it.") for name in "ab"} | {"c": lambda: 3})
    assert str(refused.value) == "No a.\nNo b.\nBring it."
