"""torchvision's classification weights, without a network: random ones in the official format, or none at all."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from fgr import backbone_weights
from fgr.tensors import file_digest


def without_network(monkeypatch, folder: Path) -> Path:
    """torch's cache is in `folder`, and downloads fail; the folder of the cached checkpoints."""

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return folder / "checkpoints"


def put_weights(monkeypatch, checkpoints: Path, name: str, content: object = None) -> str:
    """Save `content`, by default random weights, as the file that torchvision expects of `name` (alexnet, vgg16), under a name
    with its own digest; the file's name. The classifier, which no metric uses, is one number repeated."""
    import torchvision

    architecture, weights = {
        "alexnet": (torchvision.models.alexnet, torchvision.models.AlexNet_Weights.DEFAULT),
        "vgg16": (torchvision.models.vgg16, torchvision.models.VGG16_Weights.DEFAULT),
    }[name]
    torch.save(random_weights(architecture) if content is None else content, checkpoints / "new.pth")
    digest = hashlib.sha256((checkpoints / "new.pth").read_bytes()).hexdigest()[:8]
    file = checkpoints / f"{name}-{digest}.pth"
    (checkpoints / "new.pth").rename(file)
    monkeypatch.setattr(weights.value, "url", f"https://download.example/{file.name}")
    return file.name


def random_weights(architecture) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in architecture().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros(1).expand(shape) if name.startswith("classifier") else torch.randn(shape, generator=generator) * 0.05
        for name, shape in shapes.items()
    }


def put_mobilenet(monkeypatch, folder: Path) -> torch.nn.Module:
    """Random weights of torchvision's MobileNetV2, in the file and the format in which a package carries the trained ones, in the
    weights folder `folder`; the network that they are of."""
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.mobilenet_v2().eval()
        for name, value in network.named_buffers():  # as if trained: no mean is 0, no variance 1
            if name.endswith(("running_mean", "running_var")):
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else -0.5))
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("FGR_WEIGHTS", str(folder))
    file = backbone_weights.kept_file("mobilenetv2_100")
    torch.save(network.state_dict(), file)
    known = replace(backbone_weights.PACKAGED["mobilenetv2_100"], sha256=file_digest(file))
    monkeypatch.setitem(backbone_weights.PACKAGED, "mobilenetv2_100", known)
    return network
