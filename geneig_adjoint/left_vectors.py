"""Left eigenvectors from a solve of the transposed problem on the same factor."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.collective import freed_at_end
from geneig_adjoint.conditioning import backward_errors, residual_limit
from geneig_adjoint.eps_setup import DEFAULT_TOLERANCE
from geneig_adjoint.errors import ConvergenceError, IllConditionedWarning
from geneig_adjoint.exceptional_points import explained_as_defective
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.matching import assigned
from geneig_adjoint.near_factors import keep
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner, norms_of_columns, reduced
from geneig_adjoint.right_pairs import RightPairs
from geneig_adjoint.simple_pairs import (
    EXTRA_CANDIDATES,
    bordered_of,
    groups_of_values,
    partner_of,
    takes_factors,
)
from geneig_adjoint.wanted import WHICH, Wanted

LARGEST_LEFT_DISTANCE = 1e-9
"""Relative error of a left vector, seen through the factor, above which it is computed again."""


@dataclass(frozen=True)
class LeftVectors:
    """Left vectors with y^H B x = 1 and how well they satisfy their own equation.

    Attributes
    ----------
    vectors : ndarray
        This rank's rows (n_local, k).
    residuals : ndarray
        Backward errors of y^H A = lam y^H B, (k,).
    notes : tuple of str
    distances : ndarray or None
        Relative errors seen through the factor, (k,); inf of vectors that were hard to find, nan
        of those that nobody looked at.

    """

    vectors: Block
    residuals: Block
    notes: tuple[str, ...] = ()
    distances: Block | None = None


def left_vectors(pencil: Pencil, found: RightPairs, wanted: Wanted) -> LeftVectors:
    """Return the left vectors of right pairs.

    Collective. Hermitian definite pencils: y is x. Symmetric ones, complex or with an
    indefinite B: y is conj(x). Other Hermitian ones: y of lam is x of conj(lam), if that
    was computed too. Otherwise the transposed problem is solved on the eigensolver's
    factor and its vectors are matched by eigenvalue and biorthogonality; a vector whose
    own residual is too large is computed again from the transposed bordered system at
    the known eigenvalue.

    Raises
    ------
    ConvergenceError
        When a left vector stays inaccurate in spite of the fallback.
    DefectiveEigenvalueError
        When that is so at an exceptional point.

    """
    if pencil.definite:
        return LeftVectors(biorthonormal(pencil, found, found.right), found.residuals)
    with _petsc.log_stage("left"):
        left = np.zeros_like(found.right)
        missing = np.ones(len(found.values), dtype=bool)
        distances = np.full(len(found.values), np.nan)
        limit = residual_limit(found.tolerance)
        if pencil.symmetric:
            left, missing = np.asfortranarray(found.right.conj()), ~missing
        elif pencil.problem_type == "ghiep":
            # A x = lam B x gives x^H A = conj(lam) x^H B: y of lam is x of conj(lam).
            conjugates = found.values.conj(), found.right
            left, missing, distances = _matched(pencil, found, *conjugates, limit)
        if missing.all() and takes_factors(pencil, found, wanted):
            left, missing, distances = _from_factors(pencil, found, left, limit)
        if missing.any() and found.transformation is not None:
            candidates = _transposed_vectors(pencil, found.transformation, found, wanted)
            others, still, seen = _matched(pencil, found, *candidates, limit)
            left = np.asfortranarray(np.where(missing, others, left))
            distances = np.where(missing, seen, distances)
            missing &= still
        notes = []
        for j in np.flatnonzero(missing):
            place = (complex(found.values[j]), float(found.gaps[j]))
            with explained_as_defective(pencil, int(j), *place):
                left[:, j] = _from_bordered_system(pencil, found, int(j))
            distances[j] = np.inf
            notes.append(f"left vector {j} comes from the transposed bordered system")
        left = biorthonormal(pencil, found, left)
        residuals = backward_errors(pencil, found.values, left, left=True)
    worst = int(np.argmax(residuals))
    if not residuals[worst] <= limit:
        raise ConvergenceError(
            f"left vectors must have residuals below {limit:.1e}, got {residuals[worst]:.1e} for "
            f"eigenpair {worst} ({found.values[worst]:.6g}); lower eps_tol, or move the target",
            reason="LEFT_RESIDUAL",
            residual_norm=float(residuals[worst]),
        )
    return LeftVectors(left, residuals, tuple(notes), distances)


def _from_factors(
    pencil: Pencil, found: RightPairs, left: Block, limit: float
) -> tuple[Block, Block, Block]:
    """Return left vectors of simple pairs, which pairs lack a good one, and distances.

    Collective. By bordered matrices. The factors are kept for adjoints and tangents.
    """
    assert found.transformation is not None
    left, solved = np.array(left, dtype=complex, order="F"), np.zeros(len(found.values), dtype=bool)
    simple = [group[0] for group in groups_of_values(pencil, found) if len(group) == 1]
    for j in sorted(simple, key=lambda j: -found.values[j].imag):
        lam, partner = complex(found.values[j]), partner_of(found, j)
        if partner is not None and solved[partner]:
            left[:, j], solved[j] = left[:, partner].conj(), True
            continue
        system = found.transformation.near.get(lam)
        stored = system is not None
        system = system or bordered_of(pencil, found, [j])
        try:
            with suppress(ConvergenceError):  # Krylov-Schur is left
                left[:, j], solved[j] = _left_vector(system, np.ones((1, 1))), True
                stored = stored or keep(found.transformation, lam, system)
        finally:
            if not stored:
                system.close()
    missing, distances = ~solved, np.full(len(solved), np.nan)
    if solved.any():
        some = found.taken(np.flatnonzero(solved))
        good, distances[solved] = _good(pencil, some, left[:, solved], limit)
        missing[solved] = ~good
    return left, missing, distances


def _transposed_vectors(
    pencil: Pencil, transformation: SpectralTransformation, found: RightPairs, wanted: Wanted
) -> tuple[Block, Block]:
    """Return eigenvalues of the pencil and the left vectors that belong to them."""
    sizes = pencil.A.getSizes()
    # The eigenvectors of K^-H M^H are the left vectors.
    operator = _petsc.Callback(lambda v: transformation.apply_hermitian(v[:, None])[:, 0])
    shell = PETSc.Mat().createPython(sizes, operator, comm=pencil.comm)
    shell.setUp()
    eps = SLEPc.EPS().create(pencil.comm)
    start = _petsc.vec_from(pencil.A, _petsc.deterministic_block(pencil.rows, 1, seed=6)[:, 0])
    with freed_at_end(pencil.comm, partial(_petsc.destroy_quietly, start, eps, shell)):
        eps.setOperators(shell)
        eps.setProblemType(SLEPc.EPS.ProblemType.NHEP)
        eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
        both = 2 if _petsc.REAL_SCALARS and str(wanted.which).endswith("imaginary") else 1
        eps.setDimensions(nev=min(both * (len(found.values) + EXTRA_CANDIDATES), pencil.n))
        eps.setTolerances(tol=DEFAULT_TOLERANCE, max_it=500)
        eps.setWhichEigenpairs(_transposed_which(transformation, wanted))
        eps.setInitialSpace([start])
        prefix = f"{wanted.prefix}ga_left_"
        eps.setOptionsPrefix(prefix)
        left_options = {
            name.removeprefix("left_"): value
            for name, value in wanted.options.items()
            if name.startswith(("eps_", "left_eps_"))
        }
        with _petsc.inserted_options(prefix, left_options):
            eps.setFromOptions()
        try:
            with _petsc.plain_errors():
                eps.solve()
        except PETSc.Error:  # of products that are not finite; the bordered systems are left
            operator.raise_deferred()
            return np.zeros(0, dtype=complex), np.zeros((pencil.n_local, 0), dtype=complex)
        operator.raise_deferred()
        return _extracted(eps, pencil, transformation)


def _transposed_which(transformation: SpectralTransformation, wanted: Wanted) -> int:
    if transformation.sigma is not None:
        return int(SLEPc.EPS.Which.LARGEST_MAGNITUDE)
    name = wanted.which if wanted.which in WHICH else "largest_magnitude"
    if name.endswith("imaginary"):
        # Complex scalars: the operator has the conjugate eigenvalues. Real ones: SLEPc goes by
        # the size of the imaginary part.
        turned = {"largest": "smallest", "smallest": "largest"}
        size, part = name.split("_")
        name = "largest_imaginary" if _petsc.REAL_SCALARS else f"{turned[size]}_{part}"
    return int(WHICH[name])


def _extracted(
    eps: SLEPc.EPS, pencil: Pencil, transformation: SpectralTransformation
) -> tuple[Block, Block]:
    theta, vectors = _petsc.converged_pairs(eps, pencil.A, dtype=np.dtype(complex))
    usable = (theta != 0) & np.isfinite(theta + column_norms(pencil.comm, vectors))
    theta, vectors = theta[usable], vectors[:, usable]
    if transformation.sigma is not None and len(theta):
        # One more application removes what rounding left in the null space of B^H.
        vectors = transformation.apply_hermitian(vectors)
        vectors = vectors / np.maximum(column_norms(pencil.comm, vectors), TINY)
    return transformation.eigenvalue(theta.conj()), vectors


def _matched(
    pencil: Pencil, found: RightPairs, values: Block, vectors: Block, limit: float
) -> tuple[Block, Block, Block]:
    """Return candidates assigned to the right pairs, which pairs got no good one, distances."""
    k = len(found.values)
    left = np.zeros((pencil.n_local, k), dtype=complex, order="F")
    missing, distances = np.ones(k, dtype=bool), np.full(k, np.nan)
    if not len(values):
        return left, missing, distances
    scale = np.maximum(np.abs(found.values), np.abs(found.values).max() * 1e-8 + TINY)
    distance = np.abs(found.values[:, None] - values[None, :]) / scale[:, None]
    overlap = np.abs(inner(pencil.comm, vectors, pencil.multiply_b(found.right))).T
    overlap = overlap / np.maximum(overlap.max(axis=1, keepdims=True), TINY)
    # Eigenvalues decide; biorthogonality decides among eigenvalues that agree.
    cost = np.minimum(distance, 1.0) + 1e-6 * (1.0 - overlap)
    rows, columns = assigned(cost)
    left[:, rows] = vectors[:, columns]
    good, distances[rows] = _good(pencil, found.taken(rows), left[:, rows], limit)
    missing[rows] = ~good
    return left, missing, distances


def _good(pencil: Pencil, found: RightPairs, left: Block, limit: float) -> tuple[Block, Block]:
    """Tell which left vectors are as accurate as the right ones, and return their distances.

    Collective. A backward error is relative to the largest rows of the matrices, which may be
    equations in other units; through the factor all rows count alike.
    """
    residuals = backward_errors(pencil, found.values, left, left=True)
    good = np.asarray(residuals <= limit)
    if found.distances is None or found.transformation is None:
        return good, np.full(len(good), np.nan)
    shifts = found.values.conj()
    defect = pencil.multiply_a(left, hermitian=True)
    defect = defect - shifts * pencil.multiply_b(left, hermitian=True)
    solved = found.transformation.solve(defect, hermitian=True, purpose="the check of left vectors")
    errors, sizes = norms_of_columns(pencil.comm, solved, left)
    distances = errors / np.maximum(sizes, TINY)
    near = distances <= np.maximum(LARGEST_LEFT_DISTANCE, 10 * found.distances)
    return good & near, np.asarray(distances)


def _from_bordered_system(pencil: Pencil, found: RightPairs, j: int) -> Block:
    """Return y with y^H B x_i = delta_ij for the members x_i of the cluster of pair j."""
    members = list(next(group for group in groups_of_values(pencil, found) if j in group))
    with bordered_of(pencil, found, [j, *(i for i in members if i != j)]) as system:
        return _left_vector(system, np.eye(len(members), 1))


def _left_vector(system: BorderedSystem, unit: Block) -> Block:
    """Return the left vector whose products with the border are those given.  (Collective.)"""
    zero = np.zeros((system.pencil.n_local, 1), dtype=complex)
    with warnings.catch_warnings():
        # Its residual is looked at, and the condition of its value before it is used.
        warnings.simplefilter("ignore", IllConditionedWarning)
        return system.solve(zero, unit, hermitian=True)[0][:, 0]


def biorthonormal(pencil: Pencil, found: RightPairs, left: Block) -> Block:
    """Return left vectors scaled, and mixed inside clusters, such that y_i^H B x_j = delta_ij.

    Collective. left: this rank's rows, (n_local, k).
    """
    product = pencil.multiply_b(found.right)
    result = np.array(left, order="F")
    groups = [list(group) for group in groups_of_values(pencil, found)]
    grams = [left[:, members].conj().T @ product[:, members] for members in groups]
    for members, gram in zip(groups, reduced(pencil.comm, grams), strict=True):
        # A singular Gram matrix is a defective eigenvalue: condition reports it.
        inverse = np.linalg.pinv(gram) if len(members) > 1 else 1.0 / _nonzero(gram)
        result[:, members] = left[:, members] @ inverse.conj().T
    return result


def _nonzero(gram: Block) -> Block:
    tiny = TINY**0.5
    return np.where(np.abs(gram) > tiny, gram, tiny)
