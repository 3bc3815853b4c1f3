"""The Python API: `import fgr`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fgr


def test_every_name_is_a_function_and_has_a_type():
    stub = Path(fgr.__file__).with_name("__init__.pyi").read_text()
    assert set(fgr.API) == set(re.findall(r"(?: as |^)([a-z]\w+)(?:$| =)", stub, re.MULTILINE))
    for name in fgr.API:
        assert callable(getattr(fgr, name))
        assert getattr(fgr, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        fgr.scores  # noqa: B018


def test_importing_loads_nothing_heavy():
    script = "import fgr, fgr.reward, sys; print(sorted({'torch', 'datasets', 'ray', 'diffusers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
