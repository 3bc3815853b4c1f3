"""How sources of weights are written: an address, or hf:ORG/REPOSITORY/PATH."""


def hub_file(source: str) -> tuple[str, str] | None:
    """The repository and the path in it of an `hf:` source; None for an address, and for what is too short to be one."""
    kind, _, rest = source.partition(":")
    parts = rest.split("/", 2)
    return ("/".join(parts[:2]), parts[2]) if kind == "hf" and len(parts) == 3 and all(parts) else None
