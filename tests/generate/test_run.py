import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import pytest
import torch

from fgr import recipe as recipes
from fgr.cli.shell import sentence
from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.generate.workspace import Workspace
from fgr.sr.upscalers import Bicubic


@pytest.fixture
def command(tiny_overrides):
    """The command line that makes `tiny` in another folder."""

    def build(out, *options):
        made = [sys.executable, "-m", "fgr", "generate", "demo", *tiny_overrides, "--models", "realesr-animevideov3,bicubic"]
        return [*made, "--limit", "20", "--out", str(out), "--device", "cpu", *options]

    return build


def contents(directory):
    """Every file's bytes by its relative path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_two_workers_and_job_arrays_make_the_same_bytes(tiny, tiny_recipe, tmp_path):
    assert run.generate(tiny_recipe, tmp_path / "two", workers=2, device="cpu")
    assert contents(tmp_path / "two") == contents(tiny)
    parts = [run.generate(tiny_recipe, tmp_path / "array", workers=1, shard=(part, 2), device="cpu") for part in (1, 0)]
    assert parts == [False, True]
    assert contents(tmp_path / "array") == contents(tiny)


@pytest.mark.parametrize("moment", ["plan", "calibration.json", "first shard"])
def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(tiny, command, tmp_path, moment):
    out = tmp_path / "killed"
    there = {
        "plan": lambda: (out / ".fgr" / "plan").is_dir(),
        "calibration.json": lambda: (out / ".fgr" / "calibration.json").exists(),
        "first shard": lambda: len(list(out.glob("samples/*.parquet"))) >= 1,
    }[moment]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command(out, "--workers", "1"), stdout=log, stderr=log, start_new_session=True)
    while process.poll() is None and not there():
        time.sleep(0.005)
    assert process.poll() is None, (tmp_path / "log").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / manifest.NAME).exists()
    done = subprocess.run(
        command(out, "--workers", "2" if moment == "first shard" else "1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(tiny)


def test_an_interrupt_leaves_only_whole_shards(command, tmp_path):
    out = tmp_path / "interrupted"
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # programs in the background begin deaf to it
    process = subprocess.Popen(
        command(out, "--workers", "2"), stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed
    )
    while process.poll() is None and not list(out.glob("samples/*.parquet")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert "run the same command again" in said
    assert not list(out.rglob("*.tmp"))
    for shard in tables.shards(out, "samples"):
        assert list(tables.read_shard(shard, ["id"]))


def test_a_finished_dataset_is_left_alone(tiny, tiny_recipe):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    assert run.generate(tiny_recipe, tiny, workers=1, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


def test_another_recipe_in_the_same_folder_is_refused_by_its_keys(tiny, tiny_overrides, tmp_path):
    other = recipes.load("demo", "generate", [*tiny_overrides, "map.alpha=1"], {"models": ["bicubic"], "samples": 20})
    with pytest.raises(UserError, match=r"(?s)already holds.*map\.alpha: .* there, 1\.0 here.*models: "):
        run.generate(other, tiny, workers=1, device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not empty, and it is not an fgr dataset"):
        run.generate(other, tmp_path, workers=1, device="cpu")
    with pytest.raises(UserError, match="is a file"):
        run.generate(other, tmp_path / "file", workers=1, device="cpu")


def test_a_mistake_leaves_no_folder_that_refuses_the_corrected_recipe(tiny_recipe, tmp_path):
    (tmp_path / "photos").mkdir()
    empty = tiny_recipe.source.model_copy(update={"path": str(tmp_path / "photos")})
    for wrong in ({"models": ("realesrgn",)}, {"source": empty}):
        with pytest.raises(UserError):
            run.generate(tiny_recipe.model_copy(update=wrong), tmp_path / "out", workers=1, device="cpu")
        assert not (tmp_path / "out").exists()


def test_rows_tell_what_made_them(tiny, tiny_recipe):
    made = manifest.read(tiny)
    rows = list(
        tables.read_rows(
            tiny, "samples", ["id", "model", "model_digest", "scale", "degradation", "inference", "photo_id", "license"]
        )
    )
    assert len({row["id"] for row in rows}) == len(rows) == sum(state["rows"] for state in made["shards"])
    assert len(rows) + sum(count for state in made["shards"] for count in state["drops"].values()) == tiny_recipe.samples
    assert {row["model"] for row in rows} == set(tiny_recipe.models)
    assert all(json.loads(row["degradation"])["preset"] == "light" for row in rows)
    assert all(json.loads(row["inference"])["precision"] == "fp32" for row in rows)
    assert all(row["license"] for row in rows)


def test_a_full_disk_leaves_whole_shards_and_a_sentence(tiny, tiny_recipe, tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if any((tmp_path / "out").glob("samples/.*.tmp")) and len(list((tmp_path / "out").glob("samples/*.parquet"))) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        run.generate(tiny_recipe, tmp_path / "out", workers=1, device="cpu")
    assert "No space is left on the disk" in sentence(error.value)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.setattr(os, "fsync", real)
    assert run.generate(tiny_recipe, tmp_path / "out", workers=1, device="cpu")
    assert contents(tmp_path / "out") == contents(tiny)


def test_a_folder_that_cannot_be_written_is_a_sentence(tiny_recipe, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OSError, match="Not a directory") as error:
        run.generate(tiny_recipe, blocked / "out", workers=1, device="cpu")
    assert "Traceback" not in sentence(error.value)


def test_a_severity_that_nothing_has_ends_with_the_counts(tiny_overrides, tmp_path):
    impossible = recipes.load(
        "demo", "generate", [*tiny_overrides, "severity=[0.999, 1]", "masks.kinds.sham=0"], {"models": ["bicubic"], "samples": 4}
    )
    with pytest.raises(UserError, match=r"No sample was made; dropped: .*severity 4"):
        run.generate(impossible, tmp_path / "out", workers=1, device="cpu")


def test_one_cpu_thread_makes_the_samples_and_the_process_keeps_its_threads(tiny_overrides, tmp_path, monkeypatch):
    real, before, seen = Bicubic.upscale, (torch.get_num_threads(), cv2.getNumThreads()), set()

    def upscale(self, jobs):
        seen.add((torch.get_num_threads(), cv2.getNumThreads()))
        return real(self, jobs)

    monkeypatch.setattr(Bicubic, "upscale", upscale)
    recipe = recipes.load("demo", "generate", [*tiny_overrides, "severity=[0, 1]"], {"models": ["bicubic"], "samples": 4})
    try:
        torch.set_num_threads(2)
        cv2.setNumThreads(2)
        assert run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
        assert list(replay(tmp_path / "out", 1, "cpu")) == [None]
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    assert seen == {(1, 1)}


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_is_written(tiny_recipe, tmp_path):
    with pytest.raises(UserError, match=r"The path .*out\\udcff is not UTF-8 text"):
        run.generate(tiny_recipe, tmp_path / "out\udcff", workers=1, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_twice_at_once_waits_and_finds_the_dataset_made(tiny_overrides, command, tmp_path):
    both = [subprocess.Popen(command(tmp_path / "out"), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("is at work on the dataset" in text for text in said) == 1
    assert sum("samples: 20/20" in text for text in said) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "fgr.json", "samples"]


def test_a_workspace_that_goes_because_another_process_finished_is_no_mistake(tiny, tiny_recipe, tmp_path, monkeypatch):
    """As with two parts of a job array that end together, on a disk without locks."""
    out = tmp_path / "out"
    finish = run._plan_and_calibrate

    def overtaken(*_):
        shutil.copytree(tiny, out, dirs_exist_ok=True)
        shutil.rmtree(out / ".fgr")
        raise FileNotFoundError(2, "No such file", str(out / ".fgr" / "plan"))

    monkeypatch.setattr(run, "_plan_and_calibrate", overtaken)
    assert run.generate(tiny_recipe, out, workers=1, device="cpu", shard=(1, 2))
    assert not (out / ".fgr").exists()
    shutil.rmtree(out)
    monkeypatch.setattr(run, "_plan_and_calibrate", lambda *_: finish(*_) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.generate(tiny_recipe, out, workers=1, device="cpu")


@pytest.mark.parametrize("when", ["before it reads the states", "when it is done"])
def test_two_parts_of_a_job_array_that_finish_together(tiny, tiny_recipe, tmp_path, monkeypatch, when):
    """Another process finishes the dataset under this one: `.fgr` vanishes."""
    out, finish, remove = tmp_path / "out", run._finish, Workspace.remove

    def other(*_):
        shutil.copytree(tiny, out, dirs_exist_ok=True)
        remove(Workspace(out))

    def before(act, *given):
        other()
        return act(*given)

    with monkeypatch.context() as patch:
        if when == "before it reads the states":
            patch.setattr(run, "_finish", lambda *given: before(finish, *given))
        else:
            patch.setattr(Workspace, "remove", lambda self: before(remove, self))
        assert run.generate(tiny_recipe, out, workers=1, device="cpu")
    assert contents(out) == contents(tiny)
