"""`solve_eigenproblem`: right pairs, left vectors, scale, and the numbers that say how good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from slepc4py import SLEPc

from geneig_adjoint.collective import check_equal_input, freed_at_end, raise_together
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.eigensolver import solve_right
from geneig_adjoint.equilibration import Equilibration, equilibration
from geneig_adjoint.errors import ArgumentError, ConvergenceError, InputError
from geneig_adjoint.extraction import extracted, spectral_transformation
from geneig_adjoint.finished_pairs import finished, in_units, partial, with_left_vectors
from geneig_adjoint.near_null_space import NearNullSpace
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.right_pairs import RightPairs, convergence_problem
from geneig_adjoint.user_options import Watch, unread_text, watched
from geneig_adjoint.wanted import WHICH, Wanted


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
    near_null_space: NearNullSpace | None = None,
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
    near_null_space
        For matrices too large to factor: the pencil is solved without a factor from now on,
        preconditioned by algebraic multigrid (GAMG) whose coarse levels hold these vectors;
        of elasticity ``rigid_body_modes(coordinates)``.

    Returns
    -------
    Eigenpairs
        Belong to the caller; ``close`` frees the factor.

    Raises
    ------
    InputError
        Contradictory arguments, or arguments that differ between ranks.
    OptionError
        An option with a value that PETSc refuses. (Options that nothing reads are a note.)
    ConvergenceError
        Fewer pairs than asked for, residuals too large, or no accurate left vector.
    DefectiveEigenvalueError
        That is so because of an exceptional point at a pair, or at the target.
    MissingEigenvaluesError
        The count says that pairs are missing, and they could not be found.

    """
    options = dict(solver_parameters or {})
    request = (count, target, which, interval, phase, left, options, keep_factor, options_prefix)
    _check_request(pencil, (*request, count_check, near_null_space is None), normalization, like)
    check_words(phase, left, count_check)
    if near_null_space is not None:
        pencil.set_near_null_space(near_null_space)
    wanted = Wanted(
        count=count,
        target=target,
        which=which,
        interval=interval,
        options=options,
        prefix=options_prefix,
        start=None if like is None else like.right,
        count_check=count_check == "inertia",
        left=bool(left),
    ).checked(pencil)
    with _about_options(wanted) as watch:
        pairs = _solved(pencil, wanted, left=bool(left), scale=(normalization, phase, like))
    pairs = _noted(pairs, pencil, watch, left=bool(left))
    if not keep_factor:
        pairs.close()
    return pairs


def _solved(
    pencil: Pencil,
    wanted: Wanted,
    *,
    left: bool,
    scale: tuple[Any, str | None, Eigenpairs | None],
) -> Eigenpairs:
    """Solve the pencil, or the one with comparable rows and columns.  (Collective.)"""
    scaling = equilibration(pencil)
    work = pencil if scaling is None else scaling.applied(pencil)
    rest = [work.close] * (work is not pencil)
    with freed_at_end(pencil.comm, *rest):
        if scaling is not None and wanted.start is not None:
            wanted = replace(wanted, start=wanted.start / scaling.columns[:, None])
        with _partial_results(pencil, scale[1], scaling):
            found, wanted = solve_right(work, wanted)
            found, vectors = with_left_vectors(work, found, wanted, asked=left)
        return finished(pencil, work, found, vectors, scale=scale, scaling=scaling)


def _noted(pairs: Eigenpairs, pencil: Pencil, watch: Watch, *, left: bool) -> Eigenpairs:
    """Return the pairs with a note on options that nobody has read.  (Collective.)"""
    unread = watch.unread(pencil.comm)
    if not left or pencil.definite or pencil.symmetric:  # no solve that could have read them
        unread = [name for name in unread if not name.startswith("left_")]
    if not unread:
        return pairs
    return replace(pairs, info=replace(pairs.info, notes=(*pairs.info.notes, unread_text(unread))))


@contextmanager
def _about_options(wanted: Wanted) -> Iterator[Watch]:
    """Follow the user's options; an error of the solve names those nobody has read."""
    prefixes = tuple(f"{wanted.prefix}ga_{part}" for part in ("", "left_"))
    with watched(prefixes, wanted.options) as watch:
        try:
            yield watch
        except ConvergenceError as error:
            names = watch.names()
            if names:
                error.args = (f"{error.args[0]}; {unread_text(names)}", *error.args[1:])
            raise


@contextmanager
def _partial_results(
    pencil: Pencil, phase: str | None, scaling: Equilibration | None = None
) -> Iterator[None]:
    """Give errors the pairs that are good, as users know them.  (Collective.)"""
    try:
        yield
    except ConvergenceError as error:
        if isinstance(error.pairs, RightPairs):
            error.pairs = partial(pencil, in_units(pencil, error.pairs, scaling), phase)
        raise


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
    check_words(phase, left)
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
        problem.pairs = partial(pencil, found, phase)
        raise problem
    with _partial_results(pencil, phase):
        found, vectors = with_left_vectors(pencil, found, wanted, asked=bool(left))
    return finished(pencil, pencil, found, vectors, scale=(normalization, phase, None))


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


def check_words(phase: str | None, left: str | bool, count_check: str = "off") -> None:
    """Raise an ArgumentError unless words of a request are known ones.  (Not collective.)"""
    if phase not in {"largest", None}:
        raise ArgumentError(f'phase must be "largest" or None, got {phase!r}; None leaves it free')
    if left not in {"auto", True, False}:
        raise ArgumentError(
            f'left must be "auto", True or False, got {left!r}; "auto" is the default'
        )
    if count_check not in {"inertia", "off"}:
        raise ArgumentError(
            f'count_check must be "inertia" or "off", got {count_check!r}; "every:10" is for '
            "value_and_gradient"
        )


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
    if which == SLEPc.EPS.Which.TARGET_MAGNITUDE:
        return Wanted(count=count, target=complex(eps.getTarget()))
    return Wanted(count=count, which="given")  # nearest in one part, or the user's own order
