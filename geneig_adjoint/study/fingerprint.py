"""What a study's results depend on, as one short text: the same study, the same text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geneig_adjoint.study.settings import Study

TABLES = ("model", "solver", "adjoint", "derivative", "objective", "parameters", "scale")


class Fingerprints:
    """Fingerprints of studies; every file is read once.  (Not collective.)"""

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}

    def of(self, study: Study) -> str:
        """Return the fingerprint of a study and of the files it names.

        Modules that a Python file imports are not looked at; a file that cannot be read counts
        as missing, the run will say so.
        """
        files = {name: self._digest(study.folder / name) for name in sorted(files_of(study))}
        return of_content([of_tables(study), files])

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            try:
                with path.open("rb") as stream:
                    self._digests[path] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                self._digests[path] = "missing"
        return self._digests[path]


def of_tables(study: Study) -> str:
    """Return the fingerprint of what a study says, without its files.  (Not collective.)"""
    return of_content({name: study.tables[name] for name in TABLES if name in study.tables})


def of_content(content: Any) -> str:
    """Return the fingerprint of what JSON can hold.  (Not collective.)"""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(study: Study) -> set[str]:
    """Return the files a study names, as it names them.  (Not collective.)"""
    return set(_files(study))


def _files(study: Study) -> Iterator[str]:
    yield from _named(study.model, ("elements", "A", "B"))
    for derivative in study.derivatives:
        yield from _named(derivative, ("A", "B"))
    for objective in study.objectives:
        yield from _named(objective, ("matrix", "reference"))
    for table in (study.model, *study.objectives):
        for reference in _named(table, ("python",)):
            yield reference.rpartition(":")[0] or reference


def _named(table: dict[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    yield from (table[key] for key in keys if key in table)
