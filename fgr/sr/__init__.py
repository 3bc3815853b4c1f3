"""SR models by name: low-resolution crops in, restored crops out; what the rest of `fgr` uses of them."""

from fgr.sr.jobs import Job, NonFiniteOutput, Upscaler
from fgr.sr.spec import ModelSpec, known_names, parse_name
from fgr.sr.upscalers import open_upscaler
from fgr.sr.weights import license_of

__all__ = [
    "Job", "ModelSpec", "NonFiniteOutput", "Upscaler", "known_names", "license_of", "open_upscaler", "parse_name",
]  # fmt: skip
