"""A toy diffusion policy with a known best answer: it predicts x_0 by a 1×1 convolution of noise and input."""

import torch
from diffusers import DDIMScheduler

from fgr.rlhf.algorithms.interface import TrainingStep
from fgr.rlhf.denoisers import Begun
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.trained_reward import Reward

LOW = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BEST = 0.1 / 0.05  # the reward of images of one grey


class ToyDenoiser:
    """A latent is one colour in [−1, 1], the image's mean; the network is a 1×1 convolution of noise and colour."""

    multiple = 8

    def __init__(self):
        torch.manual_seed(0)
        self.unet = torch.nn.Sequential(torch.nn.Conv2d(6, 3, 1))
        torch.nn.init.normal_(self.unet[0].weight, std=0.3)
        torch.nn.init.constant_(self.unet[0].bias, -0.5)
        self.scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False)

    def begin(self, low, sources):
        noise = torch.cat([torch.randn(1, 3, 1, 1, generator=source) for source in sources])
        return Begun(noise, {"colour": low.mean((2, 3), keepdim=True), "size": low.shape[-2:]})

    def predict(self, latents, time, condition):
        return self.unet(torch.cat([latents, condition["colour"]], 1))

    def decode(self, latents, condition):
        return torch.nn.functional.interpolate(latents, scale_factor=32) / 2 + 0.5

    def encode(self, images):
        return images.mean((2, 3), keepdim=True) * 2 - 1


def toy(steps=6):
    policy = DiffusionPolicy("toy", ToyDenoiser(), steps, "0", "none")
    torch.manual_seed(0)
    policy.learn_lora(2, 2)
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
