"""The documentation says what the code says, and its commands run."""

import importlib
import re
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fgr import recipe, records
from fgr.cli import app

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
hooks = importlib.import_module("hooks")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

ELSEWHERE = {  # commands that cannot run here, and why; their options are checked all the same
    r"^fgr app": "serves until it is interrupted: tests/app",
    r"^fgr annotate": "needs a Label Studio server: tests/annotate",
    r"/shared/|^accelerate ": "needs a cluster",
    r"--fetch": "needs a network",
    r"^fgr publish (?!.*--dry-run)": "needs the Hub: tests/dataset/test_publish.py",
    r"lpips|SRIQA-Bench|sr-prominence|desra|disrqad|vha-bench|qualisr|isrgen|refsr": "needs weights or data from elsewhere",
    r"^fgr generate (?!demo)": "needs DINOv3's weights",
    r"^fgr export .*onnx$": "takes long: tests/reward/test_export.py runs it",
}
OTHERS = ("make", ".", "export", "hf", "accelerate", "git", "pip", "sbatch", "python")  # what else begins a line
SMALL = {  # what makes each verb a matter of seconds
    "generate": (
        "--limit", "12", "--workers", "1", "source.crop=128", "source.crops_per_photo=2", "map.calibration_pairs=2",
        "shard_rows=6", "severity=[0.005,1]",
    ),
    "train-rm": (
        "data.crop=48", "data.batch=2", "data.validation=2", "base.steps=3", "stages=[3,3,3,3]", "training.validate_every=3",
        "training.checkpoint_every=3", "training.lr=0.01",
    ),
    "evaluate": ("--pairs", "2"),
    "rlhf": (
        "training.steps=8", "audit.every=4", "audit.images=2", "audit.crop=32", "data.crop=16", "data.batch=2",
        "reward.reference_images=4", "audit.sheet=1", "audit.patch=16", "audit.planted=0", "audit.at_hand=false",
    ),
}  # fmt: skip


def commands():
    """Every command of the shell blocks in order, once: page, text."""
    seen = {}
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    seen.setdefault(shlex.join(words), page.name)
    return [(page, text) for text, page in seen.items()]


def measured():
    """The commands that figures come from, in text blocks because they take long: page, text."""
    for page in PAGES:
        for block in re.findall(r"^```text\n(fgr .*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield from ((page.name, line) for line in block.replace("\n    ", " ").splitlines())


def words_of(text):
    """The words after `fgr`, or none for another program."""
    words = shlex.split(text)
    if words[0] == "accelerate":
        return words[words.index("fgr") + 1 :]
    return words[1:] if words[0] == "fgr" else None


def elsewhere(text):
    return any(re.search(pattern, text) for pattern in ELSEWHERE)


@pytest.mark.parametrize(("page", "text"), [*commands(), *measured()])
def test_every_command_of_the_documentation_exists(page, text):
    words = words_of(text)
    if words is None:
        assert shlex.split(text)[0] in OTHERS
        return
    command = get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("fgr", list(words))  # raises for an option that is not there, and for one that is missing


KIND = {"generate": "generate", "train-rm": "reward", "rlhf": "rlhf"}  # of recipe, by verb


@pytest.mark.parametrize(("page", "text"), [*commands(), *measured()])
def test_every_recipe_key_of_the_documentation_exists(page, text):
    words = words_of(text)
    if words and words[0] in KIND:
        named = [word for word in words[1:2] if not word.startswith("-")]
        changes = [word for word in words[1:] if re.match(r"[a-z_]+\.[\w.]+=", word)]
        options = {"curriculum.schedule": "none"} if "none" in words else {}
        recipe.load(named[0] if named else None, KIND[words[0]], changes, options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_recipe_key_that_a_page_names_exists(page):
    keys = {key for kind in recipe.KINDS for key in re.findall(r"^\| `([\w.]+)` \|", "\n".join(hooks.recipe(kind)), re.MULTILINE)}
    groups = {key.rpartition(".")[0] for key in keys}
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:(?:=|: )[^`]*)?`", page.read_text())
    files = (".safetensors", ".jsonl", ".json")
    wrong = [
        name for name in named if name.partition(".")[0] in groups and name not in keys | groups and not name.endswith(files)
    ]
    assert wrong == []


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the documentation's files lie: photographs, an image, tables of opinions and of marked regions."""
    import datasets
    import skimage.data
    from PIL import Image

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket", "cat"):
        Image.fromarray(getattr(skimage.data, name)()[:256, :256, :3]).save(folder / "photos" / f"{name}.png")
    for name in ("photo", "reference", "sr"):
        shutil.copy(folder / "photos" / "coffee.png", folder / f"{name}.png")
    rows = [f"photos/{name}.png,{mos},photo.png" for name, mos in (("astronaut", 3), ("coffee", 5), ("chelsea", 4))]
    (folder / "opinions.csv").write_text("image,mos,reference\n" + "\n".join(rows[1:2]) + "\nphoto.png,4,photo.png\n")
    mask = np.zeros((256, 256), np.uint8)
    mask[64:128, 64:128] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    marked = [
        f"photos/{name}.png,mask.png,{share},photo.png" for name, share in (("astronaut", 0.2), ("cat", 0.5), ("rocket", 0.9))
    ]
    (folder / "regions.csv").write_text("image,mask,prominence,reference\n" + "\n".join(marked) + "\n")
    return folder


def test_the_commands_that_can_run_here_run(place, monkeypatch):
    monkeypatch.chdir(place)
    ran = []
    for page, text in commands():
        words = words_of(text)
        if words is None or elsewhere(text):
            continue
        began = time.monotonic()
        if words[0] == "generate" and "--models" not in words:
            words += ["--models", "realesrgan,realesr-animevideov3"]  # the weights of others have to be fetched
        done = CliRunner().invoke(app, [*words, *SMALL.get(words[0], ())])
        assert done.exit_code == 0, f"{page}: {text}\n{done.output}\n{done.exception!r}"
        ran.append(words[0])
        print(f"{time.monotonic() - began:.1f} s  {text}")
    assert {"generate", "verify", "report", "models", "train-rm", "score", "evaluate", "rlhf", "publish"} <= set(ran)
    assert (place / "out" / "demo" / "report.html").is_file()
    assert (place / "out" / "tuned" / "best.safetensors").is_file()
    python_blocks(place)


def test_plans_in_the_documentation_are_those_of_today():
    """All lines but those that depend on the machine."""
    found = 0
    for page in PAGES:
        for command, printed in re.findall(
            r"^```sh\n(fgr generate [^\n]* --plan)\n```\n\n((?:    .*\n)+)", page.read_text(), re.MULTILINE
        ):
            done = CliRunner().invoke(app, shlex.split(command)[1:])
            told, now = (
                [line.strip() for line in text.splitlines() if not line.strip().startswith(("disk", "time"))]
                for text in (printed, done.output)
            )
            assert told == now, page.name
            found += 1
    assert found


def test_the_size_of_a_sample_is_as_the_documentation_says():
    from fgr.generate.preflight import BYTES

    small, large, many = BYTES * 256**2 / 1e6, BYTES * 512**2 / 1e6, BYTES * 512**2 * 30_000 / 1e9
    said = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    sizes = f"{small:.1f} MB at 256×256, {large:.1f} MB at 512×512, so 30,000 of these take {many:.0f} GB"
    assert f"about {BYTES} bytes a pixel: {sizes}" in said


def python_blocks(place):
    """The Python blocks run where the commands have left their files; `images` is the reader's."""
    import torch

    for page in PAGES:
        if page.name == "extend.md":
            continue
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            exec(compile(block, page.name, "exec"), {"images": torch.rand(1, 3, 64, 64), "np": np})


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_no_marker_is_left(page):
    text = hooks.on_page_markdown(page.read_text())
    assert "<!--" not in text


@pytest.mark.parametrize("kind", recipe.KINDS)
def test_the_reference_names_every_key(kind):
    text = "\n".join(hooks.recipe(kind))
    tree = recipe.resolved(recipe.load(None, kind))

    def keys(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    missing = [key for key in keys(tree) if f"| `{key}` |" not in text]
    assert missing == []


def test_limits_and_defaults_are_told():
    text = "\n".join(hooks.recipe("generate"))
    assert "| `source.crop` | integer, ≥ 64, ≤ 2048, a multiple of 16 | `512` | side of a reference in pixels |" in text
    assert "| `masks.area` | 2 × number ≥ 0 ≤ 1 | `[0.02, 0.4]` |" in text
    assert "| `map.pooling.kind` | `mean` · `top` · `power` | `power` |" in text
    assert "| `name` | text | required |" in text


def test_tables_and_options_are_whole():
    for table, columns in records.TABLES.items():
        text = "\n".join(hooks.table(table))
        assert all(f"| `{column.name}` | {column.type.replace('|', chr(92) + '|')} |" in text for column in columns)
    options = "\n".join(hooks.options("evaluate"))
    for name in ("--data", "--reward", "--benchmark", "--metrics", "--luma", "--border", "--table", "SYSTEM…"):
        assert f"`{name}" in options
    assert "`--out` | required" in "\n".join(hooks.options("generate"))


def test_every_verb_has_a_page():
    pages = {page.stem for page in (ROOT / "docs" / "verbs").glob("*.md")}
    assert pages == set(get_command(app).commands)
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"verbs/{name}.md" in navigation for name in pages)


def test_every_sr_model_is_in_one_table_with_its_licence():
    from fgr.sr.zoo import ZOO

    rows = [*hooks.models("networks"), *hooks.models("diffusion")]
    for name, release in ZOO.items():
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert row.endswith(f"| {release.license} |")
    licences = "\n".join(hooks.licenses(""))
    assert all(f"`{name}`" in licences for name in ZOO)
