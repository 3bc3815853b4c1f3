"""Opening a reward model by folder, run or Hub id, and saving one."""

import os
import shutil
from pathlib import Path

from fgr.errors import UserError
from fgr.hub_files import folder_or_hub
from fgr.reward import score_scale
from fgr.reward.model import FinPercepRM
from fgr.reward.stored_model import AGAIN, HINT, expect_sound
from fgr.shipped import REWARD_MODEL

SHIPPED_FOLDER = Path(__file__).parent / "fgr_lite"


def load_reward_model(reward: str | Path = REWARD_MODEL, device: str = "cpu") -> FinPercepRM:
    """Open a reward model, ready to score.

    A `torch.nn.Module`: `score_B, map_B1HW = model(images_B3HW)`, images float32 RGB in [0, 1], larger scores better, maps in
    [0, 1], larger worse. It is differentiable by the images.

    Args:
        reward: `fgr-lite`, which ships with the package; a run of `train_reward_model` (its last finished stage), a stage's
            folder, or a reward model's id on the Hub.
        device: A torch device.

    Returns:
        A `fgr.reward.FinPercepRM` in evaluation mode; its `score_scale` says what scores mean, where the model has one.

    Raises:
        UserError: There is no such reward model, or its files are damaged.

    Examples:
        ```python
        model = fgr.load_reward_model("out/rm")
        ```
    """
    return _open(str(resolve(folder_of(reward))), device)


def load_stages(reward: str | Path = REWARD_MODEL, device: str = "cpu") -> list[FinPercepRM]:
    """Every finished stage of a run, in a folder or on the Hub, RM_0 first; of a single stage's folder, that one."""
    folder = folder_of(reward)
    stages = stages_of(folder) or [resolve(folder)]
    return [_open(str(stage), device) for stage in stages]


def load_judge(reward: str | Path, device: str = "cpu") -> FinPercepRM | None:
    """The independent reward model that comes with another one, in its folder `judge`, to audit what is tuned against that; None
    where there is none."""
    folder = folder_of(reward)
    run = folder.parent if folder.name.startswith("stage-") else folder
    return _open(str(resolve(run / "judge")), device) if (run / "judge").is_dir() else None


def save_reward_model(model: FinPercepRM, folder: Path) -> None:
    """Write a model's folder, whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    if folder.is_dir():  # of a step that is taken again
        shutil.rmtree(folder)
    os.replace(temporary, folder)


def stages_of(run: Path) -> list[Path]:
    """The finished stages of a run, RM_0 first."""
    numbered = {path.parent.name.removeprefix("stage-"): path.parent for path in run.glob("stage-*/config.json")}
    return [numbered[number] for number in sorted((one for one in numbered if one.isdecimal()), key=int)]


def run_of(folder: Path) -> Path | None:
    """The run that a reward model's folder is, or is a stage of; None for one that is published alone."""
    return next((place for place in (folder, folder.parent) if (place / "run.json").is_file()), None)


def folder_of(reward: str | Path) -> Path:
    """The folder on this machine that holds what `reward` names; a folder of that name goes before the model that ships."""
    if str(reward) == REWARD_MODEL and not Path(REWARD_MODEL).is_dir():
        return SHIPPED_FOLDER
    return folder_or_hub(str(reward), "reward model", "model", HINT) or Path(_snapshot(str(reward)))


def resolve(folder: Path) -> Path:
    """The folder of a reward model: `folder` itself, or the last finished stage of the run it is. UserError if it is neither."""
    if (folder / "config.json").is_file():
        return folder
    stages = stages_of(folder)
    if not stages:
        raise UserError(f"{folder} is not a reward model: it has neither config.json nor a finished stage.", HINT)
    return stages[-1]


def _open(folder: str, device: str) -> FinPercepRM:
    expect_sound(Path(folder))
    try:
        model = FinPercepRM.from_pretrained(folder, map_location=device)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"The reward model in {folder} is damaged or of another version: {reason}", AGAIN) from None
    model.score_scale = score_scale.read(Path(folder))
    return model


def _snapshot(name: str) -> str:
    """The folder on this machine of a reward model on the Hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return str(snapshot_download(name, allow_patterns=["*config.json", "*.safetensors"]))
    except GatedRepoError:
        raise UserError(f"{name} is gated.", f"Accept its terms at https://huggingface.co/{name} and set HF_TOKEN.") from None
    except RepositoryNotFoundError:
        raise UserError(f"{name} is neither a folder nor a repository on the Hub.", HINT) from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name} is not a folder and could not be downloaded from the Hub: {' '.join(str(error).split())[:200]}", HINT
        ) from None
