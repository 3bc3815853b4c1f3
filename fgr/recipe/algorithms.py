"""The algorithms of `fgr rlhf`: one model an algorithm, with the keys of that algorithm alone."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import Strict, Weight

Share = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]
Hinge = float | Literal["reference"] | None
HINGE = "reward in z-units from which an image has no gradient; reference = its own reference's; null = none"


class Settings(Strict):
    """An algorithm's settings, told apart by `name`."""

    tunes: ClassVar[Literal["networks", "diffusion models"]] = "diffusion models"

    @property
    def needs_reference(self) -> bool:
        """Whether the reward's gradient ends at the reference's own reward."""
        return getattr(self, "hinge", None) == "reference"


class DirectSettings(Settings):
    """The reward's gradient goes through the network; for deterministic networks."""

    tunes = "networks"
    name: Literal["direct"] = "direct"
    hinge: Hinge = Field(None, description=HINGE)


class ReflSettings(Settings):
    """ReFL (arXiv 2304.05977): the reward's gradient goes through one late denoising step. Shares are of the denoising steps."""

    name: Literal["refl"]
    anchor: Weight = Field(0.0, description="weight of the predictions' squared distance to those of the untuned model")
    hinge: Hinge = Field(2.0, description=HINGE)
    late: tuple[float, float] = Field((0.75, 1.0), description="range that the one step with a gradient is drawn from")
    endpoint: bool = Field(False, description="take the reward of the final sample, not of the prediction of x_0")
    early: Share = Field(0.4, description="the step of the low-frequency loss is drawn from the first steps, up to this share")
    low_frequency: Weight = Field(0.0, description="weight of the L1 loss between early prediction and reference, 8×8 means")

    @model_validator(mode="after")
    def _is_a_range(self) -> "ReflSettings":
        if not 0 <= self.late[0] < self.late[1] <= 1:
            raise ValueError("late must be two shares between 0 and 1, the lower first")
        return self


class DraftSettings(Settings):
    """DRaFT-K (arXiv 2309.17400): the reward's gradient goes through the last K denoising steps."""

    name: Literal["draft"]
    anchor: Weight = Field(0.0, description="weight of the predictions' squared distance to those of the untuned model")
    hinge: Hinge = Field(2.0, description=HINGE)
    last: Steps = Field(1, description="K, the denoising steps that the gradient goes through")


class DraftLvSettings(Settings):
    """DRaFT-LV (arXiv 2309.17400): the last denoising step, from several noised versions of the sample."""

    name: Literal["draft-lv"]
    anchor: Weight = Field(0.0, description="weight of the predictions' squared distance to those of the untuned model")
    hinge: Hinge = Field(2.0, description=HINGE)
    draws: Steps = Field(2, description="noises that the last step is drawn with")


class GrpoSettings(Settings):
    """GRPO: a policy gradient over stochastic denoising steps, advantages within groups of samples of one input."""

    name: Literal["grpo"]
    group: int = Field(8, ge=2, description="samples of an input; one alone would have no advantage")
    eta: float = Field(1.0, gt=0, le=1, description="DDIM's η in the learned denoising steps: 1 = as stochastic as DDPM")
    updates: Steps = Field(1, description="optimizer steps on one rollout")
    clip: float = Field(1e-4, gt=0, description="clip range: probability ratios count within 1 ± this")
    advantage_clip: float = Field(5.0, gt=0, description="advantages are limited to ± this")
    spread: Literal["group", "global", "none"] = Field(
        "global", description="standard deviation that advantages are divided by: the group's own, the batch's, or none"
    )
    beta: Weight = Field(0.04, description="weight of the KL penalty to the untuned model")
    window: int = Field(0, ge=0, description="stochastic steps in a sliding window (MixGRPO); 0 = all")
    window_every: Steps = Field(25, description="training steps after which the window moves on by one")
    shared_noise: bool = Field(True, description="members of a group begin from the same noise")
    dense: bool = Field(False, description="an advantage a latent pixel, from the degradation map (DenseFlow-GRPO)")


class DpoSettings(Settings):
    """Diffusion-DPO (arXiv 2311.12908): the denoising loss of preferred images against that of others, for the same input."""

    name: Literal["dpo"]
    pairs: Literal["triplets", "preferences", "samples"] = Field(
        "triplets",
        description="reference over composite over SR image; people's choices; or own samples, ranked by the reward",
    )
    beta: float = Field(2000.0, gt=0, description="how strongly the policy is kept at the untuned model")
    samples: int = Field(8, ge=2, description="pairs=samples: samples of an input")
    top: Steps = Field(2, description="pairs=samples: the best so many are paired with as many of the worst")

    @model_validator(mode="after")
    def _do_not_overlap(self) -> "DpoSettings":
        if self.pairs == "samples" and 2 * self.top > self.samples:
            raise ValueError("the best and the worst samples overlap: top must be at most half of samples")
        return self


PathwiseSettings = ReflSettings | DraftSettings | DraftLvSettings
AlgorithmSettings = Annotated[DirectSettings | PathwiseSettings | GrpoSettings | DpoSettings, Field(discriminator="name")]
