"""The files of a run: result.json, result.h5, pictures of the mesh; all of them or none."""

from __future__ import annotations

import errno
import os
import platform
import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from geneig_adjoint import _petsc, exit_codes
from geneig_adjoint import parameters as params
from geneig_adjoint._version import __version__
from geneig_adjoint.collective import guard, raise_together
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io import (
    Mesh,
    VtuFile,
    atomic_path,
    checked_dataset,
    gathered,
    write_attributes,
    write_json,
    write_mesh,
    written_hdf5,
)
from geneig_adjoint.io.written_results import RESULT_FORMAT, RESULT_VERSION
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.study.build import Problem
from geneig_adjoint.study.settings import Study
from geneig_adjoint.study.spread import Spread

Pairs: TypeAlias = Eigenpairs | QuadraticPairs
SUMMARY, ARRAYS, PICTURE = FILES = ("result.json", "result.h5", "modes.vtu")
INLINE_ENTRIES = 1000
COLUMN_ROWS = 100_000
"""Rows of a vector that have a checksum of their own."""


@dataclass
class Outcome:
    """Results of a run, the same on all ranks but for gradients that are spread over them.

    Attributes
    ----------
    values : dict
        Objective -> value.
    gradients : dict
        Objective -> parameter -> array, or `Spread` for a distributed parameter.
    gradient_errors : dict
        Objective -> estimated relative error of its gradient.
    failures : dict
        Objective -> why it has no gradient.
    codes : dict
        Objective -> exit code that its failure stands for.

    """

    values: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, dict[str, Any]] = field(default_factory=dict)
    gradient_errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)


def prepare_directory(study: Study) -> None:
    """Make the output folder of a run.  (Not collective: call it on one rank.)

    Raises
    ------
    StudyError
        Results that would be lost, a folder in which nothing can be written.

    """
    directory = study.directory
    if (directory / SUMMARY).exists() and not study.output.get("overwrite", False):
        raise StudyError(
            f"the output folder must be free of results, got {directory / SUMMARY} of an earlier "
            "run; give --overwrite to replace it, or choose another output.directory"
        )
    make_writable(directory)


def make_writable(directory: Path, *names: str) -> None:
    """Make a folder and see whether files can be written there, those of some names too.

    Not collective: call it on one rank.

    Raises
    ------
    StudyError
        A folder in which nothing can be written.

    """
    place = directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".writable").touch()
        (directory / ".writable").unlink(missing_ok=True)
        for place in map(directory.joinpath, names):
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        found = "no folder, or a link to none," if isinstance(error, FileExistsError) else None
        raise StudyError(
            f"the output folder must be writable, got {found or error.strerror} for {place}; "
            "choose another output.directory"
        ) from error


def write_results(
    study: Study,
    problem: Problem,
    pairs: Pairs,
    *,
    outcome: Outcome,
    timings: dict[str, float],
) -> tuple[str, ...]:
    """Write all files and return what there is to note.

    Collective. Rank 0 gets one vector at a time.

    Raises
    ------
    StudyError
        When files cannot be written; those of an earlier run are then as they were.

    """
    comm, notes = pairs.comm, pairs.info.notes
    wanted, writing = None, None
    parts = {place: part for place, _, part in _gradient_parts(outcome) if isinstance(part, Spread)}
    small = {
        place: gathered(comm, part.local)
        for place, part in parts.items()
        if len(part) <= INLINE_ENTRIES
    }
    with guard(comm):
        if comm.rank == 0:
            content = _json_content(pairs, outcome, timings, small)
            wanted = [*_wanted_columns(study, problem, pairs), *((place, 0) for place in parts)]
            writing = _writing(study, problem, wanted, outcome=outcome, content=content)
    error = _next(writing, None)
    for place, j in comm.bcast(wanted, root=0):
        local = parts[place].local if place in parts else _local(place, j, problem, pairs)
        column = gathered(comm, local)
        error = error or _next(writing, column)
    error = error or _next(writing, None)
    raise_together(comm, _described(study, error))
    return notes


Column: TypeAlias = tuple[str, int]
"""Place in result.h5, and number of a vector there."""


def _wanted_columns(study: Study, problem: Problem, pairs: Pairs) -> list[Column]:
    """Return what rank 0 must gather, in the order in which it is written."""
    names = [name for name, part in problem.p.items() if params.is_distributed(part)]
    found = [(f"parameters/{name}", 0) for name in sorted(names)]
    vectors = study.output.get("vectors", True)
    if vectors or problem.mesh is not None:
        found += [("right", j) for j in range(pairs.right.shape[1])]
    if vectors and pairs.left is not None:
        found += [("left", j) for j in range(pairs.left.shape[1])]
    return found


def _local(place: str, j: int, problem: Problem, pairs: Pairs) -> Any:
    """Return this rank's part of a column."""
    if place == "right":
        return pairs.right[:, j]
    if place == "left" and pairs.left is not None:
        return pairs.left[:, j]
    return params.local_values(problem.p[place.removeprefix("parameters/")])


def _next(writing: Generator[None, Any, None] | None, column: Any) -> Exception | None:
    """Let rank 0 write what was gathered; an error is for later, when all ranks listen."""
    try:
        if writing is not None:
            writing.send(column)
    except StopIteration:
        pass
    except Exception as caught:
        return caught
    return None


def _described(study: Study, error: Exception | None) -> Exception | None:
    if not isinstance(error, OSError):
        return error
    # HDF5's texts are long; the reason is in the number.
    reason = error.strerror if error.errno is None else os.strerror(error.errno)
    return StudyError(
        f"results must be writable, got {reason or error} in {study.directory}; "
        "make room and go on with --resume, or choose another output.directory"
    )


def _writing(
    study: Study,
    problem: Problem,
    wanted: Sequence[Column],
    *,
    outcome: Outcome,
    content: Mapping[str, Any],
) -> Generator[None, Any, None]:
    """Write all files, then move them into place together, result.json last.

    Vectors and distributed parameters are sent in, one after the other as ``wanted`` says.
    """
    study.directory.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
    with ExitStack() as files:
        if problem.mesh is None:
            files.push(partial(_remove_earlier, study.directory / PICTURE))

        def place(name: str) -> Path:
            return files.enter_context(atomic_path(study.directory / name))

        summary_path = place(SUMMARY)
        with ExitStack() as opened:
            file = opened.enter_context(written_hdf5(place(ARRAYS)))
            _write_small(file, problem, outcome, content)
            picture = None
            if problem.mesh is not None:
                write_mesh(file, problem.mesh)
                fields = VtuFile(place(PICTURE), problem.mesh, run=content["run"])
                picture = opened.enter_context(fields)
            labels = {place: label for place, label, _ in _gradient_parts(outcome)}
            for name, j in wanted:
                column = yield
                if name not in {"right", "left"}:
                    checked_dataset(file, name, column)
                elif study.output.get("vectors", True):
                    _write_column(file, name, j, column, len(content["values"]))
                if picture is not None and name == "right":
                    _show_mode(picture, problem.mesh, j, column)
                _show_gradient(picture, problem.mesh, labels.get(name), column)
            for _, label, part in _gradient_parts(outcome):
                _show_gradient(picture, problem.mesh, label, part)
        write_json(summary_path, content)
        yield


def _remove_earlier(path: Path, failed: object, *_: object) -> None:
    """Remove a file of an earlier run that this one does not replace."""
    if failed is None:
        path.unlink(missing_ok=True)


def _write_small(file: Any, problem: Problem, outcome: Outcome, content: Mapping[str, Any]) -> None:
    write_attributes(file, format=RESULT_FORMAT, version=RESULT_VERSION, run=content["run"])
    checked_dataset(file, "values", content["values"])
    for place, _, part in _gradient_parts(outcome):
        if not isinstance(part, Spread):
            checked_dataset(file, place, part)
    for parameter, entries in problem.p.items():
        if not params.is_distributed(entries):
            checked_dataset(file, f"parameters/{parameter}", entries)


def _write_column(file: Any, side: str, j: int, column: Any, count: int) -> None:
    if j == 0:
        rows = min(len(column), COLUMN_ROWS)
        shape, chunks = (len(column), count), (rows, 1)
        file.create_dataset(side, shape, column.dtype, chunks=chunks, fletcher32=True)
    file[side][:, j] = column


def _show_mode(picture: VtuFile, mesh: Mesh | None, j: int, mode: Any) -> None:
    if mesh is not None and mesh.cell_dofs is not None:
        picture.cell_field(f"mode_{j}", mesh.cell_field(mode))
    elif mesh is not None and mesh.shows_modes:
        picture.point_field(f"mode_{j}", mesh.point_field(mode))


def _show_gradient(
    picture: VtuFile | None, mesh: Mesh | None, label: str | None, entries: Any
) -> None:
    """Write a gradient that has one entry per cell, and is all here; nothing without a label."""
    if picture is None or mesh is None or label is None or isinstance(entries, Spread):
        return
    if len(entries) == mesh.cell_count:
        picture.cell_field(label, entries)


def _gradient_parts(outcome: Outcome) -> Iterator[tuple[str, str, Any]]:
    """Give place in result.h5, name in the picture and entries of every gradient."""
    for name, gradient in outcome.gradients.items():
        for parameter, entries in gradient.items():
            yield f"gradients/{name}/{parameter}", f"{name}_{parameter}", entries


def _json_content(
    pairs: Pairs, outcome: Outcome, timings: dict[str, float], small: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what result.json says.

    Not collective. ``small``: the entries of gradients that are spread, and short, by place.
    """
    return {
        # Also in result.h5: files of two runs must not be taken for one.
        "run": secrets.token_hex(8),
        "values": pairs.values,
        "residuals": pairs.residuals,
        "left_residuals": pairs.info.left_residuals,
        "condition": pairs.condition,
        "clusters": pairs.clusters,
        "normalization": str(pairs.normalization),
        "completeness": asdict(pairs.info.completeness),
        "notes": pairs.info.notes,
        "objectives": outcome.values,
        "gradients": {
            name: {
                parameter: _reference(f"gradients/{name}/{parameter}", entries, small)
                for parameter, entries in gradient.items()
            }
            for name, gradient in outcome.gradients.items()
        },
        "gradient_errors": outcome.gradient_errors,
        "failures": outcome.failures,
        "exit_code": exit_codes.worst(outcome.codes.values()),
        "timings": timings,
        "versions": versions(),
        "ranks": pairs.comm.size,
    }


def _reference(place: str, entries: Any, small: Mapping[str, Any]) -> dict[str, Any]:
    reference = {"path": place, "size": len(entries)}
    if len(entries) <= INLINE_ENTRIES:
        reference["entries"] = small.get(place, entries)
    return reference


def versions() -> dict[str, str]:
    """Return the versions a result depends on.  (Not collective.)"""
    found = {"geneig_adjoint": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "petsc4py", "slepc4py", "mpi4py", "h5py"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return {**found, "scalars": _petsc.SCALAR_NAME}
