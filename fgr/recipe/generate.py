"""Every hyperparameter of `fgr generate`."""

from typing import Literal

from pydantic import Field, model_validator

from fgr.recipe.fields import Share, Strict, Weight
from fgr.recipe.sampling import Sampling
from fgr.records import MASK_KINDS, SPLITS

LEAST_PHOTOGRAPHS = 200  # that are screened where there are so many, whatever few samples are wanted


class Source(Strict):
    """Where the photographs come from and which crops of them serve as references."""

    path: str = Field(
        "embedded", description="folder, dataset directory, Hub dataset id, or 'embedded': scikit-image's and -learn's"
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="photographs screened at most, drawn from a folder, the first ones of a dataset; null = twice as many as the "
        "samples need, and 200 at least",
    )
    crop: int = Field(512, ge=64, le=2048, multiple_of=16, description="side of a reference in pixels")
    crops_per_photo: int = Field(4, ge=1, description="at most this many crops of one photograph, richest in texture first")
    max_pixels: int = Field(100_000_000, ge=1, description="photographs above this are refused before decoding")
    min_texture: float = Field(2.0, ge=0, description="a crop with a lower mean gradient (in 8-bit steps) is too flat")
    min_sharpness: float = Field(15.0, ge=0, description="a crop with a lower variance of the Laplacian is too blurred")
    duplicate_bits: int = Field(4, ge=0, le=64, description="perceptual hashes at most this many bits apart are near duplicates")
    license: str = Field("unknown", description="licence of photographs that do not state their own")
    attribution: str = Field("", description="author of photographs that do not state their own")


class Splits(Strict):
    """Shares of photographs; a photograph's split follows from its own digest alone."""

    train: Share = Field(0.9, description="share of the photographs that training reads")
    validation: Share = Field(0.05, description="share that training is watched on")
    test: Share = Field(0.05, description="share that final figures are taken on")

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if abs(sum(getattr(self, split) for split in SPLITS) - 1) > 1e-6:
            raise ValueError("the three shares must add up to 1")
        return self


class Inference(Strict):
    """How SR models run; all of it belongs to a row's identity."""

    tile: int = Field(0, ge=0, description="side of a tile of the low-resolution input, 0 = whole; halved when memory runs out")
    overlap: int = Field(16, ge=0, description="low-resolution pixels that neighbouring tiles share")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="number format of the networks' arithmetic; auto = fp32, and on CUDA bf16 where a network stands it, or tf32",
    )
    batch: int = Field(8, ge=1, description="images a forward pass, on a GPU; fewer where its memory has no room for so many")
    compile: bool = Field(False, description="torch.compile the networks: minutes at first, rounding of its own")
    diffusion: Sampling = Sampling()


class Kinds(Strict):
    """Relative weights of the mask kinds."""

    polygon: Weight = Field(3.0, description="an irregular polygon")
    ellipse: Weight = Field(2.0, description="an ellipse, turned at random")
    stroke: Weight = Field(2.0, description="a brush stroke along a wandering path")
    semantic: Weight = Field(3.0, description="neighbouring segments of the reference, see `segments`")
    full: Weight = Field(1.0, description="the whole image")
    sham: Weight = Field(1.0, description="the reference pasted onto itself: a seam without a defect, so its map is 0")

    @model_validator(mode="after")
    def _some(self) -> "Kinds":
        if not any(getattr(self, kind) for kind in MASK_KINDS):
            raise ValueError("at least one weight must be positive")
        return self


class Masks(Strict):
    """Which regions of the restored image are swapped in."""

    kinds: Kinds = Kinds()
    area: tuple[Share, Share] = Field((0.02, 0.4), description="range of the swapped area, drawn log-uniformly")
    feather: tuple[float, float] = Field((2.0, 6.0), description="range of the edge's Gaussian sigma in pixels; 0 0 = hard")
    sham_shift: int = Field(
        1, ge=0, le=8, description="pixels by which a sham row's reference is moved before it is pasted onto itself"
    )
    segments: str = Field(
        "slic", description="what semantic masks are made of: 'slic', 'hed', or 'sam:MODEL', a Hub id or a folder"
    )
    composites: int = Field(1, ge=1, description="composites made of one restored image")

    @model_validator(mode="after")
    def _ranges(self) -> "Masks":
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError("area must be a range low high with 0 < low ≤ high")
        if not 0 <= self.feather[0] <= self.feather[1]:
            raise ValueError("feather must be a range low high with 0 ≤ low ≤ high")
        return self


class Pooling(Strict):
    """How a degradation map becomes a global score: score = 1 − pooled map."""

    kind: Literal["mean", "top", "power"] = Field("power", description="mean, mean of the worst pixels, or power mean")
    q: float = Field(0.1, gt=0, le=1, description="top: share of the pixels that are averaged")
    p: float = Field(2.0, ge=1, description="power: exponent of the power mean")


class Map(Strict):
    """The degradation map M_gt = clip(scale · (α·pixel + (1−α)·feature)) · m."""

    alpha: Share = Field(
        0.7,
        description="share of the pixel difference; feature differences are larger numbers: at 0.7 gradient weighs as much as it",
    )
    pixel: Literal["l1", "ssim", "ssim-tolerant"] = Field(
        "l1",
        description="'l1', the paper's mean absolute difference; 'ssim', 1 − SSIM, which sees lattices; 'ssim-tolerant', the "
        "least of it that a shift by up to a pixel allows",
    )
    features: str = Field("gradient", description="'gradient', 'timm:MODEL' or 'timm:FOLDER' (a path with a slash)")
    weights: str | None = Field(
        None,
        description="a file, or a folder in timm's format, with the weights of map.features=timm:MODEL; else a package, the "
        "Hub's cache, or the Hub",
    )
    smooth: float = Field(
        4.0, ge=0, description="sigma in pixels of the Gaussian over the combined difference, so that it marks areas; 0 = none"
    )
    percentile: float = Field(99.0, gt=0, le=100, description="the combined difference that becomes 1")
    calibration_pairs: int = Field(64, ge=1, description="restored images over which the percentile is taken")
    pooling: Pooling = Pooling()

    @model_validator(mode="after")
    def _weights_of_a_model(self) -> "Map":
        if self.weights and (not self.features.startswith("timm:") or "/" in self.features):
            raise ValueError("map.weights is for map.features=timm:MODEL; timm:FOLDER names its weights itself")
        return self


class GenerateRecipe(Strict):
    """A dataset: photographs → low resolution → SR models → swapped regions → maps and scores."""

    name: str = Field(description="name of the dataset, shown on its card")
    seed: int = Field(0, ge=0, description="seed of every random draw: degradations and masks")
    scale: int = Field(4, ge=1, le=8, description="SR factor: the low-resolution input has 1/scale of the reference's side")
    samples: int = Field(30_000, ge=1, le=10_000_000, description="composites to make, before drops")
    models: tuple[str, ...] = Field(min_length=1, description="names, with settings of their own as NAME@KEY=VALUE")
    accept_license: tuple[str, ...] = Field(
        (), description="models that may be used although their licence limits the samples, for example to non-commercial use"
    )
    source: Source = Source()
    splits: Splits = Splits()
    degradation: Literal["real-esrgan", "light", "bicubic", "stablesr"] = Field(
        "real-esrgan",
        description="photograph to low resolution: Real-ESRGAN's two rounds of blur, resize, noise and JPEG; the same in milder "
        "ranges, for small crops; antialiased bicubic alone; the ranges of StableSR's training",
    )
    inference: Inference = Inference()
    masks: Masks = Masks()
    map: Map = Map()
    severity: tuple[Share, Share] = Field((0.02, 1.0), description="range of the mean map inside the mask; others are dropped")
    attempts: int = Field(4, ge=1, description="masks tried before a sample is dropped for its severity")
    not_finite: Share = Field(0.02, description="share of samples that may be dropped as NaN or infinite; more stop the run")
    shard_rows: int = Field(100, ge=1, le=100, description="samples of a Parquet file")

    @property
    def most_photographs(self) -> int:
        """Photographs that are screened at most: a reference of each serves every SR model for `composites` samples."""
        references = -(-self.samples // (len(self.models) * self.masks.composites))
        return self.source.limit or max(LEAST_PHOTOGRAPHS, 2 * references)

    @model_validator(mode="after")
    def _fits(self) -> "GenerateRecipe":
        if self.source.crop % self.scale:
            raise ValueError(f"source.crop ({self.source.crop}) must be a multiple of scale ({self.scale})")
        if len(set(self.models)) != len(self.models):
            raise ValueError("models lists a name twice")
        if self.severity[0] > self.severity[1]:
            raise ValueError("severity must be a range low high with low ≤ high")
        return self
