"""Backward errors of eigenpairs, conditions and errors of their values, exceptional points."""

from __future__ import annotations

import warnings

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.entrywise import moved_by_rounding
from geneig_adjoint.errors import DefectiveEigenvalueError, IllConditionedWarning
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, norms_of_columns

DEFECTIVE_CONDITION = 1e4
LARGEST_SPLIT = 10 / DEFECTIVE_CONDITION
"""Relative distance beyond which no neighbour makes a pair count as defective."""
CERTAIN_SHARE = 1e-4
"""Of its gap, that rounding of each entry may move an ill-conditioned value.

Small enough for a chain of four in a matrix whose entries have errors of 1000 roundings; harmless
pairs, however large their condition, are moved by 1e-6 of their gaps at most."""
ENTRY_SHARE = CERTAIN_SHARE / 0.015
"""What rounding of the size of the largest entries counts, where vectors are not that good."""
LARGEST_OFF = 0.1
"""Of its gap, that the residual may say that such a value is off."""
NEAR_ZERO = 1e-2
"""Size of an eigenvalue, relative to the largest possible, below which its own is no measure."""
ILL_CONDITION = 1e6
"""Condition number of an eigenvalue beyond which a user is warned."""


def defects(pencil: Pencil, values: Block, vectors: Block, *, left: bool = False) -> Block:
    """Return A x - lam B x, or A^H y - conj(lam) B^H y for left vectors.  (Collective.)"""
    shifts = values.conj() if left else values
    if vectors.dtype.kind == "f":
        shifts = shifts.real
    product = pencil.multiply_a(vectors, hermitian=left)
    return np.asarray(product - shifts * pencil.multiply_b(vectors, hermitian=left))


def backward_errors(
    pencil: Pencil,
    values: Block,
    vectors: Block,
    *,
    left: bool = False,
    known: Block | None = None,
) -> Block:
    """Return ||A x - lam B x|| / ((||A|| + |lam| ||B||) ||x||), or the same of y^H.

    Collective. For left vectors A^H y - conj(lam) B^H y is meant. known: these `defects`, if
    they were computed before.
    """
    defect = defects(pencil, values, vectors, left=left) if known is None else known
    a_norm, b_norm = pencil.norms
    lengths, residuals = norms_of_columns(pencil.comm, vectors, defect)
    sizes = (a_norm + np.abs(values) * b_norm) * lengths
    return np.asarray(residuals / np.maximum(sizes, TINY))


def residual_limit(tolerance: float) -> float:
    """Return the backward error above which a pair is not accepted."""
    return max(1e-8, 10 * tolerance)


def conditions_and_errors(
    pencil: Pencil, values: Block, right: Block, left: Block, residuals: Block
) -> tuple[Block, Block]:
    """Return condition numbers and error estimates of eigenvalues, (k,) each.

    Collective. The condition is 1 / |cos(x, y)|, in the inner product of B where that is
    positive definite; the error is what a perturbation of the size of the residual does to
    the eigenvalue (F. Tisseur, Linear Algebra Appl. 309, 339-361, 2000).

    Parameters
    ----------
    pencil
        The pencil.
    values
        Eigenvalues, (k,).
    right, left
        This rank's rows of the right and left vectors, of any length, (n_local, k).
    residuals
        Backward errors of the pairs, (k,).

    """
    comm = pencil.comm
    Bx = pencil.multiply_b(right)
    product = np.maximum(np.abs(column_dots(comm, left, Bx)), TINY)
    right_sizes, left_sizes = norms_of_columns(comm, right, left)
    entries = pencil.norms[0] + np.abs(values) * pencil.norms[1]
    with np.errstate(over="ignore"):  # an infinite eigenvalue has an infinite error
        errors = right_sizes * left_sizes / product * entries * residuals
    if pencil.definite:
        condition = np.ones(len(values))
    elif pencil.B is not None and pencil.B_positive:
        squares = column_dots(comm, right, Bx)
        squares = squares * column_dots(comm, left, pencil.multiply_b(left))
        condition = np.sqrt(np.abs(squares)) / product
    else:
        condition = euclidean_conditions(pencil, right, left)
    return condition, errors


def euclidean_conditions(pencil: Pencil, right: Block, left: Block) -> Block:
    """Return ||x|| ||B^H y|| / |y^H B x|, (k,): what an error of x does to the eigenvalue.

    Collective. right, left: this rank's rows, (n_local, k). The condition in the product of B,
    where B is semidefinite, does not see errors in its null space.
    """
    comm = pencil.comm
    product = np.maximum(np.abs(column_dots(comm, left, pencil.multiply_b(right))), TINY)
    Bh_y = pencil.multiply_b(left, hermitian=True)
    right_sizes, left_sizes = norms_of_columns(comm, right, Bh_y)
    return np.asarray(right_sizes * left_sizes / product)


def conditions_through_factor(
    transformation: SpectralTransformation,
    values: Block,
    right: Block,
    left: Block,
    plain: tuple[Block, Block],
) -> tuple[Block, Block]:
    """Return condition numbers and errors of eigenvalues in the units of a factor, (k,) each.

    Collective. All rows count alike there, however large their entries are.

    Parameters
    ----------
    transformation
        The eigensolver's factor, of a scaled pencil perhaps.
    values, right, left
        Eigenvalues (k,) and this rank's rows of the vectors, (n_local, k).
    plain
        What `conditions_and_errors` gives for them.

    """
    pencil, comm = transformation.pencil, transformation.pencil.comm
    units = 1.0 if transformation.scaling is None else transformation.scaling[1][:, None]
    shifts = values.real if right.dtype.kind == "f" else values
    Bx = pencil.multiply_b(right)
    defect: Block = pencil.multiply_a(right) - shifts * Bx
    solved = transformation.solve(defect, purpose="the error estimate")
    sizes = column_norms(comm, right / units)
    distances = np.maximum(column_norms(comm, solved / units) / np.maximum(sizes, TINY), EPS)
    product = np.maximum(np.abs(column_dots(comm, left, Bx)), TINY)
    Bh_y = pencil.multiply_b(left, hermitian=True)
    amplified = sizes * column_norms(comm, units * Bh_y) / product
    errors = amplified * distances * np.abs(values - (transformation.sigma or 0.0))
    if transformation.scaling is not None:
        return amplified, errors
    return plain[0], np.where(plain[0] > ILL_CONDITION, plain[1], np.minimum(plain[1], errors))


def known_condition(pairs: Eigenpairs, j: int) -> float:
    """Return the condition number of pair j; without left vectors, a bound from below or nan.

    Collective without left vectors. z = B^H y is orthogonal to every other x_i, hence
    |z^H x_j| <= ||z|| ||x_j|| sin(x_i, x_j): vectors that become parallel give an exceptional
    point away. Looked at only where a neighbour is so near that the answer matters.
    """
    condition, x = float(pairs.condition[j]), pairs.right
    if not np.isnan(condition):
        return condition
    near = np.abs(pairs.values - pairs.values[j]) <= LARGEST_SPLIT * np.abs(pairs.values[j])
    near[j] = False
    if not near.any():
        return condition
    gram = pairs.inner(np.column_stack([x[:, j], x[:, near]]), x[:, [j]])[:, 0]
    sizes = column_norms(pairs.comm, x[:, near])
    cosine = np.abs(gram[1:]) / (sizes * np.sqrt(np.abs(gram[0])))
    return float(1 / np.sqrt(np.maximum(1 - cosine**2, EPS)).min())


def check_not_defective(
    pairs: Eigenpairs, j: int, condition: float, *, rounding: float = np.nan
) -> None:
    """Raise when a condition says that pair j is at an exceptional point.  (Not collective.)

    Two values that meet have gap x condition of the order of the value; a chain of m splits
    by eps^(1/m) with a condition of eps^(1/m - 1), so that rounding of the matrices moves every
    member by a share of its gap: eps / (m e) where the split comes from an error e. The condition
    alone says nothing: those of graded matrices or of convection are as large, and no rounding of
    an entry moves their values. ``rounding``: what it does, of pairs that do not know it.

    Raises
    ------
    DefectiveEigenvalueError
        When the condition is large and a neighbour near.

    """
    if not condition > DEFECTIVE_CONDITION:
        return
    value, gap = pairs.values[j], float(pairs.gaps[j])
    if is_split(condition, value, gap, _likely_rounding(pairs, j, condition, rounding)):
        raise DefectiveEigenvalueError(
            f"eigenvalue {j} must be simple, got {value:.12g} with condition number "
            f"{condition:.1e} and a neighbour at distance {gap:.1e}: the pair is "
            "defective to working accuracy and has no derivative; move the parameters away from "
            "this exceptional point",
            condition=condition,
        )


def is_split(condition: float, value: complex, gap: float, rounding: float) -> bool:
    """Tell whether a pair and its neighbour are what rounding has made of a chain.

    Not collective. gap: to the neighbour; rounding: how far that of each entry moves the value.
    """
    if not condition > DEFECTIVE_CONDITION:
        return False
    return bool(gap <= max(10 / condition * abs(value), rounding / CERTAIN_SHARE))


def _likely_rounding(pairs: Eigenpairs, j: int, condition: float, rounding: float) -> float:
    """Return how far rounding moves value j, as far as anybody knows."""
    if np.isnan(rounding) and pairs.rounding is not None:
        rounding = float(pairs.rounding[j])
    if np.isnan(rounding):
        moved = moved_at_most(pairs.pencil, pairs.values[[j]], np.array([condition]))
        rounding = ENTRY_SHARE * float(moved[0])
    return rounding


def moved_at_most(pencil: Pencil, values: Block, condition: Block) -> Block:
    """Return how far rounding of the size of the largest entries moves eigenvalues."""
    a_norm, b_norm = pencil.norms
    return np.asarray(EPS * condition * (a_norm / max(b_norm, TINY) + np.abs(values)))


def chain_rounding(
    pencil: Pencil, values: Block, right: Block, left: Block, condition: Block
) -> Block:
    """Return what `check_not_defective` compares with gaps of pairs that nobody corrected, (k,).

    Collective. The largest of what rounding of each entry does; a share of what rounding of the
    size of the largest ones does; and a share of what the residuals tell of the value's error.

    Parameters
    ----------
    pencil
        A and B.
    values, condition
        Eigenvalues and their condition numbers, (k,).
    right, left
        This rank's rows of the vectors, of any length, (n_local, k).

    """
    each = moved_by_rounding(pencil, values, right, left)
    product = np.abs(column_dots(pencil.comm, left, pencil.multiply_b(right)))
    off = np.abs(column_dots(pencil.comm, left, defects(pencil, values, right)))
    off = CERTAIN_SHARE / LARGEST_OFF * off / np.maximum(product, TINY)
    at_most = ENTRY_SHARE * moved_at_most(pencil, values, condition)
    return np.asarray(np.fmax(np.fmax(each, at_most), off))


def warn_of_condition(j: int, condition: float, error: float) -> None:
    """Warn about an eigenvalue whose derivative is rough.

    Not collective; condition and error are the same on all ranks, since a warning may have
    been made an exception.
    """
    if condition > ILL_CONDITION:
        warnings.warn(
            f"eigenvalue {j} should have a condition number below {ILL_CONDITION:.0e}, got "
            f"{condition:.1e}: its estimated error is {error:.1e}, and a small residual "
            "says little; trust as many digits of the derivative as its relative_error leaves, "
            "or scale the problem",
            IllConditionedWarning,
            stacklevel=4,
        )
