"""Full-reference distances of learned features: LPIPS, DISTS, and those of any network of timm.

torchvision itself would unpickle whatever lies in torch's cache. Here the file is checked first: by the digest in its name, and
by reading it with nothing but tensors allowed.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fgr.backbone_weights import here
from fgr.backbones import open_backbone
from fgr.errors import UserError
from fgr.tensors import file_digest, unpickled

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # two float (B, 3, H, W) in [0, 1] → (B,), 0 = identical
LITE0 = "tf_efficientnet_lite0"
DIGEST = re.compile(r"-([0-9a-f]{8,})\.")  # how torch.hub names files: NAME-SHA256.pth, the first digits of it


def open_lpips(network: Literal["alex", "vgg"], device: torch.device | str = "cpu") -> tuple[Distance, str]:
    """LPIPS (Zhang et al. 2018) and the name of its weights' file; differentiable. UserError for weights that are not available.

    The linear layers are those of version 0.1, which torchmetrics carries.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    weights = {"alex": AlexNet_Weights.DEFAULT, "vgg": VGG16_Weights.DEFAULT}[network]
    file = checked_weights(weights.url, "LPIPS")
    model = LearnedPerceptualImagePatchSimilarity(net_type=network).net.to(device).eval().requires_grad_(False)
    return lambda a, b: model(a, b, normalize=True).flatten(), file.name


def open_dists(device: torch.device | str = "cpu") -> tuple[Distance, str]:
    """DISTS (Ding et al. 2020) and the name of its weights' file; differentiable. UserError as of `open_lpips`."""
    from torchmetrics.functional.image.dists import DISTSNetwork
    from torchvision.models import VGG16_Weights

    file = checked_weights(VGG16_Weights.DEFAULT.url, "DISTS")
    model = DISTSNetwork().to(device).eval().requires_grad_(False)
    return lambda a, b: model(a, b, require_grad=a.requires_grad).reshape(len(a)), file.name


class FeatureDistance(nn.Module):
    """Mean squared distance of unit features: LPIPS (Zhang et al. 2018, equation 1) without its learned weights.

    `pyramid` gives features (B, C, h, w) of several depths for images normalised by `mean` and `std`. At each depth the features
    of a place are scaled to unit length; the squared distances are averaged over the places, then over the depths.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, pyramid: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The distances (B,) of images (B, 3, H, W) in [0, 1], in [0, 4]; 0 = identical."""
        levels = zip(self._features(image), self._features(reference), strict=True)
        return torch.stack([(one - other).square().sum(1).mean((1, 2)) for one, other in levels]).mean(0)

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        levels = self.pyramid((image - self.mean) / self.std)
        return [level * torch.rsqrt(level.square().sum(1, keepdim=True) + 1e-10) for level in levels]


def open_feature_distance(network: str, device: torch.device | str = "cpu", instead: str = "") -> tuple[Distance, str]:
    """`FeatureDistance` on all depths of the network that timm calls so, and where its weights are from; differentiable.

    It hardly sees a uniform change of brightness: PSNR belongs beside it. UserError for weights that are not available, whose
    hint `instead` ends.
    """
    backbone = open_backbone(network, features_only=True, instead=instead)
    config = backbone.network.pretrained_cfg
    model = FeatureDistance(backbone.network, config["mean"], config["std"]).to(device).eval().requires_grad_(False)
    return model, str(backbone.weights)


def is_at_hand(name: str) -> bool:
    """Whether the weights of `lpips`, `dists` or `lite0-distance` are on this machine, so that nothing would be fetched."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    if name == "lite0-distance":
        return here(LITE0) is not None
    url = {"lpips": AlexNet_Weights.DEFAULT, "dists": VGG16_Weights.DEFAULT}[name].url
    return _cached(url).is_file()


def checked_weights(url: str, needed_by: str) -> Path:
    """The file of `url` in torch's cache, fetched if it is not there; nothing but tensors is in it. UserError."""
    file = _cached(url)
    if not file.is_file():
        _fetch(url, file, needed_by)
    expected = DIGEST.search(file.name)
    if expected and not file_digest(file).startswith(expected[1]):
        raise UserError(
            f"{file}, which {needed_by} needs, is damaged or another file: its sha256 does not begin with {expected[1]}.",
            "Delete the file; it is fetched again.",
        )
    unpickled(file, lazily=True)
    return file


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / str(url).rpartition("/")[2]


def _fetch(url: str, file: Path, needed_by: str) -> None:
    expected = DIGEST.search(file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), expected[1] if expected else None, progress=False)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"The weights {file.name}, which {needed_by} needs, are not available: {reason}.",
            f"Connect to the internet, or copy the file into {file.parent} (TORCH_HOME names another folder).",
        ) from None
