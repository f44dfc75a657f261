"""Which package factors A - sigma B of a nonsymmetric pencil on one rank or a few.

MUMPS is made for many ranks and for dense fronts. On meshes of the plane, and on bars, fronts
are small, and PETSc's own LU solves with its factor ten times faster. It does not pivot: it is
kept only where products with the matrix, forward and transposed, come back from it with small
errors in every row, and MUMPS takes over where they do not. Several ranks have whole factors
each (`divided_factors`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.csr_matrices import matrix_of
from geneig_adjoint.factor_copies import MOST_RANKS, gathered
from geneig_adjoint.pencil import Pencil

SMALLEST = 5_000
"""Rows below which a factorisation takes no time worth a decision."""
LARGEST = 1_000_000
"""Rows above which a factorisation without dense kernels takes too long."""
DENSEST = 40
"""Entries per row above which the same is true."""
FLAT = 2.3
"""Dimension of the mesh up to which fronts are small: 2 for planes, but never exactly."""
HOPS = 4
STARTS = 7
LARGEST_ERROR = 1e-13
"""Error of a product that came back, relative to the terms of its row: rounding, some hundred
times over. Values and vectors are as wrong as if the matrix had errors of this size, where MUMPS
leaves rounding, and those of a fine mesh are small against the matrix."""

PACKAGE = "pc_factor_mat_solver_type"
QUICK_OPTIONS = {
    PACKAGE: "petsc",
    "pc_factor_mat_ordering_type": "nd",
    # PETSc's own limit is absolute; small pivots show in the errors of the products.
    "pc_factor_zeropivot": 0.0,
}


def is_flat(pencil: Pencil, sigma: complex) -> bool:
    """Tell whether PETSc's own LU is likely to be the fastest for A - sigma B.

    Collective, the same on all ranks. A mesh of dimension d has 2^d times the neighbours
    within twice as many steps, seen from most of its points.
    """
    if not SMALLEST <= pencil.n <= LARGEST:
        return False
    mat = pencil.A if sigma == 0 else pencil.shifted(sigma)
    try:
        zeros = np.count_nonzero(_petsc.diagonal(mat) == 0)
        # Zeros may be on another rank.
        return not pencil.comm.allreduce(zeros) and has_flat_graph(mat)
    finally:
        if mat is not pencil.A:
            mat.destroy()


def has_flat_graph(mat: PETSc.Mat, *, smallest: int = SMALLEST) -> bool:
    """Tell whether the graph of a sparse matrix is like that of a mesh of the plane, or a bar.

    Collective, the same on all ranks. A few ranks gather it to see; where many share a matrix,
    or a large one, or where it has fewer rows than ``smallest``, the answer is no.
    """
    n, entries = mat.getSize()[0], mat.getInfo(PETSc.Mat.InfoType.GLOBAL_SUM)["nz_used"]
    if n < smallest or entries > DENSEST * n:
        return False
    if mat.comm.size == 1:
        return _is_flat(mat)
    if n > LARGEST or mat.comm.size > MOST_RANKS or mat.getType() != PETSc.Mat.Type.MPIAIJ:
        return False
    whole = gathered(mat)
    try:
        return _is_flat(whole)
    finally:
        whole.destroy()


def _is_flat(mat: PETSc.Mat) -> bool:
    offsets, columns = mat.getRowIJ()
    n = len(offsets) - 1
    starts = (np.arange(STARTS) + 0.5) * n / STARTS
    dimensions = [_dimension((offsets, columns), int(start)) for start in starts]
    return float(np.median(dimensions)) <= FLAT


def _dimension(graph: tuple[Block, Block], start: int) -> float:
    """Return the dimension of the graph as seen from a vertex; inf where it is too small."""
    offsets, columns = graph
    seen = np.zeros(len(offsets) - 1, dtype=bool)
    seen[start] = True
    front, inside = np.array([start]), [1]
    for _ in range(2 * HOPS):
        counts = offsets[front + 1] - offsets[front]
        places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found = columns[np.repeat(offsets[front], counts) + places]
        front = np.unique(found[~seen[found]])
        seen[front] = True
        inside.append(inside[-1] + len(front))
    # A graph that is soon exhausted has no dimension.
    return np.inf if inside[-1] > len(seen) // 3 else float(np.log2(inside[-1] / inside[HOPS]))


def set_up_tried(eps: SLEPc.EPS) -> Callable[[], object] | None:
    """Factor in the way an EPS is configured for, such as by ``QUICK_OPTIONS``.

    Collective; on one rank, or by a factor that fails on all ranks alike. Returns what is left
    to do by MUMPS if that is not accurate; then the KSP is left without a factor.
    """
    ksp = eps.getST().getKSP()
    left: Callable[[], object] = eps.setUp
    try:
        with _petsc.plain_errors():
            eps.setUp()
        if is_accurate(ksp):
            return None
        left = ksp.setUp  # an EPS is set up once
    except PETSc.Error:
        pass  # a pivot that is zero, or a singular block
    turned_to_mumps(ksp)
    return left


def turned_to_mumps(ksp: PETSc.KSP) -> None:
    """Drop what a KSP has for a factor, and let MUMPS make the next.  (Collective.)"""
    operators = ksp.getOperators()
    pc = ksp.getPC()
    pc.reset()
    pc.setType(PETSc.PC.Type.LU)
    pc.setFactorOrdering("external")  # MUMPS has its own
    pc.setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
    ksp.setOperators(*operators)


def is_accurate(ksp: PETSc.KSP) -> bool:
    """Tell whether solves with a factor are accurate in every row, both ways.

    Collective. Random vectors see every entry of the error of the factor.
    """
    mat = ksp.getOperators()[0]
    comm = mat.comm.tompi4py()
    offsets, columns, values = mat.getValuesCSR()
    sizes = matrix_of((offsets, columns, np.abs(values)), mat.getSizes(), mat.comm)
    x = _petsc.deterministic_block(mat.getOwnershipRange(), 1, seed=17)
    try:
        for transposed in (False, True):
            b = _petsc.multiply(mat, x, hermitian=transposed)
            with np.errstate(all="ignore"):
                back = solve_block(ksp, b, hermitian=transposed)
                errors = np.abs(b - _petsc.multiply(mat, back, hermitian=transposed))
                terms = _petsc.multiply(sizes, np.abs(back), hermitian=transposed).real + np.abs(b)
                accurate = errors / np.maximum(terms, TINY) <= LARGEST_ERROR
            # What is not a number is not accurate.
            if comm.allreduce(np.count_nonzero(~accurate)):
                return False
    finally:
        sizes.destroy()
    return True
