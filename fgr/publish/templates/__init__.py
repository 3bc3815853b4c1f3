"""Templates (Jinja2) of the model cards."""

from pathlib import Path
from typing import Any


def render(template: str, /, **values: Any) -> str:
    """The file `template` of this folder, filled in. A name that it lacks is an error."""
    from jinja2 import FileSystemLoader

    from fgr.dataset import markdown

    return markdown.environment(FileSystemLoader(Path(__file__).parent)).get_template(template).render(**values)
