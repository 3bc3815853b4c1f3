import errno
import os
import subprocess
import sys

import pytest

from fgr.cli.shell import sentence
from fgr.errors import UserError


def fgr(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fgr", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_help_and_import_load_nothing_heavy():
    heavy = {"torch", "datasets", "ray", "diffusers", "pyarrow", "cv2", "pydantic"}
    script = f"import sys, fgr.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert fgr("--help").returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["models", "bicubic"]])
def test_commands_that_compute_nothing_load_nothing_that_does(arguments):
    script = (
        "import sys; from fgr.cli import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'datasets', 'scipy', 'pandas', 'polars', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_environment_says_otherwise(monkeypatch, given, expected):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    script = (
        "import os, sys, fgr.cli as c; c.app = lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules); c.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]


def test_help_answers_in_less_than_0_4_seconds():
    """Processor time, the least of three: a busy machine is not the program's fault."""
    spent = []
    for _ in range(3):
        before = os.times()
        assert fgr("--help").returncode == 0
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(spent) < 0.4


def test_every_verb_explains_itself():
    listed = fgr("--help").stdout
    for verb in (
        "generate",
        "verify",
        "models",
        "report",
        "annotate",
        "train-rm",
        "score",
        "evaluate",
        "export",
        "app",
        "rlhf",
        "publish",
    ):
        assert verb in listed
        assert fgr(verb, "--help").returncode == 0


def test_usage_errors_exit_with_2(tmp_path):
    assert fgr("generate", "demo").returncode == 2
    assert fgr("generate", "demo", "--out", tmp_path, "--shard", "3/3").returncode == 2
    assert fgr("nonsense").returncode == 2


def test_user_errors_exit_with_1_without_a_traceback(tmp_path):
    done = fgr("generate", "no-such-recipe", "--out", tmp_path / "x")
    assert done.returncode == 1
    assert "There is no recipe 'no-such-recipe'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert "Traceback" in fgr("generate", "no-such-recipe", "--out", tmp_path / "x", FGR_DEBUG="1").stderr


def test_an_interrupt_exits_with_130():
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # programs in the background begin deaf to it
    script = f"import fgr.cli, os, signal\n{heed}\nfgr.cli.app = lambda: os.kill(os.getpid(), signal.SIGINT)\nfgr.cli.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Interrupted" in done.stderr


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (UserError("a happened", "do b"), "a happened\ndo b"),
        (OSError(errno.ENOSPC, "No space", "x"), "No space is left on the disk (x)"),
        (PermissionError(errno.EACCES, "no", "y"), "No permission to write or read (y)"),
        (FileNotFoundError(errno.ENOENT, "no", "/proc/x"), "The path does not exist and cannot be created (/proc/x)"),
        (ValueError("odd"), "Unexpected ValueError: odd"),
    ],
)
def test_errors_become_sentences(error, part):
    assert part in sentence(error)


def test_version():
    assert fgr("--version").stdout.strip() == "0.1.0"


def test_a_name_that_is_not_utf_8_is_a_sentence():
    with pytest.raises(UnicodeEncodeError) as caught:
        "photos/\udcff\n.png".encode()
    assert sentence(caught.value).startswith("The name of a file or folder is not UTF-8 (photos/\\udcff\\n.png). Rename it")
