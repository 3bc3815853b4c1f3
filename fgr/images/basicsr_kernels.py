"""The deterministic blur kernels of basicsr 1.4.2, importable beside today's torchvision.

basicsr imports `torchvision.transforms.functional_tensor`, which torchvision dropped in 0.17; a stand-in of that name with the
one function it wants is registered before its first import. Nothing else in the project imports basicsr. Its `random_*`
functions draw from global generators and are not used.
"""

import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np

MOVED = "torchvision.transforms.functional_tensor"


def make_importable() -> None:
    """Let `import basicsr` succeed; does nothing where torchvision still has the module it wants."""
    if MOVED in sys.modules or importlib.util.find_spec(MOVED) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    stand_in = types.ModuleType(MOVED)
    stand_in.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[MOVED] = stand_in


@cache
def _degradations() -> types.ModuleType:
    make_importable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # basicsr imports scipy.ndimage.filters
        from basicsr.data import degradations
    return degradations


def gaussian(size: int, sigma_x: float, sigma_y: float, rotation: float, isotropic: bool) -> np.ndarray:
    """Gaussian kernel (size, size) that sums to 1; `rotation` in radians; isotropic uses `sigma_x` alone."""
    return _degradations().bivariate_Gaussian(size, sigma_x, sigma_y, rotation, isotropic=isotropic)


def generalised(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float, isotropic: bool) -> np.ndarray:
    """Generalised Gaussian kernel (size, size) of shape `beta` (1 = Gaussian) that sums to 1."""
    return _degradations().bivariate_generalized_Gaussian(size, sigma_x, sigma_y, rotation, beta, isotropic=isotropic)


def plateau(size: int, sigma_x: float, sigma_y: float, rotation: float, beta: float, isotropic: bool) -> np.ndarray:
    """Plateau-shaped kernel (size, size) that sums to 1."""
    return _degradations().bivariate_plateau(size, sigma_x, sigma_y, rotation, beta, isotropic=isotropic)


def sinc(size: int, omega: float) -> np.ndarray:
    """Circular low-pass (sinc) kernel (size, size) of cut-off `omega` in radians that sums to 1: rings like over-sharpening."""
    with np.errstate(invalid="ignore"):  # 0 / 0 in the middle, which basicsr then fills in
        return _degradations().circular_lowpass_kernel(omega, size, pad_to=0)


SHAPES: dict[str, Callable[..., np.ndarray]] = {"gaussian": gaussian, "generalised": generalised, "plateau": plateau}
