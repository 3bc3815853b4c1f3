import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from fgr.images import basicsr_kernels

ROOT = Path(__file__).parents[1]


def test_the_two_opencv_packages_are_one_version():
    assert version("opencv-python") == version("opencv-python-headless")


def test_the_constraints_name_versions_and_no_address():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)
    assert {"opencv-python==4.12.0.88", "opencv-python-headless==4.12.0.88"} <= set(lines)


def test_basicsr_is_importable_from_a_fresh_process():
    script = "from fgr.images import basicsr_kernels as k; print(round(float(k.gaussian(7, 1, 1, 0, True).sum()), 6))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.0", done.stderr


def test_only_one_module_imports_basicsr():
    importing = re.compile(r"^\s*(import|from) basicsr\b", re.MULTILINE)
    found = {path.name for path in (ROOT / "fgr").rglob("*.py") if importing.search(path.read_text())}
    assert found == {"basicsr_kernels.py"}


@pytest.mark.parametrize("shape", basicsr_kernels.SHAPES)
def test_kernels_sum_to_one_and_turn(shape):
    beta = {} if shape == "gaussian" else {"beta": 1.3}
    kernel = basicsr_kernels.SHAPES[shape](15, 3.0, 1.0, 0.0, isotropic=False, **beta)
    turned = basicsr_kernels.SHAPES[shape](15, 3.0, 1.0, np.pi / 2, isotropic=False, **beta)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[7].sum() > kernel[:, 7].sum()
    assert np.allclose(turned, kernel.T)


def test_a_hand_worked_gaussian():
    kernel = basicsr_kernels.gaussian(3, 1.0, 1.0, 0.0, True)
    assert kernel[1, 0] / kernel[1, 1] == pytest.approx(np.exp(-0.5))
    assert kernel[0, 0] / kernel[1, 1] == pytest.approx(np.exp(-1))
