"""How sources of weights are written: an address, or hf:ORG/REPOSITORY/PATH."""

from fgr import hub_files


def hub_file(source: str) -> tuple[str, str] | None:
    """The repository and the path in it of an `hf:` source; None for an address, and for what is too short to be one."""
    return hub_files.hub_file(source.removeprefix("hf:")) if source.startswith("hf:") else None
