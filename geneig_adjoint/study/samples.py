"""Table [sweep]: which samples a sweep has, and what each of them changes."""

from __future__ import annotations

import csv
import inspect
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

import numpy as np

from geneig_adjoint.errors import InputError, StudyError
from geneig_adjoint.study.entries import flattened, value_of
from geneig_adjoint.study.settings import FLAG, INTEGER, NUMBER, Study, check_values, with_entries

KINDS = ("grid", "list", "csv", "latin_hypercube")
VARIED = ("model", "solver", "adjoint", "parameters", "scale")
RANGE = {"low": NUMBER, "high": NUMBER, "log": FLAG, "integer": FLAG}
HYPERCUBE = {"count", "seed", "bounds"}


@dataclass(frozen=True)
class Sample:
    """One study of a sweep.

    Attributes
    ----------
    number : int
        Counted from 0.
    entries : dict
        Entries of the study that it replaces.
    study : Study
        The study with these entries, its results in a folder of its own.

    """

    number: int
    entries: dict[str, Any]
    study: Study

    @property
    def folder(self) -> str:
        """Name of the folder of its results."""
        return folder_name(self.number)


def folder_name(number: int) -> str:
    """Return the name of the folder of a sample.  (Not collective.)"""
    return f"sample_{number:04d}"


def samples_of(study: Study) -> list[Sample]:
    """Return the samples of a sweep in their order, each a checked study.

    Not collective; reads the CSV file if there is one. The same study gives the same samples.

    Raises
    ------
    StudyError
        A table [sweep] that is none, entries that cannot be varied or are wrong in a sample.
    InputError
        A CSV file that cannot be read or has rows of another length.

    """
    kinds = [kind for kind in KINDS if kind in study.sweep]
    if len(kinds) != 1:
        raise StudyError(
            f"[sweep] must have exactly one of {', '.join(KINDS)}, got "
            f"{' and '.join(kinds) or 'none'}; say what is varied"
        )
    points = READERS[kinds[0]](study)
    if not points:
        raise StudyError(f"{kinds[0]} of [sweep] must give samples, got none; add some")
    return [_sample(study, number, entries) for number, entries in enumerate(points)]


def _sample(study: Study, number: int, entries: dict[str, Any]) -> Sample:
    for name, value in entries.items():
        if name.split(".")[0] not in VARIED or "." not in name:
            raise StudyError(
                f"a sweep can vary entries of {', '.join(VARIED)}, such as "
                f'"solver.target", "model.options.x", "parameters.k", got {name!r}; correct [sweep]'
            )
        if not _is_json(value):
            raise StudyError(
                "a sweep can vary numbers, texts, true and false, and lists of them, got "
                f"{value} for {name!r}; write dates and times as texts"
            )
    folder = f"{study.output.get('directory', 'out')}/{folder_name(number)}"
    try:
        changed = with_entries(study, {**entries, "output.directory": folder})
    except StudyError as error:
        raise StudyError(f"sample {number} of the sweep: {error}") from error
    return Sample(number, entries, changed)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _grid(study: Study) -> list[dict[str, Any]]:
    """Return every combination; the last entry changes fastest."""
    axes = flattened(study.sweep["grid"])
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise StudyError(
                f"grid of [sweep] must have a list of values per entry, got {values!r} for "
                f"{name!r}; write for example {name!r} = [1, 2]"
            )
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _list(study: Study) -> list[dict[str, Any]]:
    return [flattened(point) for point in study.sweep["list"]]


def _csv(study: Study) -> list[dict[str, Any]]:
    """Return a sample per line; the first line names the entries."""
    path = study.folder / study.sweep["csv"]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be a readable CSV file, got {error}; correct csv of [sweep]"
        ) from error
    rows = [
        (line, [cell.strip() for cell in row])
        for line, row in enumerate(csv.reader(io.StringIO(text)), start=1)
        if any(cell.strip() for cell in row)
    ]
    names = rows[0][1] if rows else []
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        raise InputError(
            f"{path} must have commas between columns and points in numbers, got line 1, "
            f"{names[0]!r}; save it so"
        )
    if len(set(names)) < len(names) or not all(names):
        raise InputError(
            f"the first line of {path} must name every column once, got {names}; correct it"
        )
    for line, row in rows[1:]:
        if len(row) != len(names) or not all(row):
            raise InputError(
                f"line {line} of {path} must have {len(names)} values, got {row}; correct it"
            )
    return [
        {name: _cell(cell) for name, cell in zip(names, row, strict=True)} for _, row in rows[1:]
    ]


def _cell(text: str) -> Any:
    """Return what a cell means: as in TOML, or one of the numbers that TOML does not know."""
    if re.fullmatch(r"[-+]?(\d+\.|\.\d+)([eE][-+]?\d+)?", text):  # 1. and .5
        return float(text)
    value = value_of(text)
    return text if isinstance(value, date | time) else value


def _latin_hypercube(study: Study) -> list[dict[str, Any]]:
    """Return the middles of cells, one in each row and column (McKay, Beckman & Conover 1979)."""
    table = study.sweep["latin_hypercube"]
    bounds = flattened(table.get("bounds", {}), lambda value: bool(value.keys() & RANGE))
    if set(table) != HYPERCUBE or not bounds or not INTEGER.fits(table["count"]):
        raise StudyError(
            f"latin_hypercube of [sweep] must have {', '.join(sorted(HYPERCUBE))}, got "
            f"{table}; write count = 20, seed = 1 and a table of bounds"
        )
    scales = [_scale(name, spec) for name, spec in bounds.items()]
    if table["count"] < 1 or not INTEGER.fits(table["seed"]) or table["seed"] < 0:
        raise StudyError(
            "latin_hypercube of [sweep] must have a positive count and a seed from 0, got "
            f"count {table['count']} and seed {table['seed']!r}; correct them"
        )
    units = _hypercube(len(bounds), table["count"], table["seed"])
    return [
        {name: scale(float(u)) for name, scale, u in zip(bounds, scales, row, strict=True)}
        for row in units
    ]


def _hypercube(dimension: int, count: int, seed: int) -> Any:
    """Return points of the unit cube, (count, dimension); SciPy renamed its seed in 1.15."""
    from scipy.stats import qmc  # slow to import, and needed for this alone

    sampler = qmc.LatinHypercube
    word = "rng" if "rng" in inspect.signature(sampler).parameters else "seed"
    generator = {word: np.random.default_rng(seed)}
    return sampler(d=dimension, scramble=False, optimization=None, **generator).random(count)


def _scale(name: str, spec: Any) -> Callable[[float], float | int]:
    """Return the function that maps [0, 1] to the range of an entry."""
    if isinstance(spec, list) and len(spec) == 2:
        spec = {"low": spec[0], "high": spec[1]}
    where = f"bounds of {name!r} in [sweep]"
    if not isinstance(spec, dict) or not {"low", "high"} <= set(spec):
        raise StudyError(
            f"{where} must be [low, high] or {{low = ..., high = ..., log = true}}, got {spec!r}; "
            "correct them"
        )
    check_values(where, spec, RANGE)
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    if not low < high or not math.isfinite(high - low) or (log and low <= 0):
        raise StudyError(
            f"{where} must be finite with low < high, and positive for log, got {low} and {high}; "
            "correct them"
        )
    if spec.get("integer", False):
        return _whole(low, high, log)
    if log:
        return lambda u: float(low * (high / low) ** u)
    return lambda u: float(low + (high - low) * u)


def _whole(low: float, high: float, log: bool) -> Callable[[float], int]:
    """Return the function that maps [0, 1] to the whole numbers low ... high, or their logs."""
    first, last = math.ceil(low), math.floor(high)
    if log:
        return lambda u: min(last, max(first, round(first * (last / first) ** u)))
    return lambda u: min(last, first + math.floor(u * (last - first + 1)))


READERS: Mapping[str, Callable[[Study], list[dict[str, Any]]]] = {
    "grid": _grid,
    "list": _list,
    "csv": _csv,
    "latin_hypercube": _latin_hypercube,
}
