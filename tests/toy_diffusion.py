"""Diffusion policies to test on: a toy with a known best answer, and small models of the zoo."""

import torch
from diffusers import DDIMScheduler

from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.recipe.sampling import Sampling
from fgr.rlhf.algorithms.interface import TrainingStep
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.policies import open_policy
from fgr.rlhf.trained_reward import Reward
from fgr.sr import parse_name
from fgr.sr.diffusion.samplers import DdimSampler
from fgr.sr.diffusion.stepwise import Start, draw

LOW = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BEST = 0.1 / 0.05  # the reward of images of one grey


class ToyModel:
    """A latent is one colour in [−1, 1], the image's mean; the network is a 1×1 convolution of noise and colour."""

    multiple, smallest_tile = 8, 8

    def __init__(self, steps):
        torch.manual_seed(0)
        unet = torch.nn.Sequential(torch.nn.Conv2d(6, 3, 1))
        torch.nn.init.normal_(unet[0].weight, std=0.3)
        torch.nn.init.constant_(unet[0].bias, -0.5)
        self.networks, self.settings = {"unet": unet}, {"seed": 0}
        self.sampler = DdimSampler(DDIMScheduler(prediction_type="sample", clip_sample=False), steps)

    def begin(self, images, sources, prompts=None):
        return Start(draw((len(images), 3, 1, 1), sources, images), {"colour": images.mean((2, 3), keepdim=True)})

    def predict(self, latents, times, start):
        return self.networks["unet"](torch.cat([latents, start.condition["colour"]], 1))

    def decode(self, latents, start):
        return torch.nn.functional.interpolate(latents, scale_factor=32) / 2 + 0.5

    def encode(self, images):
        return images.mean((2, 3), keepdim=True) * 2 - 1


def toy(steps=6, model=ToyModel):
    policy = DiffusionPolicy("toy", model(steps), "0", "none")
    torch.manual_seed(0)
    policy.learn(low_rank(2, 2))
    return policy


def low_rank(rank=2, alpha=4):
    """The recipe's `policy` that lets low-rank changes learn."""
    return PolicySettings(train="lora", lora_rank=rank, lora_alpha=alpha)


def diffusion_policy(name, settings=None, rank=2, alpha=4):
    """The diffusion model of that name in a weights folder, with low-rank changes that learn."""
    policy = open_policy(parse_name(name), "refl", [name], Sampling(**{"prompt": ""} | (settings or {})))
    policy.learn(low_rank(rank, alpha))
    return policy


def grey_reward(target=0.7):
    """Largest for images that are of one grey everywhere."""
    found = Reward("grey", lambda images: [-(images - target).square().mean((1, 2, 3))], {"grey": 1.0})
    found.mean, found.sd, found.weight = torch.tensor([-0.1]), torch.tensor([0.05]), 1.0
    return found


def training_step(policy, backward=lambda loss: loss.backward(), update=lambda: None):
    """What the tuning loop gives an algorithm; here gradients are only collected."""
    return TrainingStep(policy, 0, 1.0, backward, update)


def optimized(algorithm, policy, steps, lr, batch=4):
    """The mean reward of samples before and after `steps` steps of Adam."""
    optimizer = torch.optim.Adam(policy.learned().values(), lr=lr)
    reward, generator = algorithm.rewards[0], torch.Generator().manual_seed(3)
    held_out = torch.rand(8, 3, 8, 8, generator=generator)
    before = float(reward.value(policy(held_out)).mean())

    def update():
        optimizer.step()
        optimizer.zero_grad()

    for number in range(steps):
        low = torch.rand(batch, 3, 8, 8, generator=generator)
        good, bad = torch.full((batch, 3, 32, 32), 0.7), torch.full((batch, 3, 32, 32), 0.2)
        algorithm.step(Batch(low, good, bad, number), training_step(policy, update=update))
        update()
    return before, float(reward.value(policy(held_out)).mean())


def moved(policy):
    """The policy with learning tensors that are not those it began with."""
    generator = torch.Generator().manual_seed(1)
    policy.put({name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in policy.learned().items()})
    return policy
