"""docs/extend.md is followed word by word: its blocks go into a copy of the package, and what they add is used."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text()
MOST = 3  # files that one addition touches
BLOCK = re.compile(r'^```python title="(.+?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
RUN = """
import sys
for number, block in enumerate(open(sys.argv[1]).read().split("\\f")):
    exec(compile(block, f"block {number} of extend.md", "exec"), {"__name__": "extend"})
"""


@dataclass(frozen=True)
class Addition:
    """Where a block of the page goes: at a file's end, with its imports, before a name that it defines, or into its value."""

    path: str
    how: str
    name: str
    text: str


def sections():
    """Each kind of addition with its blocks, and the ones that use what they add."""
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        additions, uses = [], []
        for place, text in BLOCK.findall(body):
            if place == "Use it":
                uses.append(text)
                continue
            path, _, where = place.partition(", ")
            how, _, name = where.rpartition(" ")
            additions.append(Addition(path, how, name, text))
        if additions:
            yield title, additions, uses


SECTIONS = {title: (additions, uses) for title, additions, uses in sections()}


def assigned(source, name):
    """The statement that gives `name` its value."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
    raise AssertionError(f"nothing is called {name}")


def inside(value):
    """Line and column, from 0, of where the value of a table ends; of an annotated union, where its members do."""
    if isinstance(value, ast.Subscript):
        value = value.slice.elts[0] if isinstance(value.slice, ast.Tuple) else value.slice
        return value.end_lineno - 1, value.end_col_offset
    if isinstance(value, ast.BinOp):
        return value.end_lineno - 1, value.end_col_offset
    return value.end_lineno - 1, value.end_col_offset - 1


def with_block(source, addition):
    """The source of a file with the block in it."""
    if addition.how == "":
        return f"{source}\n\n{addition.text}" if source else addition.text
    if addition.how == "with the":
        last = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)][-1]
        lines = source.splitlines(keepends=True)
        return "".join([*lines[: last.end_lineno], addition.text, *lines[last.end_lineno :]])
    node = assigned(source, addition.name)
    lines = source.splitlines(keepends=True)
    if addition.how == "before":
        lines.insert(node.lineno - 1, f"{addition.text}\n\n")
        return "".join(lines)
    assert addition.how == "in"
    row, column = inside(node.value)
    text = addition.text if node.lineno < node.end_lineno else addition.text.strip("\n")
    encoded = lines[row].encode()
    lines[row] = (encoded[:column] + text.encode() + encoded[column:]).decode()
    return "".join(lines)


@pytest.mark.parametrize("title", SECTIONS)
def test_an_addition_touches_few_files_and_is_used(title):
    additions, uses = SECTIONS[title]
    assert len({addition.path for addition in additions}) <= MOST
    assert uses


@pytest.mark.parametrize(("name", "path"), re.findall(r"`(\w+)` (?:in|of) `(fgr/[\w/]+\.py)`", PAGE))
def test_every_table_that_the_page_names_exists(name, path):
    assert re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE)


def test_what_the_page_adds_works(tmp_path):
    for name in ("fgr", "recipes", "annotation"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    digest = small_networks(tmp_path / "weights")
    for title, (additions, _) in SECTIONS.items():
        for addition in additions:
            file = tmp_path / addition.path
            assert file.is_file() or not addition.how, f"{title}: {addition.path}"
            text = with_block(file.read_text() if file.is_file() else "", addition)
            file.write_text(text.replace("sha256 of the file", digest))
    blocks = tmp_path / "blocks"
    blocks.write_text("\f".join(use for _, uses in SECTIONS.values() for use in uses))
    own = {"PYTHONPATH": str(tmp_path), "FGR_WEIGHTS": str(tmp_path / "weights"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(blocks)], cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def small_networks(folder):
    """The weights of the page's two SR models, of random numbers, where they are looked for; the digest of the first."""
    generator = torch.Generator().manual_seed(0)
    weights, convs, features = {}, 18, 64
    for i in range(convs):
        out = features if i < convs - 1 else 48
        weights[f"body.{2 * i}.weight"] = torch.randn(out, 3 if i == 0 else features, 3, 3, generator=generator) * 0.02
        weights[f"body.{2 * i}.bias"] = torch.zeros(out)
        if i < convs - 1:
            weights[f"body.{2 * i + 1}.weight"] = torch.full((features,), 0.1)
    folder.mkdir()
    file = folder / "my_x4.safetensors"
    save_file(weights, file)
    save_file({"weight": torch.zeros(3, 6, 3, 3), "bias": torch.zeros(3)}, folder / "my_diffusion.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()
