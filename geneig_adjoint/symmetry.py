"""Measuring symmetry, definiteness and size by products with vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import NotHermitianError
from geneig_adjoint.reductions import column_norms, inner, largest_over_ranks

if TYPE_CHECKING:
    from mpi4py import MPI

ROUNDING = 1e-12
"""Asymmetries, and negative eigenvalues of scaled matrices, that still count as rounding."""
NEGLIGIBLE = 1e-14
"""Entries, relative to the largest ones, that still count as the rounding of zero."""


def infinity_norm(mat: PETSc.Mat) -> float:
    """Return the infinity norm, of an operator an estimate from products.  (Collective.)"""
    if not _petsc.is_shell(mat):
        return float(mat.norm(PETSc.NormType.INFINITY))
    comm, probes = mat.comm.tompi4py(), _petsc.deterministic_block(mat.getOwnershipRange(), 2, 3)
    ratios = column_norms(comm, _petsc.multiply(mat, probes)) / column_norms(comm, probes)
    return float(ratios.max() * np.sqrt(mat.getSize()[0]))


def hermitian_defect(mat: PETSc.Mat) -> float:
    """Return how far a matrix is from its Hermitian transpose, by products with random v.

    Collective. Rows and columns are scaled by their largest entries first, so that a
    penalty of 1e13 on one row does not hide an asymmetry between others. An operator
    without entries may lack its Hermitian transpose, so there u^H M v and
    conj(v^H M u) are compared.
    """
    comm = mat.comm.tompi4py()
    probes = _petsc.deterministic_block(mat.getOwnershipRange(), 2, seed=1)
    if not _petsc.REAL_SCALARS:
        probes = probes + 1j * _petsc.deterministic_block(mat.getOwnershipRange(), 2, seed=2)
    if _petsc.is_shell(mat):
        return _adjoint_defect(comm, probes, _petsc.multiply(mat, probes))
    scale = 1.0 / np.sqrt(_petsc.row_sizes(mat))[:, None]
    product = scale * _petsc.multiply(mat, scale * probes)
    difference = product - scale * _petsc.multiply(mat, scale * probes, hermitian=True)
    largest = [np.abs(part).max(initial=0.0) for part in (difference, product)]
    worst, size = largest_over_ranks(comm, np.array(largest))
    return float(worst / max(size, TINY))


def symmetric_defect(mat: PETSc.Mat) -> float:
    """Return how far a matrix with entries is from its transpose (not conjugated).

    Collective. Measured as `hermitian_defect` does.
    """
    comm = mat.comm.tompi4py()
    probes = _petsc.deterministic_block(mat.getOwnershipRange(), 2, seed=1)
    if not _petsc.REAL_SCALARS:
        probes = probes + 1j * _petsc.deterministic_block(mat.getOwnershipRange(), 2, seed=2)
    scale = 1.0 / np.sqrt(_petsc.row_sizes(mat))[:, None]
    product = scale * _petsc.multiply(mat, scale * probes)
    # M^T v = conj(M^H conj(v))
    transposed = scale * _petsc.multiply(mat, scale * probes.conj(), hermitian=True).conj()
    largest = [np.abs(part).max(initial=0.0) for part in (product - transposed, product)]
    worst, size = largest_over_ranks(comm, np.array(largest))
    return float(worst / max(size, TINY))


def _adjoint_defect(comm: MPI.Comm, probes: Block, product: Block) -> float:
    gram = inner(comm, probes, product)
    sizes = column_norms(comm, probes) * column_norms(comm, product)
    return float(np.abs(gram - gram.conj().T).max() / max(sizes.max(), TINY))


def check_hermitian(
    A: PETSc.Mat, B: PETSc.Mat | None, tolerance: float, declared: str, *, remedy: str
) -> None:
    """Raise on all ranks unless A and B are Hermitian, as something declares them.

    Collective.

    Raises
    ------
    NotHermitianError
        The worst entry of a matrix that is not Hermitian.

    """
    for name, mat in (("A", A), ("B", B)):
        if mat is not None and hermitian_defect(mat) > tolerance:
            error = asymmetry_error(declared, name, mat, remedy=remedy)
            raise_together(mat.comm.tompi4py(), error)


def asymmetry_error(declared: str, name: str, mat: PETSc.Mat, *, remedy: str) -> NotHermitianError:
    """Return the error that names the worst entry of a matrix declared Hermitian.  (Collective.)"""
    message = f"{declared} needs {name} Hermitian, got "
    remedy = f"; {remedy}, or symmetrise it"
    if _petsc.is_shell(mat):
        return NotHermitianError(f"{message}an operator with u^H M v != conj(v^H M u){remedy}")
    difference = mat.copy()
    transposed = mat.copy()
    transposed = transposed.hermitianTranspose()
    difference.axpy(-1.0, transposed, structure=PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN)
    offsets, columns, values = difference.getValuesCSR()
    local = (0.0, 0, 0)
    if values.size:
        worst = int(np.argmax(np.abs(values)))
        row = mat.getOwnershipRange()[0] + int(np.searchsorted(offsets, worst, side="right")) - 1
        local = (float(np.abs(values[worst])), row, int(columns[worst]))
    size, row, column = max(mat.comm.tompi4py().allgather(local))
    _petsc.destroy(difference, transposed)
    return NotHermitianError(
        f"{message}|{name} - {name}^H| = {size:.3e} at entry ({row}, {column}){remedy}"
    )


def adjoint_defect(mat: PETSc.Mat) -> float:
    """Return by how much u^H (M v) and (M^H u)^H v differ, relatively, for random u, v.

    Collective.
    """
    comm = mat.comm.tompi4py()
    probes = _petsc.deterministic_block(mat.getOwnershipRange(), 4, seed=7)
    if not _petsc.REAL_SCALARS:
        probes = probes + 1j * _petsc.deterministic_block(mat.getOwnershipRange(), 4, seed=8)
    u, v = probes[:, :2], probes[:, 2:]
    forward, backward = _petsc.multiply(mat, v), _petsc.multiply(mat, u, hermitian=True)
    difference = inner(comm, u, forward) - inner(comm, backward, v)
    size = column_norms(comm, u).max() * column_norms(comm, forward).max()
    return float(np.abs(difference).max() / max(float(size), TINY))


def is_positive(mat: PETSc.Mat, *, strictly: bool = False, steps: int = 30) -> bool:
    """Tell whether a Hermitian matrix is positive (semi)definite.

    Collective. Proved where that is cheap: a negative diagonal entry or 2 x 2 minor says no,
    diagonal dominance says yes. Otherwise measured by the smallest Ritz value after some
    Lanczos steps on the matrix scaled to a unit diagonal, which has the same inertia: small
    masses between large ones do not hide. "No" is then certain, "yes" likely.

    Parameters
    ----------
    mat
        Hermitian, assembled or an operator (which is not scaled).
    strictly
        Ask for definite in place of semidefinite.
    steps
        Of Lanczos.

    """
    scales = None
    if not _petsc.is_shell(mat):
        signs = _Signs(mat)
        if signs.negative or (strictly and signs.vanishing):
            return False
        if signs.dominant and not strictly:
            return True
        scales = signs.scales
    ratio, value = _smallest_ritz(mat, scales, steps)
    if strictly:
        return ratio > ROUNDING
    # Entries that were summed up are as wrong as the largest one lets them be.
    return not (ratio < -ROUNDING and value < -NEGLIGIBLE)


class _Signs:
    """What the entries of a Hermitian matrix prove about its signs.  (Collective.)

    Attributes
    ----------
    negative : bool
        Whether some diagonal entry or 2 x 2 minor is, beyond rounding.
    vanishing : bool
        Whether some diagonal entry is not above rounding.
    dominant : bool
        Whether no diagonal entry is smaller than the others of its row together.
    scales : ndarray
        1 / sqrt(diagonal), (n_local,); 0 where it vanishes.

    """

    def __init__(self, mat: PETSc.Mat) -> None:
        comm = mat.comm.tompi4py()
        diagonal = _petsc.diagonal(mat).real
        offsets, _, values = mat.getValuesCSR()
        sums = np.zeros(len(diagonal))
        filled = np.flatnonzero(np.diff(offsets))
        if filled.size:
            sums[filled] = np.add.reduceat(np.abs(values), offsets[filled])
        largest = largest_over_ranks(comm, np.array([sums.max(initial=0.0)]))[0]
        floor = max(NEGLIGIBLE * float(largest), TINY)
        raised = 1.0 / np.sqrt(np.maximum(diagonal, floor))
        empty = diagonal <= floor
        minors = _largest_scaled(mat, raised)
        verdicts = (
            (diagonal < -floor).any() or minors > 1 + ROUNDING,
            empty.any(),
            # a sum of n numbers has a rounding of its own
            (sums - 2 * diagonal > 1e-15 * sums).any(),
        )
        found = largest_over_ranks(comm, np.array(verdicts, dtype=float)) > 0
        self.negative, self.vanishing, self.dominant = found[0], found[1], not found[2]
        self.scales = np.where(empty, 0.0, raised)


def _largest_scaled(mat: PETSc.Mat, scales: Block) -> float:
    """Return the largest |b_ij| / sqrt(b_ii b_jj) of this rank's rows.  (Collective.)"""
    scaled, vec = mat.copy(), _petsc.vec_from(mat, scales)
    scaled.diagonalScale(vec, vec)
    size = np.abs(scaled.getValuesCSR()[2]).max(initial=0.0)
    _petsc.destroy(vec, scaled)
    return float(size)


def _smallest_ritz(mat: PETSc.Mat, scales: Block | None, steps: int) -> tuple[float, float]:
    """Return the smallest Ritz value over the largest, and v^H M v / (|M| v^H v) of it.

    Collective. Lanczos on S M S with S = diag(scales), v = S u for its Ritz vector u.
    """
    comm, n = mat.comm.tompi4py(), mat.getSize()[0]
    S = np.ones((mat.getLocalSize()[0], 1)) if scales is None else scales[:, None]
    v = _petsc.deterministic_block(mat.getOwnershipRange(), 1, seed=4)
    v = v * (S > 0)
    basis = np.zeros((v.shape[0], min(steps, n)), dtype=PETSc.ScalarType, order="F")
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    size, scale = 0.0, 0.0
    for step in range(min(steps, n)):
        norm = float(column_norms(comm, v)[0])
        if norm <= 1e-12 * scale or norm == 0:
            break
        if diagonal:
            off_diagonal.append(norm)
        basis[:, [step]] = v / norm
        known = basis[:, : step + 1]
        scaled = S * known[:, -1:]
        product = _petsc.multiply(mat, scaled)
        v = S * product
        norms = column_norms(comm, np.hstack([product, scaled, v]))
        size = max(size, float(norms[0] / norms[1]))
        scale = max(scale, float(norms[2]))
        # By the recurrence first, and then all of it: ghosts of large Ritz values would be
        # harmless, lost orthogonality would not.
        diagonal.append(float(inner(comm, known[:, -1:], v)[0, 0].real))
        v = v - diagonal[-1] * known[:, -1:]
        if step:
            v = v - norm * known[:, -2:-1]
        v = v - known @ inner(comm, known, v)
    if not diagonal:
        return 0.0, 0.0
    values, turns = scipy.linalg.eigh_tridiagonal(np.array(diagonal), np.array(off_diagonal))
    length = float(column_norms(comm, S * (basis[:, : len(diagonal)] @ turns[:, :1]))[0])
    ratio = values[0] / max(abs(values[0]), abs(values[-1]), TINY)
    return float(ratio), float(values[0] / max(size * length**2, TINY))
