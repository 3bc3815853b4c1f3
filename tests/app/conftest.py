"""A real reward model of random weights, and the page that shows what it says."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    from fgr.reward.model import FinPercepRM

    torch.manual_seed(0)
    model = FinPercepRM()
    for level in model.decoder.levels:
        torch.nn.init.normal_(level.out.weight, std=0.3)
    folder = tmp_path_factory.mktemp("app") / "rm"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(request, reward, tmp_path_factory):
    """The page's address. The module's ENDED_BY (an interrupt if it has none) ends it: then no upload is left."""
    command = [
        sys.executable,
        "-m",
        "fgr",
        "app",
        "--reward",
        str(reward),
        "--models",
        "bicubic",
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # programs in the background begin deaf to it
    own = tmp_path_factory.mktemp("uploads")
    environment = os.environ | {"TMPDIR": str(own)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed, env=environment
    )
    address = process.stdout.readline().strip()
    yield address
    ended_by = getattr(request.module, "ENDED_BY", signal.SIGINT)
    process.send_signal(ended_by)
    try:
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + ended_by, told
    assert not list(own.glob("fgr-app-*"))
