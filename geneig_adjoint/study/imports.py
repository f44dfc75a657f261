"""The files of one's own that a Python file imports: found in their text, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_files(path: Path, folder: Path) -> list[Path]:
    """Return the modules a file imports, directly or not, that lie beside it or in a folder.

    Not collective. ``import`` statements count wherever they stand. What is imported by a
    computed name (``importlib.import_module``), and files that are read or compiled, are not
    seen. A file that is no Python imports nothing; running it says why.

    Parameters
    ----------
    path
        The file to begin with, which is not returned.
    folder
        Where modules are looked for besides the folder of the file.

    """
    roots = list(dict.fromkeys((path.parent, folder)))
    found: dict[Path, None] = {path: None}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in _imported_names(file, roots):
            new = [part for part in _files_of(name, roots) if part not in found]
            found.update(dict.fromkeys(new))
            waiting += new
    return sorted(file for file in found if file != path)


def _imported_names(path: Path, roots: list[Path]) -> Iterator[str]:
    """Give the dotted names in the import statements of a file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (_package(path, node.level, roots), node.module)))
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _package(path: Path, level: int, roots: list[Path]) -> str:
    """Return the package that as many points mean in a file; nothing for none."""
    if level == 0:
        return ""
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    parts = path.relative_to(root).parts[:-1]
    return ".".join(parts[: len(parts) - level + 1])


def _files_of(name: str, roots: list[Path]) -> Iterator[Path]:
    """Give the files that importing a dotted name runs: those of its packages, and its own.

    The last part may be a name inside a module.
    """
    parts = name.split(".")
    for root in roots:
        for depth in range(1, len(parts) + 1):
            module = root.joinpath(*parts[:depth])
            for file in (module.with_name(f"{module.name}.py"), module / "__init__.py"):
                if file.is_file():
                    yield file
