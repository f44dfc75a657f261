"""What the factors of an eigensolve will need, counted before any of them is made.

MUMPS analyses the pattern of a matrix in a few per cent of the time of a factorisation (in space;
in the plane all is quick), and then knows how large everything will be. What makes it stop there
is a limit of 1 MB of memory. Other packages find orders about as good, so that their factors have
about as many entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.block_triangular import TRIANGULAR_OPTIONS
from geneig_adjoint.cholesky import PACKAGE
from geneig_adjoint.collective import freed_at_end
from geneig_adjoint.completeness import COUNT_OPTIONS, is_counted
from geneig_adjoint.eps_setup import solver_options, solves_iteratively
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import Wanted

STOP = {"mat_mumps_icntl_23": 1}
"""Memory in MB that MUMPS may take: too little for any factor, and it says so at once."""
FACTOR_OPTIONS = {"ksp_type": "preonly", "pc_factor_mat_solver_type": "mumps"}
PREFIX = "ga_estimate_"
MB = 1e6
MOST_ENTRIES = 1e6
"""MUMPS gives larger counts in millions, and negative."""
ENTRY, INDEX = np.dtype(PETSc.ScalarType).itemsize, np.dtype(PETSc.IntType).itemsize
TRIPLE = ENTRY + 8
"""Bytes of an entry that goes to MUMPS: value, row and column."""
DIRECT = {None, "lu", "cholesky", TRIANGULAR_OPTIONS["st_pc_type"]}


@dataclass(frozen=True)
class FactorEstimate:
    """What the factors of an eigensolve need.

    Attributes
    ----------
    package : str
        That makes the factor: "mumps", "cholmod", "petsc"; "groups": factors of groups of
        unknowns, and the estimate is that of one of all of them; "": none is made.
    entries, operations : float
        Of one factor, all ranks together.
    memory : float
        Bytes on this rank for the factor, and for the matrix it is made of.
    counting : float
        Bytes on this rank for the second factor, which counts the pairs; 0 without.
    whole : bool
        Whether each of several ranks has a factor of its own.

    """

    package: str
    entries: float
    operations: float
    memory: float
    counting: float
    whole: bool


@dataclass(frozen=True)
class _Analysis:
    entries: float
    operations: float
    memory: float


def factor_estimate(pencil: Pencil, wanted: Wanted) -> FactorEstimate | None:
    """Return what the factors of an eigensolve need.

    Collective. Nothing is factored; A - sigma B is made for it only where A has another pattern.

    Parameters
    ----------
    pencil, wanted
        What is to be solved; the request checked.

    Returns
    -------
    FactorEstimate or None
        None where nothing is factored, where the user's options say what takes the place of
        the factor, and for builds of PETSc without MUMPS.

    """
    if not PETSc.Sys.hasExternalPackage("mumps") or not _is_known(pencil, wanted):
        return None
    none = wanted.target is None and wanted.interval is None and pencil.B is None
    made = _Made("", False, _Analysis(0.0, 0.0, 0.0), 0.0) if none else _made(pencil, wanted)
    counting = 0.0
    if wanted.interval is not None:  # the factors at two shifts
        counting = made.memory
    elif wanted.count_check and is_counted(pencil, wanted):
        with _shifted(pencil, wanted.target) as mat:
            counting = _analysis(mat, COUNT_OPTIONS).memory
            counting += _entries(mat) * (ENTRY + INDEX + TRIPLE / 2)
    return None if none and not counting else FactorEstimate(
        made.package, made.found.entries, made.found.operations, made.memory, counting, made.whole
    )  # fmt: skip


@dataclass(frozen=True)
class _Made:
    package: str
    whole: bool
    found: _Analysis
    memory: float


def _made(pencil: Pencil, wanted: Wanted) -> _Made:
    """Return what the factor of the eigensolve will be.  (Collective.)"""
    options = {**solver_options(pencil, wanted, wanted.target), **wanted.options}
    package, kind = (wanted.option(name, options) for name in (PACKAGE, "st_pc_type"))
    package = "groups" if kind == "python" and package == "mumps" else str(package or "petsc")
    symmetric = kind == "cholesky" or package == "cholmod"
    own = {key[3:]: value for key, value in options.items() if key.startswith("st_mat_mumps")}
    own = {**FACTOR_OPTIONS, "pc_type": "cholesky" if symmetric else "lu", **own}
    only_b = wanted.target is None and wanted.interval is None
    with nullcontext(pencil.B) if only_b else _shifted(pencil, wanted.target) as mat:
        found = _analysis(mat, own)
        copies = _entries(mat) * (TRIPLE / 2 if symmetric else TRIPLE)
    memory = found.memory
    if package != "mumps":  # these are on one rank, or on each of them
        memory = found.entries * (ENTRY if symmetric else ENTRY + INDEX)
    whole = pencil.comm.size > 1 and package in {"cholmod", "groups"}
    return _Made(package, whole, found, memory + copies)


def _is_known(pencil: Pencil, wanted: Wanted) -> bool:
    """Tell whether what is factored, if anything, is no preconditioner.  (Not collective.)"""
    if not pencil.factorable or solves_iteratively(pencil, wanted, wanted.target):
        return False
    ksp, pc = (wanted.option(name, wanted.options) for name in ("st_ksp_type", "st_pc_type"))
    return ksp in {None, "preonly"} and pc in DIRECT


@contextmanager
def _shifted(pencil: Pencil, target: complex | None) -> Iterator[PETSc.Mat]:
    """Give a matrix with the pattern of A - sigma B: A itself if that has it.  (Collective.)"""
    structure = PETSc.Mat.Structure
    inside = pencil.structure in {structure.SAME_NONZERO_PATTERN, structure.SUBSET_NONZERO_PATTERN}
    if target == 0 or pencil.B is None or inside:
        yield pencil.A
        return
    mat = pencil.shifted(1.0 if target is None else target)
    with freed_at_end(pencil.comm, partial(_petsc.destroy_quietly, mat)):
        yield mat


def _analysis(mat: PETSc.Mat, options: Mapping[str, Any]) -> _Analysis:
    """Let MUMPS analyse a matrix; return what it says of the factor.  (Collective.)"""
    if options["pc_type"] == "cholesky":
        mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    ksp = PETSc.KSP().create(mat.comm)
    with freed_at_end(mat.comm.tompi4py(), partial(_petsc.destroy_quietly, ksp)):
        ksp.setOperators(mat)
        ksp.setOptionsPrefix(PREFIX)
        with _petsc.inserted_options(PREFIX, {**options, **STOP}), _petsc.plain_errors():
            ksp.setFromOptions()
            ksp.setUp()
        factor = ksp.getPC().getFactorMatrix()
        entries = float(factor.getMumpsInfog(20))
        return _Analysis(
            entries=entries if entries >= 0 else -MOST_ENTRIES * entries,
            operations=float(factor.getMumpsRinfog(1)),
            memory=MB * factor.getMumpsInfo(15),
        )


def _entries(mat: PETSc.Mat) -> float:
    """Return the entries in this rank's rows.  (Not collective.)"""
    return float(mat.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"])
