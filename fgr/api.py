"""The Python API: what the commands call, with recipes as names, files, mappings or objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fgr.api_arguments import Changes, as_pixels, as_recipe
from fgr.shipped import REWARD_MODEL

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from fgr.recipe.generate import GenerateRecipe
    from fgr.recipe.reward import RewardRecipe
    from fgr.recipe.rlhf import RlhfRecipe
    from fgr.reward.model import FinPercepRM
    from fgr.reward.score import ScoredImage


def generate_dataset(
    recipe: "str | Path | Mapping[str, Any] | GenerateRecipe",
    out: str | Path,
    *,
    changes: Changes | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> bool:
    """Make a dataset of photographs: degraded, restored by SR models, restored regions pasted into them, with maps and scores.

    What `fgr generate` does. The same call again goes on where it was interrupted; a finished dataset is left as it is.

    Args:
        recipe: A shipped recipe's name (`"demo"`), a YAML file, a mapping of recipe keys, or a `GenerateRecipe`.
        out: The dataset directory to make, or to go on with.
        changes: Dotted recipe keys and their values, as `KEY=VALUE` on the command line.
        engine: Processes of this machine, or a Ray cluster (extra `ray`).
        workers: How many; 0 = one for each CUDA device or CPU core. In a script, several want the call to stand below
            `if __name__ == "__main__":`
        shard: `(I, N)` makes every N-th shard from the I-th (0-based) on, for job arrays.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        Whether the dataset is whole; False while other shards of an array are still to come.

    Raises:
        UserError: All that stands against the run at once: mistakes of the recipe, absent photographs or weights, licences that
            have to be accepted, a folder that holds something else.

    Examples:
        ```python
        fgr.generate_dataset("demo", "out/demo", changes={"samples": 60, "models": ["realesrgan", "bicubic"]})
        ```
    """
    from fgr.generate.run import generate

    chosen = as_recipe(recipe, "generate", changes)
    return generate(chosen, Path(out), engine=engine, workers=workers, shard=shard, device=device)


def train_reward_model(
    recipe: "str | Path | Mapping[str, Any] | RewardRecipe",
    data: str | Path,
    out: str | Path,
    *,
    changes: Changes | None = None,
    device: str = "auto",
) -> Path:
    """Train a reward model's stages RM_0 … RM_N on a dataset.

    What `fgr train-rm` does. The same call again resumes; stages that are finished are kept.

    Args:
        recipe: A shipped recipe's name (`"demo"`, `"finpercep"`), a YAML file, a mapping of recipe keys, or a `RewardRecipe`.
        data: A dataset directory, or a dataset's id on the Hub.
        out: The run's folder.
        changes: Dotted recipe keys and their values.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The folder of the last stage, which `load_reward_model` opens; so it does `out`.

    Raises:
        UserError: A dataset or weights that cannot be used, another recipe's folder, a loss that is not a number.

    Examples:
        ```python
        fgr.train_reward_model("demo", "out/demo", "out/rm", changes={"stages": [100, 200, 200]})
        ```
    """
    from fgr.reward import run

    chosen = as_recipe(recipe, "reward", changes)
    if chosen.mined.rounds:
        from fgr.rlhf.hardening import train_hardened

        return train_hardened(chosen, str(data), Path(out), device)
    return run.train_reward_model(chosen, str(data), Path(out), device)


def score(
    image: "str | Path | np.ndarray | Image.Image",
    reward: "str | Path | FinPercepRM" = REWARD_MODEL,
    *,
    tile: int = 1024,
    device: str = "auto",
) -> "ScoredImage":
    """Score an image of any size, and map where it is bad.

    What `fgr score` does for each image.

    Args:
        image: A file, a PIL image, or an array uint8 (H, W, 3) RGB.
        reward: An open reward model – open it once to score many images – or what `load_reward_model` takes.
        tile: Larger images are tiled at this many pixels; 0 = never. The score is that of the whole image.
        device: Where a reward model is opened that is given by name: `auto`, `cpu` or `cuda`.

    Returns:
        `score`, larger = better, on the model's own scale; `calibrated`, the same from 0, as the restored images of the model's
            validation set, to 1, as its clean ones – None for models without such a scale; `map`, float32 (H, W) in [0, 1],
            0 = clean, 1 = worst; `worst`, the mean of the map's worst 1 %.

    Raises:
        UserError: The image cannot be read, or there is no such reward model.

    Examples:
        ```python
        found = fgr.score("photo.png")
        print(found.calibrated, found.worst, found.map.shape)
        ```
    """
    from fgr.devices import choose_device
    from fgr.reward.pretrained import load_reward_model
    from fgr.reward.score import scored

    model = load_reward_model(reward, choose_device(device)) if isinstance(reward, str | Path) else reward
    return scored(model, as_pixels(image), tile)


def tune(
    recipe: "str | Path | Mapping[str, Any] | RlhfRecipe",
    generator: str,
    reward: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    audit: str | Path | None = None,
    changes: Changes | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Fine-tune an SR network or diffusion model against a reward model, with a curriculum and an audit for reward hacking.

    What `fgr rlhf` does. The same call again resumes. The tuned network is `OUT/best.safetensors`, which
    `spandrel:OUT/best.safetensors` names wherever an SR model is named.

    Args:
        recipe: A shipped recipe's name (`"demo"`, `"ccl-realesrgan"`, …), a YAML file, a mapping of keys, or an `RlhfRecipe`.
        generator: The SR model: a name of `fgr models`, or `spandrel:PATH`.
        reward: A run of `train_reward_model` with its stages, or such a reward model on the Hub.
        data: A dataset, whose degradations are replayed, or a folder of low-resolution images.
        out: The run's folder.
        audit: Train nothing: audit this network, an SR model's name or a run of `tune`, as if it had been tuned from `generator`.
        changes: Dotted recipe keys and their values.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        What `OUT/summary.json` holds: `best_step`, `alarms`, and in `metrics` each figure at the start and of the best network.

    Raises:
        UserError: A model, a reward model or data that do not fit together, another recipe's folder, too little memory.

    Examples:
        ```python
        found = fgr.tune("demo", "realesr-animevideov3", "out/rm", "out/demo", "out/tuned")
        print(found["best_step"], [row["metric"] for row in found["metrics"]])
        ```
    """
    from fgr.rlhf import given_network, run

    chosen = as_recipe(recipe, "rlhf", changes)
    if audit is not None:
        return given_network.audit_network(chosen, generator, str(audit), str(reward), str(data), Path(out), device)
    return run.tune(chosen, generator, str(reward), str(data), Path(out), device)


def evaluate_systems(
    systems: Sequence[str],
    data: str | Path,
    *,
    reward: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    split: str = "test",
    layout: str = "auto",
    scale: int | None = None,
    limit: int | None = None,
    luma: bool = False,
    border: int = 0,
    tile: int = 0,
    keep: str | Path | None = None,
    html: str | Path | None = None,
    pictures: int = 24,
    device: str = "auto",
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure SR systems on a test set; later systems are compared with the first.

    What `fgr evaluate SYSTEM… --data DATA` does.

    Args:
        systems: SR models of `fgr models`, runs of `tune`, or folders of outputs.
        data: A dataset, whose inputs are replayed, or a folder of test images (`gt/` and `lr/`, say).
        reward: A reward model, whose score and map figures are added.
        metrics: `psnr`, `ssim`, `ms-ssim`, `lpips`, `dists`, `lite0-distance`, `timm:NAME`, `clipiqa`, `pyiqa:NAME`; None = the
            first three, where there are references.
        split: Of a dataset: `train`, `validation` or `test`.
        layout: How a folder is arranged: `auto`, `realsr`, `drealsr`, `pairs`, `reallq250`, `references`.
        scale: The factor, where the images do not tell it.
        limit: At most so many images, spread over the set.
        luma: Whether PSNR, SSIM and MS-SSIM are of Y instead of RGB.
        border: Pixels that these three leave out on each side.
        tile: SR models run in tiles of this many input pixels; 0 = whole.
        keep: A folder for inputs and outputs as PNG.
        html: A page to write as well: figures, outputs under a swipe, every image's figures.
        pictures: Of so many images the page holds the outputs, those with the worst disagreement first.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The summary – means, bootstrap intervals over photographs, comparisons, and the protocol – and a record for each image and
        system.

    Raises:
        UserError: Whatever is not available, before anything is restored.

    Examples:
        ```python
        summary, records = fgr.evaluate_systems(["bicubic", "realesr-animevideov3"], "out/demo", reward="out/rm", limit=8)
        ```
    """
    from fgr.evaluate import comparison

    return comparison.evaluate_systems(
        systems, str(data), split=split, layout=layout, scale=scale, limit=limit, metrics=metrics,
        reward=None if reward is None else str(reward), border=border, luma=luma, tile=tile, device=device,
        keep=None if keep is None else Path(keep), html=None if html is None else Path(html), pictures=pictures,
    )  # fmt: skip


def evaluate_reward_model(
    reward: str | Path, data: str | Path, *, split: str = "test", limit: int | None = None, parts: Sequence[str] | None = None,
    pairs: int = 16, systems: Sequence[str] = (), start: str | None = None, workers: int | None = 0, draws: int = 0,
    html: str | Path | None = None, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Measure a reward model on a split of a dataset: its maps, its scores, its ranking of triplets, beside trivial baselines.

    And what labels do not show: whether planted defects count as worse, whether score and map stay where nothing is seen.

    What `fgr evaluate --reward RM --data DATASET` does.

    Args:
        reward: What `load_reward_model` takes.
        data: A dataset directory, or a dataset's id on the Hub.
        split: `train`, `validation` or `test`.
        limit: At most so many rows, drawn evenly.
        parts: Of `labels`, `planted`, `random`, `approach`, `ascent`, `invariances`, `systems`; None means all but `ascent`.
        pairs: References, with an SR output of each, that all parts but `labels` are measured on.
        systems: SR networks tuned against a reward model: how much of the gap to the references they close by this one.
        start: What the systems were tuned from; runs of `fgr rlhf` say it themselves.
        workers: Processes that judge maps beside the network. None means the cores that are left, for many rows; a script
            that starts processes needs `if __name__ == "__main__":`.
        draws: Judge by the mean over so many randomised copies.
        html: A page to write as well, with the tables.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The summary, `probes` (the parts after `labels`), and the protocol that the figures depend on.

    Raises:
        UserError: There is no such reward model, dataset, split, part or system.

    Examples:
        ```python
        found = fgr.evaluate_reward_model("out/rm", "out/demo", limit=24, parts=["labels"])
        ```
    """
    from fgr.reward import evaluate
    from fgr.reward.probes import CHEAP

    found = evaluate.evaluate_reward_model(
        str(reward), str(data), split, limit, device, parts=CHEAP if parts is None else parts, images=pairs, systems=systems,
        start=start, workers=workers, draws=draws,
    )  # fmt: skip
    if html is not None:
        from fgr.evaluate import evaluation_page, show

        evaluation_page.write(Path(html), show.reward_model_title(found), show.reward_model(found), found["notes"])
    return found
