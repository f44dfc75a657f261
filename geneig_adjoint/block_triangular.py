"""Factors of the diagonal blocks of a matrix that is block triangular up to its order.

Neutrons of a fast group do not feel those of a slow one, and pressure driven by a flow may not
act back: unknowns then form groups of which the later ones depend on the earlier ones only. A
factor of the whole matrix fills the blocks between groups, too; factors of the diagonal blocks
and products with the rest need a fraction of the operations and of the memory. The groups are
the strongly connected components of the graph of the nonzero values, so that neither the order
of the unknowns nor stored zeros matter.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint import _petsc, builds
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import BlockFactor, solve_block
from geneig_adjoint.csr_matrices import matrix_of
from geneig_adjoint.factoring import FAILED_LIBRARY, set_up_factor
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.sparse_lu import PACKAGE, QUICK_OPTIONS, has_flat_graph

SMALLEST = 2_000
"""Rows of a group that is worth a factor of its own; smaller ones join their neighbours."""
TRIANGULAR_OPTIONS = {"st_pc_type": "python"}
PREFIX = "ga_group_"
PACKAGES: dict[str, dict[str, Any]] = {
    "cholmod": {"pc_type": "cholesky", PACKAGE: "cholmod", "mat_cholmod_factor": "supernodal",
                "mat_cholmod_print": 0},
    "petsc": {"pc_type": "lu", **QUICK_OPTIONS},
    "mumps": {"pc_type": "lu", PACKAGE: "mumps"},
}  # fmt: skip


def groups_of(mat: PETSc.Mat) -> list[Block] | None:
    """Return rows of groups, each of which depends on itself and earlier ones only.

    Not collective: a matrix on one rank. None where there are no two groups of some size.
    """
    from scipy.sparse.csgraph import connected_components  # here: few programs need it

    csr = nonzeros(mat)
    # SciPy would take the real parts of complex entries.
    graph = scipy.sparse.csr_matrix(
        (np.ones(csr.nnz), csr.indices, csr.indptr), shape=csr.shape, copy=False
    )
    number, labels = connected_components(graph, directed=True, connection="strong")
    large = np.bincount(labels, minlength=number) >= SMALLEST
    if np.count_nonzero(large) < 2:
        return None
    rows = np.repeat(labels, np.diff(csr.indptr))
    columns = labels[csr.indices]
    if (columns >= rows).all():  # SciPy does not say in which of both directions it counts
        labels, large = number - 1 - labels, large[::-1]
    elif not (columns <= rows).all():
        return None
    # Any cut of the sequence of components leaves it triangular: small ones stay with the last
    # large one before them.
    group = np.maximum(np.cumsum(large) - 1, 0)[labels]
    return [np.flatnonzero(group == i) for i in range(int(np.count_nonzero(large)))]


def is_triangular(pencil: Pencil, sigma: complex) -> bool:
    """Tell whether A - sigma B falls into groups.  (Collective; on one rank only.)"""
    if pencil.comm.size > 1 or pencil.n < 2 * SMALLEST:
        return False
    mat = pencil.A if sigma == 0 else pencil.shifted(sigma)
    try:
        return groups_of(mat) is not None
    finally:
        if mat is not pencil.A:
            mat.destroy()


def nonzeros(mat: PETSc.Mat) -> Any:
    """Return the entries of a matrix on one rank that are not zero, by rows."""
    offsets, columns, values = mat.getValuesCSR()
    csr = scipy.sparse.csr_matrix((values, columns, offsets), shape=mat.getSize())
    csr.eliminate_zeros()
    return csr


@dataclass(eq=False)
class _Group:
    """Rows of a group, the solver of its block, and the entries in columns of earlier groups."""

    rows: Any
    ksp: PETSc.KSP
    symmetric: bool
    beside: Any
    source: PETSc.Vec
    target: PETSc.Vec


def entries_of(ksp: PETSc.KSP) -> float:
    """Return how many numbers are in the factor of a group, as if it were one of LU.

    Not collective.
    """
    pc = ksp.getPC()
    factor = pc.getFactorMatrix()
    if pc.getFactorSolverType() == PETSc.Mat.SolverType.MUMPS:
        entries = float(factor.getMumpsInfog(29))
        return entries if entries >= 0 else -1e6 * entries
    halves = 2 if pc.getType() == PETSc.PC.Type.CHOLESKY else 1
    return halves * float(factor.getInfo()["nz_used"])


class GroupFactor(BlockFactor):
    """Python context of a PC that solves group after group."""

    @property
    @abstractmethod
    def number(self) -> int:
        """Number of groups.  (Not collective.)"""

    @property
    @abstractmethod
    def entries(self) -> float:
        """Numbers in the factors of all groups.  (Not collective.)"""

    def applyTranspose(  # noqa: N802  (PETSc's name)
        self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        """Solve with the transpose for one vector.  (Collective.)"""
        found = self.solve(source.array_r[:, None].conj(), hermitian=True)
        target.array[:] = found[:, 0].conj()


class TriangularFactor(GroupFactor):
    """Python context of a PC on one rank that solves group after group.

    PETSc calls `setUp` whenever the matrix has changed: its groups may have, too.
    """

    def __init__(self) -> None:
        self.groups: list[_Group] = []

    @property
    def number(self) -> int:
        """Number of groups.  (Not collective.)"""
        return len(self.groups)

    @property
    def entries(self) -> float:
        """Numbers in all factors.  (Not collective.)"""
        return sum(entries_of(group.ksp) for group in self.groups)

    def setUp(self, pc: PETSc.PC) -> None:
        """Factor the diagonal blocks of the PC's matrix.  (Not collective.)"""
        self.reset()
        mat = pc.getOperators()[1]
        csr = nonzeros(mat)
        for rows in groups_of(mat) or [np.arange(csr.shape[0])]:
            chosen = as_slice(rows)
            own = csr[chosen]
            block, beside = own[:, chosen], without_columns(own, rows)
            symmetric = is_symmetric(block)
            ksp = factored(block, symmetric=symmetric)
            vecs = ksp.getOperators()[0].createVecs()
            self.groups.append(_Group(chosen, ksp, symmetric, beside, *vecs))

    def apply(self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec) -> None:
        """Solve for one vector.  (Not collective.)"""
        given = source.array_r
        found = np.zeros(given.shape, dtype=given.dtype)
        for group in self.groups:
            group.source.array[:] = given[group.rows]
            if group.beside.nnz:
                group.source.array[:] -= group.beside @ found
            group.ksp.solve(group.source, group.target)
            found[group.rows] = group.target.array_r
        target.array[:] = found

    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return solutions for the columns of a block (n, k).  (Not collective.)"""
        rest = np.array(block, dtype=np.result_type(block, PETSc.ScalarType), order="F")
        found = np.zeros_like(rest)
        for group in reversed(self.groups) if hermitian else self.groups:
            if not hermitian and group.beside.nnz:
                rest[group.rows] -= group.beside @ found
            transposed = hermitian and not group.symmetric
            part = solve_block(group.ksp, rest[group.rows], hermitian=transposed)
            found[group.rows] = part
            if hermitian and group.beside.nnz:
                rest -= group.beside.conj().T @ part
        return found

    def reset(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factors.  (Not collective.)"""
        for group in self.groups:
            _petsc.destroy(group.source, group.target, group.ksp)
        self.groups.clear()

    def destroy(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factors, with the PC.  (Not collective.)"""
        self.reset()


def factored(csr: Any, *, symmetric: bool) -> PETSc.KSP:
    """Return a solver for a sparse matrix on one rank, by the package that suits it.

    Not collective. PETSc's own LU on meshes of the plane, CHOLMOD where the matrix is
    symmetric and turns out to be positive definite, else MUMPS.
    """
    csr.sort_indices()
    mat = matrix_of((csr.indptr, csr.indices, csr.data), csr.shape, PETSc.COMM_SELF)
    try:
        if csr.diagonal().all() and has_flat_graph(mat, smallest=0):
            with suppress(PETSc.Error):
                return factored_by("petsc", mat)
        if symmetric and builds.HAS_CHOLMOD and (csr.diagonal() > 0).all():
            with suppress(PETSc.Error):
                return factored_by("cholmod", mat)
        return factored_by("mumps", mat)
    finally:
        mat.destroy()


def without_columns(csr: Any, columns: Block) -> Any:
    """Return sparse rows without their entries in some columns."""
    inside = np.zeros(csr.shape[1], dtype=bool)
    inside[columns] = True
    found = csr.copy()
    found.data[inside[found.indices]] = 0.0
    found.eliminate_zeros()
    return found


def is_symmetric(csr: Any) -> bool:
    """Tell whether a matrix is Hermitian to the last bit: one factor then solves both ways."""
    difference = csr - csr.conj().T
    return not difference.nnz or not np.any(difference.data)


def factored_by(package: str, mat: PETSc.Mat) -> PETSc.KSP:
    """Return a solver for a matrix on one rank by one of `PACKAGES`.  (Not collective.)"""
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, package == "cholmod")
    ksp = PETSc.KSP().create(mat.comm)
    try:
        ksp.setOperators(mat)
        ksp.setOptionsPrefix(PREFIX)
        options = {"ksp_type": "preonly", **PACKAGES[package]}
        with _petsc.inserted_options(PREFIX, options), _petsc.plain_errors():
            ksp.setFromOptions()
            status = set_up_factor(ksp, PREFIX)
        if status < 0:
            raise PETSc.Error(FAILED_LIBRARY)
    except BaseException:
        _petsc.destroy_quietly(ksp)
        raise
    return ksp


def as_slice(rows: Block) -> Any:
    """Return rows as a slice where they are equally far apart: ten times faster."""
    steps = np.diff(rows)
    if steps.size and (steps == steps[0]).all():
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows


def triangular_factor(ksp: PETSc.KSP) -> GroupFactor | None:
    """Return the factors of groups that a KSP solves by, if it does.  (Not collective.)"""
    pc = ksp.getPC()
    context = pc.getPythonContext() if pc.getType() == PETSc.PC.Type.PYTHON else None
    return context if isinstance(context, GroupFactor) else None
