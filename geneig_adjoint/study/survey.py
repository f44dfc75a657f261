"""`geneig-adjoint check --dry-run`: a study, its files and its model, without solving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint.adjoint_settings import chosen_strategy
from geneig_adjoint.collective import raise_together
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.solve import check_words
from geneig_adjoint.study.build import Problem
from geneig_adjoint.study.earlier_runs import NAME as CHECKPOINT
from geneig_adjoint.study.memory import in_bytes, memory_lines
from geneig_adjoint.study.settings import Study, about_the_study
from geneig_adjoint.symmetry import infinity_norm
from geneig_adjoint.wanted import Wanted

if TYPE_CHECKING:
    from mpi4py import MPI

ENTRY, INDEX = np.dtype(PETSc.ScalarType), np.dtype(PETSc.IntType)
REQUEST = ("count", "target", "which", "interval")
COUNT_CHECK = "inertia"


def survey(study: Study, problem: Problem, pencil: Pencil, objectives: Mapping[str, Any]) -> str:
    """Return a table of what a study would solve; nothing is solved or written.

    Collective.

    Raises
    ------
    InputError
        A mesh that does not fit.
    StudyError
        More pairs than rows, a ``which``, ``strategy`` or ``count_check`` that does not exist.
    """
    rows = pencil.view.rows(pencil)
    n = problem.comm.allreduce(rows[1] - rows[0])
    raise_together(problem.comm, None if problem.mesh is None else problem.mesh.error(n))
    given = study.solver_arguments()
    wanted = {key: value for key, value in given.items() if key in REQUEST}
    counted = given.get("count_check", COUNT_CHECK)
    with about_the_study():
        check_words(given.get("phase", "largest"), given.get("left", "auto"), counted)
        request = Wanted(
            **{"count": 1, **wanted},
            options=given["solver_parameters"],
            count_check=counted == COUNT_CHECK,
        ).checked(pencil)
        chosen_strategy(study.adjoint.get("strategy"), pencil, None)
    lines = [
        ("rows", f"{n:,} on {_ranks(problem.comm, rows)}"),
        *_matrices(pencil),
        *_elements(problem),
        *_parameters(problem),
        ("structure", _structure(pencil)),
        ("mesh", _mesh(problem)),
        ("wanted", ", ".join(f"{key} = {value}" for key, value in wanted.items()) or "count = 1"),
        ("objectives", ", ".join(objectives)),
        *memory_lines(pencil, request),
        ("results", _directory(study)),
    ]
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _ranks(comm: MPI.Comm, rows: tuple[int, int]) -> str:
    counts = comm.allgather(rows[1] - rows[0])
    if comm.size == 1:
        return "1 rank"
    return f"{comm.size} ranks ({min(counts):,} ... {max(counts):,} each)"


def _matrices(pencil: Pencil) -> list[tuple[str, str]]:
    found = []
    for name, mat in (("A", pencil.A), ("B", pencil.B)):
        if mat is None:
            found.append((name, "identity"))
        elif _petsc.is_shell(mat):
            found.append((name, "operator without entries"))
        else:
            count = mat.getInfo(PETSc.Mat.InfoType.GLOBAL_SUM)["nz_used"]
            memory = in_bytes(count * (ENTRY.itemsize + INDEX.itemsize))
            found.append((name, f"{count:,.0f} entries, {memory}, norm {infinity_norm(mat):.4g}"))
    if isinstance(pencil, QuadraticPencil):
        found.append(("", "of the linearisation, twice the size of K, C and M"))
    return found


def _elements(problem: Problem) -> list[tuple[str, str]]:
    if not isinstance(problem.model, ElementModel):
        return [("model", type(problem.model).__name__)]
    found = []
    for number, block in enumerate(problem.model.blocks):
        count = problem.comm.allreduce(len(block.dofs))
        names = ", ".join(sorted(block.parameters)) or "no parameter"
        text = f"{count:,} elements in {block.matrix}, {type(block.kernel).__name__} of {names}"
        found.append((f"block {number}", text))
    return found


def _parameters(problem: Problem) -> list[tuple[str, str]]:
    """Return size and range of every parameter."""
    found = []
    for name, value in problem.p.items():
        local = params.local_values(value)
        ends = np.array([-np.min(local, initial=np.inf), np.max(local, initial=-np.inf)])
        low, high = np.max(problem.comm.allgather(ends), axis=0)
        count = params.length(value) or 0
        text = f"{count:,} entr{'y' if count == 1 else 'ies'}"
        if high >= -low:
            text += f", {-low:.6g} ... {high:.6g}"
        if params.is_distributed(value):
            text += ", distributed"
        found.append((f"p.{name}", text))
    return found


def _structure(pencil: Pencil) -> str:
    """Return what is measured about A and B."""
    words = ["Hermitian" if pencil.hermitian else "not Hermitian"]
    if not pencil.hermitian and pencil.symmetric:
        words.append("complex symmetric")
    if pencil.B_hermitian:
        words.append("B positive" if pencil.B_positive else "B indefinite")
    if pencil.matrix_free:
        words.append("matrix-free")
    return ", ".join(words)


def _mesh(problem: Problem) -> str:
    mesh = problem.mesh
    if mesh is None:
        return "none: no pictures of fields"
    kinds = ", ".join(f"{len(numbers):,} {kind}" for kind, numbers in mesh.cells)
    where = ", unknowns in cells" if mesh.cell_dofs is not None else ""
    return f"{len(mesh.points):,} points, {kinds}{where}"


def _directory(study: Study) -> str:
    if (study.directory / CHECKPOINT).exists():
        return f"{study.directory} (has an unfinished run: go on with --resume)"
    there = (study.directory / "result.json").exists()
    kept = there and not study.output.get("overwrite", False)
    return f"{study.directory}{' (has results: give --overwrite to run)' if kept else ''}"
