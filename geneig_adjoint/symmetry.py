"""Measuring symmetry and definiteness by products with vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import column_norms, inner, largest_over_ranks
from geneig_adjoint.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI


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


def asymmetry_error(declared: str | None, name: str, mat: PETSc.Mat) -> InputError:
    """Return the error that names the worst entry of a matrix declared Hermitian.  (Collective.)"""
    message = f"problem_type={declared!r} needs {name} Hermitian, got "
    remedy = '; use problem_type="nhep" or "gnhep", or symmetrise it'
    if _petsc.is_shell(mat):
        return InputError(f"{message}an operator with u^H M v != conj(v^H M u){remedy}")
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
    return InputError(
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


def smallest_ritz_ratio(mat: PETSc.Mat, steps: int = 30) -> float:
    """Return the smallest Ritz value over the largest, after some Lanczos steps.  (Collective.)"""
    comm, n = mat.comm.tompi4py(), mat.getSize()[0]
    v = _petsc.deterministic_block(mat.getOwnershipRange(), 1, seed=4)
    basis = np.zeros((v.shape[0], 0))
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    scale = 0.0
    for _ in range(min(steps, n)):
        norm = float(column_norms(comm, v)[0])
        if norm <= 1e-12 * scale:
            break
        if diagonal:
            off_diagonal.append(norm)
        v = v / norm
        basis = np.hstack([basis, v])
        v = _petsc.multiply(mat, v)
        scale = max(scale, float(column_norms(comm, v)[0]))
        # Full orthogonalisation, twice: ghosts of large Ritz values would be harmless,
        # lost orthogonality would not.
        coefficients = inner(comm, basis, v)
        diagonal.append(float(coefficients[-1, 0].real))
        v = v - basis @ coefficients
        v = v - basis @ inner(comm, basis, v)
    values = scipy.linalg.eigvalsh_tridiagonal(np.array(diagonal), np.array(off_diagonal))
    return float(values[0] / max(abs(values[0]), abs(values[-1]), TINY))
