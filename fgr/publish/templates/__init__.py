"""Templates (Jinja2) of the model cards."""

from pathlib import Path
from typing import Any


def render(template: str, /, **values: Any) -> str:
    """The file `template` of this folder, filled in. A name that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)  # Markdown
    return environment.get_template(template).render(**values)
