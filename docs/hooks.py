"""Generated parts of the documentation: a marker `<!-- KIND NAME -->` in a page becomes a table of what the code says."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from html import escape
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fgr.recipe.mistakes import members

ROOT = Path(__file__).parents[1]
MARKER = re.compile(
    r"^<!-- (options|recipe|table|models|licenses|license_notes|layers|layout)(?: ([\w-]+(?: [\w-]+)?))? -->$", re.MULTILINE
)
IN_WORDS = {
    "ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "a multiple of {}", "min_length": "at least {} long",
    "max_length": "at most {} long",
}  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls with each page's text."""
    return MARKER.sub(lambda found: "\n".join(PARTS[found[1]](found[2] or "")), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """What mkdocs calls with each page's HTML: cells are given their column's heading, which stands before them on a phone."""
    return re.sub(r"<table>.*?</table>", lambda found: _labelled(found[0]), html, flags=re.DOTALL)


def _labelled(table: str) -> str:
    headings = [re.sub(r"<.*?>", "", one).strip() for one in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]

    def row(found: re.Match[str]) -> str:
        labels = iter(headings)
        return re.sub(r"<td", lambda _: f'<td data-label="{next(labels, "")}"', found[0])

    return re.sub(r"<tr>.*?</tr>", row, table, flags=re.DOTALL)


def options(name: str) -> Iterator[str]:
    """Arguments and options of a command, `annotate push` for one in a group."""
    import typer

    from fgr.cli import app

    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    yield from ("| option | default | meaning |", "|---|---|---|")
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        names = parameter.metavar if parameter.param_type_name == "argument" and parameter.metavar else ", ".join(parameter.opts)
        if parameter.param_type_name == "argument" and not parameter.metavar:
            names = str(parameter.name).upper()
        default = "required" if parameter.required else _shown(parameter.default)
        yield f"| `{names}` | {default} | {cell(parameter.help or '')} |"


def _shown(default: Any) -> str:
    empty = default is None or default is False or default == "" or callable(default) or str(default).startswith("Sentinel")
    return "" if empty else f"`{default}`"


def recipe(kind: str) -> Iterator[str]:
    """Every key of a kind of recipe, nested models as headings."""
    import importlib

    from fgr import recipe as recipes

    module, name, _ = recipes.KINDS[kind]
    yield from _model(getattr(importlib.import_module(module), name), "")


def _model(cls: Any, prefix: str, chosen: str = "") -> Iterator[str]:
    """A model's table and those of the models in it; `chosen` is the `name` that tells a member of a union from the others."""
    if prefix:
        yield from (f"\n#### `{prefix.rstrip('.')}`{f' = `{chosen}`' if chosen else ''}", "")
    yield cleandoc(cls.__doc__ or "")
    fields = {name: field for name, field in cls.model_fields.items() if not (chosen and name == "name")}
    if fields:
        yield from ("", "| key | values | default | meaning |", "|---|---|---|---|")
    nested = []
    for name, field in fields.items():
        key, description = f"{prefix}{name}", cell(field.description or "")
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            nested.append((f"{key}.", field.annotation, ""))
        elif choices := members(field):
            nested += [(f"{key}.", member, choice) for choice, member in choices.items()]
            named = " · ".join(f"`{choice}`" for choice in choices)
            yield f"| `{key}.name` | {named} | `{field.default.name}` | {description} |"
        else:
            values = ", ".join([_type(field.annotation), *filter(None, map(_limit, field.metadata))])
            default = "required" if field.is_required() else f"`{_value(field.default)}`"
            yield f"| `{key}` | {cell(values)} | {default} | {description} |"
    for path, inner, choice in nested:
        yield from _model(inner, path, choice)


def _limit(constraint: Any) -> str:
    for name, words in IN_WORDS.items():
        if (value := getattr(constraint, name, None)) is not None:
            return words.format(value)
    return ""


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [_type(parts[0]), *(limit for one in parts[1:] for limit in _limits(one))]
        return " ".join(inner)
    if origin is Literal:
        return " · ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}" if parts[-1] is Ellipsis else f"{len(parts)} × {_type(parts[0])}"
    if origin in (Union, UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in parts)
    return {"int": "integer", "float": "number", "str": "text", "bool": "true · false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _limits(field: Any) -> Iterator[str]:
    yield from filter(None, map(_limit, getattr(field, "metadata", [field])))


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or '""'


def table(name: str) -> Iterator[str]:
    """The columns of one of the dataset's tables."""
    from fgr.records import TABLES

    yield from ("| column | type | meaning |", "|---|---|---|")
    yield from (f"| `{column.name}` | {column.type} | {cell(column.meaning)} |" for column in TABLES[name])


def models(group: str) -> Iterator[str]:
    """The named SR models: `networks`, or the `diffusion` models."""
    from fgr.sr.zoo import ZOO

    yield from ("| name | network | files in the weights folder | from | licence |", "|---|---|---|---|---|")
    for name, release in ZOO.items():
        if release.is_diffusion != (group == "diffusion"):
            continue
        ncnn = (release.ncnn.tensors, release.ncnn.param) if release.ncnn else ()
        used = release.files or ncnn
        files = dict.fromkeys(f"`{file.name.partition('/')[0]}{'/' * ('/' in file.name)}`" for file in used)
        homes = dict.fromkeys(_source(source) for file in (*ncnn, *release.files) for source in file.sources)
        network = f"{release.family}, ×{release.scale}"
        yield f"| `{name}` | {network} | {', '.join(files)} | {', '.join(homes)} | {release.license} |"


def _source(source: str) -> str:
    """Where a file is published: a link to the repository on the Hub or GitHub, or a package."""
    from fgr.package_files import packaged_file
    from fgr.sr.zoo import OFFLINE_PACKAGES

    if (place := packaged_file(source)) is not None:
        return f"package `{place.requirement}`" + (" (`fgr[offline]`)" if place.package in OFFLINE_PACKAGES else "")
    address = source.replace("hf:", "https://huggingface.co/", 1) if source.startswith("hf:") else source
    scheme, _, host, *path = address.split("/")
    parts = path[: 3 if path[0] == "spaces" else 2]
    return f"[{'/'.join(parts[-2:])}]({scheme}//{host}/{'/'.join(parts)})"


def licenses(_: str) -> Iterator[str]:
    """The licences of the named SR models' weights, and what each allows of outputs."""
    from fgr.licenses import terms_of
    from fgr.sr import license_of
    from fgr.sr.zoo import ZOO

    words = {True: "yes", False: "for non-commercial purposes only", None: "not stated"}
    models_by_license: dict[str, list[str]] = {}
    for name in (*ZOO, "bicubic"):
        models_by_license.setdefault(license_of(name), []).append(f"`{name}`")
    yield from ("| licence of the weights | models | train on outputs | redistribute outputs |", "|---|---|---|---|")
    for license, names in models_by_license.items():
        allowed = terms_of(license)
        yield f"| {license} | {', '.join(names)} | {words[allowed.train_on_outputs]} | {words[allowed.redistribute]} |"


def license_notes(_: str) -> Iterator[str]:
    """What the table of networks notes about licences."""
    from fgr.sr.zoo import ZOO

    yield from (f"- `{name}`: {release.note}" for name, release in ZOO.items() if release.note)


def layers(_: str) -> Iterator[str]:
    """The layers of `fgr`, from the top: each imports only those below it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    declared = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    yield from (f"{number}. {', '.join(f'`{name}`' for name in layer.split(' | '))}" for number, layer in enumerate(declared, 1))


def layout(_: str) -> Iterator[str]:
    """Every package of `fgr` with the first lines of its modules' docstrings."""
    for package, files in packages().items():
        yield from (f"\n### `{package}/`", "", f"{first_line(ROOT / package / '__init__.py')}", "")
        if files:
            yield from ("| file | what it is for |", "|---|---|")
            yield from (f"| `{file.name}` | {cell(first_line(file))} |" for file in files)


def packages() -> dict[str, list[Path]]:
    """The modules of each package, by the package's path, `__init__.py` left out."""
    inits = sorted(path.parent for path in (ROOT / "fgr").rglob("__init__.py"))
    return {str(folder.relative_to(ROOT)): sorted(set(folder.glob("*.py")) - {folder / "__init__.py"}) for folder in inits}


def first_line(file: Path) -> str:
    """The first line of a module's docstring, or nothing."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def cell(text: str) -> str:
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


PARTS: dict[str, Callable[[str], Iterator[str]]] = {
    "options": options, "recipe": recipe, "table": table, "models": models, "licenses": licenses, "license_notes": license_notes,
    "layers": layers,
    "layout": layout,
}  # fmt: skip
