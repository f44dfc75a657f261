"""What a study's results depend on, as short texts: the same study, the same texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from geneig_adjoint.study.imports import imported_files
from geneig_adjoint.study.settings import Study

WITHOUT_EFFECT = {"path", "output", "sweep", "optimize", "tables"}
"""Parts of a study on which the results of a run do not depend."""
PARTS = tuple(item.name for item in fields(Study) if item.name not in WITHOUT_EFFECT)
FILES = ("elements", "A", "B", "matrix", "reference", "python")


class Fingerprints:
    """Fingerprints of studies; every file is read once.  (Not collective.)

    Of a Python file, the modules it imports count, too, as far as they lie beside it or in the
    folder of the study (`imported_files`). A file that cannot be read counts as missing, the run
    will say so.
    """

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}
        self._imported: dict[tuple[Path, Path], list[Path]] = {}

    def of(self, study: Study) -> str:
        """Return the fingerprint of a study and of the files it names."""
        return of_content(self.of_parts(study))

    def of_parts(self, study: Study) -> dict[str, str]:
        """Return the fingerprint of every part of a study with the files that are named there."""
        return {name: self._of_part(study.folder, getattr(study, name)) for name in PARTS}

    def _of_part(self, folder: Path, content: Any) -> str:
        tables = content if isinstance(content, list) else [content]
        named = sorted({name for table in tables for name in _files(table)})
        return of_content([content, {name: self._with_imports(folder, name) for name in named}])

    def _with_imports(self, folder: Path, name: str) -> Any:
        path = folder / name
        if path.suffix != ".py":
            return self._digest(path)
        key = (folder, path)
        if key not in self._imported:
            self._imported[key] = imported_files(path, folder)
        parts = {_relative(file, path.parent): self._digest(file) for file in self._imported[key]}
        return [self._digest(path), parts] if parts else self._digest(path)

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            try:
                with path.open("rb") as stream:
                    self._digests[path] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                self._digests[path] = "missing"
        return self._digests[path]


def _relative(path: Path, start: Path) -> str:
    """Return how a path is called from a folder: a study may be moved as a whole."""
    return Path(os.path.relpath(path, start)).as_posix()


def of_tables(study: Study) -> str:
    """Return the fingerprint of what a study says, without its files.  (Not collective.)"""
    return of_content({name: getattr(study, name) for name in PARTS})


def of_content(content: Any) -> str:
    """Return the fingerprint of what JSON can hold.  (Not collective.)"""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(table: Mapping[str, Any]) -> Iterator[str]:
    """Give the files that a table names, as it names them."""
    for key in FILES:
        name = table.get(key)
        if isinstance(name, str):
            yield (name.rpartition(":")[0] or name) if key == "python" else name
