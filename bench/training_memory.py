"""What training takes of a GPU's memory, computed before it runs: kept activations and parameters, on the meta device.

    python -m bench.training_memory [--measure]

Networks run forward without memory for their tensors, and autograd says which tensors it would keep for the backward pass. What a
step takes is then, in bytes: 4 a parameter; 20 more for each that learns (gradient, Adam's two moments, the average and the best
average); 2 more in bf16 for the copy that products are made of; the kept tensors of a batch, a quarter more for what the backward
pass needs beside them; and 1 GB for CUDA and its kernels. `--measure` compares the kept tensors with the memory that the process
takes on the CPU.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

from bench.cost import sd_x4
from bench.random_weights import RRDB
from fgr.reward.model import FinPercepRM

CARDS = (8, 16, 24, 80)  # GB
BESIDE, CONTEXT = 1.25, 1e9
STAGES = 4  # reward models of a run, RM_0 … RM_3
BASE = 102e6  # parameters of CLIP RN50, which the paper's recipes distil
HALF, FULL = torch.bfloat16, torch.float32
Run = Callable[[], torch.Tensor]


class Case(NamedTuple):
    """A training: parameters that are there and those that learn, bytes kept for an image of the batch, and the precision."""

    name: str
    parameters: float
    learned: float
    kept: float
    precision: torch.dtype = FULL

    def fixed(self) -> float:
        """Bytes without a batch."""
        return CONTEXT + (4 + 2 * (self.precision == HALF)) * self.parameters + 20 * self.learned

    def batch(self, card: float) -> int:
        """The largest batch on a GPU of so many GB, of which a twentieth is left alone; 0 for none."""
        return max(0, int((0.95e9 * card - self.fixed()) / (BESIDE * self.kept)))


def kept(networks: Iterable[torch.nn.Module], run: Run) -> float:
    """Bytes of the tensors that autograd keeps of `run`, without the weights of `networks`, each storage once."""
    own = {value.untyped_storage()._cdata for one in networks for value in (*one.parameters(), *one.buffers())}
    seen: dict[int, torch.Tensor] = {}  # the tensors too, so that no storage's number is given again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return float(sum(one.untyped_storage().nbytes() for one in seen.values()))


def size(*networks: torch.nn.Module) -> float:
    return float(sum(value.numel() for one in networks for value in one.parameters()))


def reward_model(encoder: str, device: str = "meta") -> torch.nn.Module:
    """RM_3 on an encoder."""
    with torch.device(device):
        return FinPercepRM(encoder, stage=3)


def of_image(network: torch.nn.Module, side: int, images: int = 1, dtype: torch.dtype = FULL, device: str = "meta") -> float:
    """Bytes kept of `images` of `side` pixels in a network of images."""
    network = network.to(dtype)
    image = torch.rand(images, 3, side, side, device=device, dtype=dtype).requires_grad_()
    return kept([network], lambda: network(image)[0])


def train_rm(name: str, encoder: str, crop: int, precision: torch.dtype, base: float) -> Case:
    """A sample is reference, composite and SR image."""
    model = reward_model(encoder)
    return Case(f"train-rm {name}", size(model) + base, size(model), of_image(model, crop, 3, precision), precision)


def rrdbnet(device: str = "meta") -> Any:
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    channels, blocks = RRDB[True]
    with torch.device(device):
        return RRDBNet(num_filters=channels, num_blocks=blocks, scale=4)


def direct(name: str, encoder: str, crop: int, low_rank: bool) -> Case:
    """The policy's activations and the reward model's, in fp32, at the output; with low-rank changes blocks are recomputed."""
    network, judge = rrdbnet(), reward_model(encoder)
    precision = HALF if low_rank else FULL
    whole = of_image(network, crop, 1, precision)
    if low_rank:  # what goes into each block is kept, and all of one block
        blocks = RRDB[True][1]
        whole = whole / blocks + blocks * RRDB[True][0] * crop**2 * precision.itemsize
    network_size, judges = size(network), STAGES * size(judge)
    learned, frozen = (0.05 * network_size, 0.0) if low_rank else (network_size, network_size)
    image = 6 * 3 * (4 * crop) ** 2 * 4  # output, start, reference and gradients
    return Case(name, network_size + frozen + judges, learned, whole + of_image(judge, 4 * crop) + image, precision)


def diffusion(name: str, predictions: int, decoded: int, passes: int, crop: int = 64, recompute: bool = True) -> Case:
    """Steps on sd-x4-upscaler: `predictions` of the UNet are kept (recomputed: one of them), `passes` in each (guidance: 2), and
    `decoded` images."""
    with torch.device("meta"):
        unet, vae, text = (part.module for part in sd_x4(1, 1))
    judge = reward_model("tf_efficientnet_lite0")
    parameters = size(unet, vae, text) + STAGES * size(judge)
    learned = 0.02 * size(unet)

    def predict() -> torch.Tensor:
        latents = torch.empty(passes, 7, crop, crop, device="meta", dtype=HALF).requires_grad_()
        words = torch.empty(passes, 77, 1024, device="meta", dtype=HALF)
        level = time = torch.zeros(passes, dtype=torch.long, device="meta")
        return unet.to(HALF)(latents, time, words, class_labels=level).sample

    def decode() -> torch.Tensor:
        return vae.to(HALF).decode(torch.empty(1, 4, crop, crop, device="meta", dtype=HALF).requires_grad_()).sample

    one, images = kept([unet], predict), decoded * (kept([vae], decode) + of_image(judge, 4 * crop)) if decoded else 0.0
    return Case(name, parameters, learned, one * (1 if recompute else predictions) + images, HALF)


def cases() -> Iterator[Case]:
    """The trainings of the shipped recipes."""
    yield train_rm("finpercep-plus (RN50, crop 512, bf16)", "resnet50_clip", 512, HALF, BASE)
    yield train_rm("finpercep-plus data.crop=256", "resnet50_clip", 256, HALF, BASE)
    yield train_rm("fgr-lite (lite0, crop 128)", "tf_efficientnet_lite0", 128, FULL, 0)
    yield train_rm("demo (lite0, crop 192)", "tf_efficientnet_lite0", 192, FULL, 0)
    yield direct("rlhf ccl-realesrgan, direct (LoRA, crop 64, bf16)", "tf_efficientnet_lite0", 64, True)
    yield direct("the same with a reward of RN50", "resnet50_clip", 64, True)
    yield direct("the same, policy.train=all, fp32", "tf_efficientnet_lite0", 64, False)
    yield diffusion("rlhf refl-sd-x4 (crop 64, guidance 4)", 1, 2, 2)
    yield diffusion("refl-sd-x4 data.crop=48 sampling.guidance=1 algorithm.low_frequency=0", 1, 1, 1, 48)
    yield diffusion("refl-sd-x4 with algorithm.name=draft, any K", 1, 1, 2)
    yield diffusion("rlhf dpo-triplets on sd-x4-upscaler", 2, 0, 1, recompute=False)
    yield diffusion("grpo on sd-x4-upscaler, a member of a group", 1, 0, 2, recompute=False)


def peak(network: Callable[[], torch.nn.Module], side: int, images: int, out: Any) -> None:
    """Put the GB that a forward and backward pass on the CPU add to the process, at most."""
    model = network()
    image = torch.rand(images, 3, side, side).requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = _kilobytes("VmRSS")
    model(image)[0].sum().backward()
    out.put((_kilobytes("VmHWM") - before) * 1024)


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def lite0() -> torch.nn.Module:
    return reward_model("tf_efficientnet_lite0", "cpu")


def resnet() -> torch.nn.Module:
    return reward_model("resnet50_clip", "cpu")


def network() -> torch.nn.Module:
    return rrdbnet("cpu")


def measure() -> None:
    """Kept tensors and gradients, by computation, against what the process takes."""
    print("| forward and backward on the CPU, fp32 | computed, GB | measured, GB |\n|---|---|---|")
    processes = multiprocessing.get_context("spawn")
    measured = {
        "RM_3 on lite0, six of 192²": (lite0, 192, 6), "RM_3 on RN50, two of 256²": (resnet, 256, 2),
        "RRDBNet, one of 32²": (network, 32, 1),
    }  # fmt: skip
    for name, (build, side, images) in measured.items():
        model = build()
        computed = BESIDE * of_image(model, side, images, device="cpu") + 4 * size(model)
        out = processes.Queue()
        child = processes.Process(target=peak, args=(build, side, images, out))
        child.start()
        print(f"| {name} | {computed / 1e9:.2f} | {out.get() / 1e9:.2f} |", flush=True)
        child.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="compare with the memory of a process on the CPU")
    if parser.parse_args().measure:
        measure()
        return
    head = ["training", "GB without a batch", "GB an image", *(f"{card} GB" for card in CARDS)]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for case in cases():
        sizes = " | ".join(str(case.batch(card) or "–") for card in CARDS)
        print(f"| {case.name} | {case.fixed() / 1e9:.1f} | {BESIDE * case.kept / 1e9:.2f} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
