"""The page that says where things are: whole, and true of the files that it names."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
hooks = importlib.import_module("hooks")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "fgr").rglob("*.py"))
LONGEST = 100
DIALECT = r"\b(knobs?|battery|exams?|climb\w*|pace)\b"  # the field says hyperparameter, held-out metrics, optimise, learning rate


def names(file):
    """What a module defines or imports at its top, and the members of its classes."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from (name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_module_says_in_a_line_what_it_is_for(file):
    line = hooks.first_line(file)
    assert 10 < len(line) <= LONGEST
    assert line.endswith((".", "?", ":"))


def test_the_layout_has_a_line_for_every_module():
    text = hooks.on_page_markdown((ROOT / "docs" / "layout.md").read_text())
    sections = dict(re.findall(r"^### `(.+?)/`\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(hooks.packages())
    for file in MODULES:
        section = sections[str(file.parent.relative_to(ROOT))]
        if file.name == "__init__.py":
            assert section.strip().startswith(hooks.first_line(file))
        else:
            assert f"| `{file.name}` | {hooks.cell(hooks.first_line(file))} |" in section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_exist(page):
    if page.name == "CHANGELOG.md":
        return  # it names what has gone
    for name in re.findall(r"`((?:fgr|tests|bench|recipes|annotation|docs)/[\w./-]*)`", page.read_text()):
        assert (ROOT / name).exists() or name == "fgr/weights", name
    for dotted in re.findall(r"`(fgr(?:\.[a-z_0-9]+)+)`", page.read_text()):
        path, named = dotted.rpartition(".")[::2]
        module = ROOT / dotted.replace(".", "/")
        if module.is_dir() or module.with_suffix(".py").is_file() or dotted in ("fgr.json", "fgr.load_samples"):
            continue
        assert named in set(names((ROOT / path.replace(".", "/")).with_suffix(".py"))), dotted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_speak_the_words_of_the_field(page):
    if page.name != "CHANGELOG.md":
        assert re.findall(DIALECT, page.read_text()) == []
