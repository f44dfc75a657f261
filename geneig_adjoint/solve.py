"""`solve_eigenproblem`: right pairs, left vectors, scale, and the numbers that say how good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from slepc4py import SLEPc

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.clusters import group_values
from geneig_adjoint.collective import check_equal_input, column_norms, raise_together
from geneig_adjoint.conditioning import ILL_CONDITION, conditions_and_errors
from geneig_adjoint.eigenpairs import Eigenpairs, SolveInfo
from geneig_adjoint.eigensolver import extracted, solve_right, spectral_transformation
from geneig_adjoint.errors import ConvergenceError, InputError
from geneig_adjoint.left_vectors import LeftVectors, left_vectors
from geneig_adjoint.normalization import choose_normalization, normalized
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.right_pairs import RightPairs, convergence_problem
from geneig_adjoint.wanted import WHICH, Wanted

NEARLY_NULL = 1e-6
"""||B x|| / (||B|| ||x||) below which an eigenvalue may be an infinite one."""


def solve_eigenproblem(  # noqa: PLR0913  (the one place where a user says what is wanted)
    pencil: Pencil,
    count: int = 1,
    *,
    target: complex | None = None,
    which: str | None = None,
    interval: tuple[float, float] | None = None,
    normalization: Any = None,
    phase: str | None = "largest",
    left: str | bool = "auto",
    solver_parameters: Mapping[str, Any] | None = None,
    like: Eigenpairs | None = None,
    keep_factor: bool = True,
    count_check: str = "inertia",
    options_prefix: str = "",
) -> Eigenpairs:
    """Return eigenpairs of ``A x = lam B x`` with left vectors and error measures.

    Collective. SLEPc's Krylov-Schur; left vectors of nonsymmetric pencils come from
    the transposed problem on the same factor, each verified by its own residual.

    Parameters
    ----------
    pencil
        A and B. Must stay open and unchanged as long as the pairs are used.
    count
        Number of pairs; more come back when the last one is half of a conjugate pair
        of a real pencil. Ignored with ``interval``.
    target
        Pairs nearest to this number, by shift-and-invert; sorted by distance. The
        default, if neither ``which`` nor ``interval`` is given, is 0.
    which
        "largest_magnitude", "largest_real", "smallest_real", "largest_imaginary",
        "smallest_imaginary": without a factor of A. "smallest_magnitude" is the same
        as ``target=0`` for assembled matrices.
    interval
        All pairs of a real symmetric pencil in [a, b], by spectrum slicing.
    normalization
        "B" (x^H B x = +-1), "2" (x^H x = 1), ("component", k) (x_k = 1), ("linear", c)
        (c^H x = 1, this rank's rows of c), "bilinear" (x^T B x = 1); None: "B" if B is
        Hermitian and no vector is B-neutral, else "2".
    phase
        "largest": the largest entry is made real and positive; None: left as it comes.
    left
        True or "auto": with left vectors; False: without.
    solver_parameters
        PETSc options without the prefix ``ga_``, e.g. ``{"eps_tol": 1e-10}``. Options
        from the command line win.
    like
        Earlier pairs: start vectors, normalization and phase rows are taken over.
    keep_factor
        Keep the factor for adjoint solves (the pairs own it).
    count_check
        "inertia": verify that no pair between the wanted ones was missed, and find it if
        so; costs a factor of an indefinite matrix for Hermitian definite pencils in the
        real build, elsewhere a short second solve (``pairs.info.completeness`` says
        which). "off": trust the first solve.
    options_prefix
        In front of ``ga_``.

    Returns
    -------
    Eigenpairs
        Belong to the caller; ``close`` frees the factor.

    Raises
    ------
    InputError
        Contradictory arguments, or arguments that differ between ranks.
    ConvergenceError
        Fewer pairs than asked for, residuals too large, or no accurate left vector.
    MissingEigenvaluesError
        The count says that pairs are missing, and they could not be found.

    """
    options = dict(solver_parameters or {})
    request = (count, target, which, interval, phase, left, options, keep_factor, options_prefix)
    _check_request(pencil, (*request, count_check), normalization, like)
    _check_words(phase, left)
    if count_check not in {"inertia", "off"}:
        raise InputError(
            f'count_check must be "inertia" or "off", got {count_check!r}; "every:10" is for '
            "value_and_gradient"
        )
    wanted = Wanted(
        count=count,
        target=target,
        which=which,
        interval=interval,
        options=options,
        prefix=options_prefix,
        start=None if like is None else like.right,
        count_check=count_check == "inertia",
    ).checked(pencil)
    try:
        found, wanted = solve_right(pencil, wanted)
    except ConvergenceError as error:
        if error.pairs is not None:
            error.pairs = _partial(pencil, error.pairs, phase)
        raise
    pairs = _finished(
        pencil, found, wanted, with_left=bool(left), scale=(normalization, phase, like)
    )
    if not keep_factor:
        pairs.close()
    return pairs


def pairs_from_eps(
    eps: SLEPc.EPS,
    pencil: Pencil,
    *,
    count: int | None = None,
    normalization: Any = None,
    phase: str | None = "largest",
    left: str | bool = "auto",
) -> Eigenpairs:
    """Return the pairs of an EPS the user has solved; see `Eigenpairs.from_eps`."""
    _check_words(phase, left)
    pencil.check_open()
    raise_together(pencil.comm, _eps_error(eps, pencil))
    converged = eps.getConverged()
    if converged == 0:
        raise ConvergenceError(
            "the EPS must hold converged pairs, got none; call eps.solve() and look at "
            "eps.getConvergedReason()"
        )
    wanted = _wanted_of(eps, count or min(converged, eps.getDimensions()[0]))
    transformation = spectral_transformation(pencil, eps, owned=False)
    found = extracted(eps, pencil, wanted, transformation)
    problem = convergence_problem(found, wanted)
    if problem is not None:
        problem.pairs = _partial(pencil, found, phase)
        raise problem
    return _finished(
        pencil, found, wanted, with_left=bool(left), scale=(normalization, phase, None)
    )


def _check_request(
    pencil: Pencil, request: tuple[Any, ...], normalization: Any, like: Eigenpairs | None
) -> None:
    pencil.check_open()
    # The vector of ("linear", c) and of earlier pairs is local: only its kind can be compared.
    scale = normalization[0] if _is_linear(normalization) else str(normalization)
    check_equal_input(
        pencil.comm, "the arguments of solve_eigenproblem", (*request, scale, like is None)
    )
    raise_together(pencil.comm, _like_error(pencil, like))


def _like_error(pencil: Pencil, like: Eigenpairs | None) -> InputError | None:
    if like is None or like.right.shape[0] == pencil.n_local:
        return None
    return InputError(
        f"like must be pairs of a pencil of the same layout, got {like.right.shape[0]} local rows, "
        f"the pencil has {pencil.n_local}; leave it out"
    )


def _is_linear(normalization: Any) -> bool:
    return isinstance(normalization, tuple) and normalization[:1] == ("linear",)


def _check_words(phase: str | None, left: str | bool) -> None:
    if phase not in {"largest", None}:
        raise InputError(f'phase must be "largest" or None, got {phase!r}; None leaves it free')
    if left not in {"auto", True, False}:
        raise InputError(f'left must be "auto", True or False, got {left!r}; "auto" is the default')


def _eps_error(eps: SLEPc.EPS, pencil: Pencil) -> InputError | None:
    A, B = (*eps.getOperators(), None)[:2]
    same = A.handle == pencil.A.handle and (B is None) == (pencil.B is None)
    if same and B is not None and pencil.B is not None:
        same = B.handle == pencil.B.handle
    if same:
        return None
    return InputError(
        "the EPS must hold the matrices of the pencil, got others; make the pencil from "
        "eps.getOperators()"
    )


def _wanted_of(eps: SLEPc.EPS, count: int) -> Wanted:
    which = eps.getWhichEigenpairs()
    names = {value: name for name, value in WHICH.items()}
    if which in names:
        return Wanted(count=count, which=names[which])
    if which == SLEPc.EPS.Which.ALL:
        return Wanted(count=count, interval=eps.getInterval())
    return Wanted(count=count, target=complex(eps.getTarget()))


def _finished(
    pencil: Pencil,
    found: RightPairs,
    wanted: Wanted,
    *,
    with_left: bool,
    scale: tuple[Any, str | None, Eigenpairs | None],
) -> Eigenpairs:
    """Return scaled pairs with left vectors, conditions, error estimates and clusters."""
    try:
        normalization, phase, like = scale
        if like is not None and normalization is None:
            normalization = like.normalization
        norm = choose_normalization(pencil, normalization, found.right)
        kept_rows = None
        if like is not None and like.count == len(found.values):
            kept_rows = like.phase_rows
        right, rows = normalized(pencil, norm, found.right, phase=phase, rows=kept_rows)
        found = replace(found, right=right)
        left = None
        if with_left:
            found, left = _with_left_vectors(pencil, found, wanted)
        return _assembled(pencil, found, left, norm, rows)
    except BaseException:
        if found.transformation is not None:
            found.transformation.close()
        raise


def _with_left_vectors(
    pencil: Pencil, found: RightPairs, wanted: Wanted
) -> tuple[RightPairs, LeftVectors]:
    """Return the finite pairs and their left vectors.

    Rounding makes infinite eigenvalues of a singular B large finite ones, defective ones not
    even very large: known by an error as large as the value, or by left vectors that cannot
    be found.
    """
    if pencil.B is None:
        return found, _left_of_modes(pencil, found, wanted)
    a_norm, b_norm = pencil.norms
    Bx = column_norms(pencil.comm, pencil.multiply_b(found.right))
    small = Bx <= NEARLY_NULL * b_norm * column_norms(pencil.comm, found.right)
    suspect = small & (np.abs(found.values) * b_norm > a_norm)
    try:
        left = _left_of_modes(pencil, found, wanted)
        floor = np.maximum(found.residuals, EPS) / np.maximum(found.residuals, TINY)
        errors = floor * _measures(pencil, found, left.vectors)[1]
        suspect &= errors >= np.abs(found.values)
    except ConvergenceError:
        if not suspect.any():
            raise
        left = None
    if not suspect.any() and left is not None:
        return found, left
    finite = found.taken(np.flatnonzero(~suspect))
    if len(finite.values) < wanted.count:
        raise ConvergenceError(
            f"the eigensolve must give {wanted.count} pairs, got {len(finite.values)} finite ones "
            f"and {np.count_nonzero(suspect)} that are infinite to working accuracy (B is "
            "singular); ask for fewer",
            reason="INFINITE_EIGENVALUES",
            iterations=found.iterations,
            residual_norm=float(finite.residuals.max(initial=0.0)),
            pairs=_partial(pencil, finite, "largest"),
        )
    return finite, _left_of_modes(pencil, finite, wanted)


def _left_of_modes(pencil: Pencil, found: RightPairs, wanted: Wanted) -> LeftVectors:
    """Return left vectors; zero ones for constrained rows, whose cluster is rarely whole."""
    if pencil.definite or not found.constrained:
        return left_vectors(pencil, found, wanted)
    chosen = np.setdiff1d(np.arange(len(found.values)), found.constrained)
    vectors, residuals = np.zeros_like(found.right), np.zeros(len(found.values))
    if not chosen.size:
        return LeftVectors(vectors, residuals)
    part = left_vectors(pencil, found.taken(chosen), wanted)
    vectors[:, chosen], residuals[chosen] = part.vectors, part.residuals
    return LeftVectors(vectors, residuals, part.notes)


def _assembled(
    pencil: Pencil, found: RightPairs, left: LeftVectors | None, norm: Any, rows: Block | None
) -> Eigenpairs:
    vectors = None if left is None else left.vectors
    condition, errors = _measures(pencil, found, vectors)
    notes = found.notes + (left.notes if left else ())
    large = np.flatnonzero(condition > ILL_CONDITION)
    if large.size:
        notes += (f"eigenvalue {large[0]} has condition number {condition[large[0]]:.1e}",)
    transformation = found.transformation
    return Eigenpairs(
        pencil=pencil,
        values=found.values,
        right=found.right,
        left=vectors,
        residuals=found.residuals,
        condition=condition,
        errors=errors,
        gaps=found.gaps,
        clusters=group_values(found.values, errors),
        normalization=norm,
        phase_rows=rows,
        info=SolveInfo(
            reason=found.reason,
            iterations=found.iterations,
            converged=found.converged,
            tolerance=found.tolerance,
            sigma=found.sigma,
            left_residuals=None if left is None else left.residuals,
            notes=notes,
            completeness=found.completeness,
            constrained=found.constrained,
        ),
        factor=transformation,
        version=pencil.version,
    )


def _measures(pencil: Pencil, found: RightPairs, left: Block | None) -> tuple[Block, Block]:
    """Return condition numbers and error estimates of the eigenvalues."""
    right = found.right
    if left is None and not pencil.definite:
        unknown = np.full(len(found.values), np.nan)
        return unknown, unknown
    y = right if left is None else left
    condition, errors = conditions_and_errors(pencil, found.values, right, y, found.residuals)
    if found.distances is not None and found.sigma is not None:
        # Through the factor the estimate is not blown up by the largest entries of A. Where a
        # rounded entry moves the eigenvalue visibly, the factor is that of another problem.
        through = condition * found.distances * np.abs(found.values - found.sigma)
        errors = np.where(condition > ILL_CONDITION, errors, np.minimum(errors, through))
    if not pencil.definite:
        condition[list(found.constrained)] = errors[list(found.constrained)] = np.nan
    return condition, errors


def _partial(pencil: Pencil, found: RightPairs, phase: str | None) -> Eigenpairs | None:
    """Return what converged, without left vectors and without the factor."""
    if not len(found.values):
        return None
    norm = choose_normalization(pencil, None, found.right)
    right, rows = normalized(pencil, norm, found.right, phase=phase, rows=None)
    scaled = replace(found, right=right, transformation=None)
    return _assembled(pencil, scaled, None, norm, rows)
