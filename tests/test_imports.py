"""No module of the package imports another in a circle, imports inside functions included."""

import ast
from pathlib import Path

import fgr

ROOT = Path(fgr.__file__).parent


def modules(root):
    """Every module below the package folder `root` by its dotted name."""
    paths = ((path, path.relative_to(root.parent).with_suffix("").parts) for path in root.rglob("*.py"))
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in paths}


def imported(name, source, known):
    """The modules of `known` that the module `name` imports, anywhere in its `source`; not the packages above them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (one for one in [inner if inner in known else node.module] if one in known)


def circles(graph):
    """The groups of nodes that reach one another."""
    reach = {}
    for start in graph:
        found, waiting = set(), list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += graph[node]
        reach[start] = found
    return {frozenset(one for one in reach[node] if node in reach[one]) for node in graph if node in reach[node]}


def test_circles_are_found_wherever_the_import_stands(tmp_path):
    files = {
        "__init__": "",
        "a": "import house.b",
        "b": "def late():\n    from house import c",
        "c": "from house.a import x",
        "d": "from house.a import x",
        "e": "from house import e",
    }
    (tmp_path / "house").mkdir()
    for name, text in files.items():
        (tmp_path / "house" / f"{name}.py").write_text(text)
    known = modules(tmp_path / "house")
    graph = {name: set(imported(name, path.read_text(), known)) for name, path in known.items()}
    assert circles(graph) == {frozenset({"house.a", "house.b", "house.c"}), frozenset({"house.e"})}


def test_no_module_imports_another_in_a_circle():
    known = modules(ROOT)
    graph = {name: set(imported(name, path.read_text(encoding="utf-8"), known)) for name, path in known.items()}
    assert sorted(map(sorted, circles(graph))) == []
