import fcntl
import json
import os

import pytest
import torch

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.training import directory as runs


def begin(directory, recipe=None, kind="reward", facts=None):
    run = runs.Run(directory)
    run.start(kind, recipe or {"lr": 1}, facts or {"data": "x"})
    return run


def test_a_run_goes_on_only_with_its_own_recipe(tmp_path):
    begin(tmp_path / "run")
    begin(tmp_path / "run")
    with pytest.raises(UserError, match=r"another recipe:\n  lr: 1 there, 2 here"):
        begin(tmp_path / "run", {"lr": 2})
    with pytest.raises(UserError, match="data: 'x' there, 'y' here"):
        begin(tmp_path / "run", facts={"data": "y"})
    with pytest.raises(UserError, match="kind: reward there, rlhf here"):
        begin(tmp_path / "run", kind="rlhf")
    assert runs.read(tmp_path / "run")["recipe"] == {"lr": 1}


def test_a_run_of_an_earlier_version_goes_on_if_what_came_since_is_at_its_default(tmp_path):
    now = recipes.resolved(recipes.load("demo", "reward"))
    earlier = {key: value for key, value in now.items() if key != "planted"}
    begin(tmp_path / "run", earlier)
    begin(tmp_path / "run", now)
    with pytest.raises(UserError, match=r"another recipe:\n  planted\.share: 0\.0 there, 0\.5 here"):
        begin(tmp_path / "run", now | {"planted": now["planted"] | {"share": 0.5}})


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match="not a training run"):
        begin(tmp_path)
    with pytest.raises(UserError, match=r"no run\.json"):
        runs.read(tmp_path)


def test_a_check_creates_nothing(tmp_path):
    run = runs.Run(tmp_path / "run")
    run.expect("reward", {"lr": 1}, {})
    assert not (tmp_path / "run").exists()
    run.start("reward", {"lr": 1}, {})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    run.expect("reward", {"lr": 1}, {})
    with pytest.raises(UserError, match="another recipe"):
        run.expect("reward", {"lr": 2}, {})
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_metrics_are_json_and_survive_a_cut(tmp_path):
    run = begin(tmp_path / "run")
    run.log(step=1, loss=0.5, map={"ap": float("nan")}, list=[float("inf"), 1.0])
    run.log(step=2, loss=0.25)
    with open(run.metrics, "a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in runs.metrics(tmp_path / "run")] == [1, 2]
    assert json.loads(run.metrics.read_text().splitlines()[0]) == {
        "step": 1,
        "loss": 0.5,
        "map": {"ap": None},
        "list": [None, 1.0],
    }
    run.keep(lambda line: line["step"] < 2)
    assert run.metrics.read_text().count("\n") == 1


def test_a_checkpoint_comes_back_and_a_damaged_one_is_a_sentence(tmp_path):
    run = begin(tmp_path / "run")
    assert run.load() is None
    run.save({"step": 3, "weights": {"a": torch.arange(3.0)}})
    state = run.load()
    assert state["step"] == 3
    assert torch.equal(state["weights"]["a"], torch.arange(3.0))
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged"):
        run.load()


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.unlink()])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, spoil):
    run = begin(tmp_path / "run")
    for step in (1, 2, 3):
        run.save({"step": step})
    assert run.load() == {"step": 3}
    assert capsys.readouterr().err == ""
    spoil(run.checkpoint)
    assert run.load() == {"step": 2}
    assert "goes on from checkpoint-before.pt" in capsys.readouterr().err
    run.before.write_bytes(b"")
    if run.checkpoint.exists():
        with pytest.raises(UserError, match="and so is the one before it"):
            run.load()


def test_only_one_process_trains_a_run(tmp_path):
    run = begin(tmp_path / "run")
    with run.alone():
        handle = os.open(tmp_path / "run" / ".lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        with runs.Run(tmp_path / "run", main=False).alone():
            pass
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    run.save({"step": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run.save({"step": 2})
    assert run.load() == {"step": 1}
    assert not list((tmp_path / "run").glob(".*"))


def test_only_the_first_process_writes(tmp_path):
    run = runs.Run(tmp_path / "run", main=False)
    run.start("reward", {}, {})
    run.log(step=1)
    run.save({})
    assert not (tmp_path / "run").exists()


def test_more_steps_extend_a_run_and_take_back_what_says_that_it_is_finished(tmp_path):
    out, keys = tmp_path / "run", ("training.steps", "stages")
    first = {"training": {"steps": 4, "lr": 1}, "stages": [2, 3]}
    run = begin(out, first)
    run.save({"step": 4})
    (out / "summary.json").write_text("{}")
    (out / "stage-1").mkdir()
    for steps, stages in ((8, [2, 3]), (8, [2, 5])):
        more = {"training": {"steps": steps, "lr": 1}, "stages": stages}
        with pytest.raises(UserError, match="another recipe"):
            begin(out, more)
        runs.Run(out).start("reward", more, {"data": "x"}, keys, ("summary.json", "stage-1"))
        assert runs.read(out)["recipe"] == more
        assert not (out / "summary.json").exists()
        assert not (out / "stage-1").exists()
    for other in ({"stages": [3, 9]}, {"stages": [2, 5, 5]}, {"stages": [2, 4]}, {"training": {"steps": 7, "lr": 1}}):
        with pytest.raises(UserError, match="another recipe"):
            runs.Run(out).expect("reward", more | other, {"data": "x"}, keys)
    (out / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"cannot be extended \(training\.steps\)"):
        runs.Run(out).expect("reward", more | {"training": {"steps": 9, "lr": 1}}, {"data": "x"}, keys)
