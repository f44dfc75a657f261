"""`Eigenpairs` and its duals, and the convention for derivatives of complex quantities.

The objective g is real. Cotangents are ``lam_bar = dg/dRe(lam) + i dg/dIm(lam)``, and
likewise per entry of x and y, so that

    dg = Re( sum_j conj(lam_bar_j) dlam_j + x_bar_j^H dx_j + y_bar_j^H dy_j ).

Left vectors follow SLEPc's definition ``y^H A = lam y^H B``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext
from geneig_adjoint.errors import InputError, StaleError
from geneig_adjoint.indices import index_error
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import inner

if TYPE_CHECKING:
    from mpi4py import MPI
    from slepc4py import SLEPc

RELATIVE_GAP = 1e-6
"""Eigenvalues closer than this, relatively, belong together."""


@dataclass(frozen=True)
class Completeness:
    """Whether pairs may be missing between those found.

    Attributes
    ----------
    method : str
        "inertia": counted, exact. "all": every eigenpair was found. "second start": no
        count is possible for this pencil in this build; a search in the complement of
        the pairs found nothing more (a strong hint, no proof). "simple": instead, the
        factors of the left vectors tell that no value is next to those found. "off": not
        looked at.
    found, expected : int or None
        Pairs found and counted in the window, which may hold more than were asked for.
    window : tuple of float or None
        Interval that was counted.
    mended : int
        Pairs the first solve had missed.

    """

    method: str
    found: int | None = None
    expected: int | None = None
    window: tuple[float, float] | None = None
    mended: int = 0


@dataclass(frozen=True)
class SolveInfo:
    """How the eigenpairs were obtained.

    Attributes
    ----------
    reason : str
        SLEPc's convergence reason.
    iterations : int
        Restarts of Krylov-Schur.
    converged : int
        Pairs SLEPc reported, of which some may not have been asked for.
    tolerance : float
        ``eps_tol`` that was in force.
    sigma : complex or None
        Shift of the spectral transformation; None without shift-and-invert.
    left_residuals : ndarray or None
        Relative residuals of the left vectors.
    notes : tuple of str
        What a careful user should know: moved shifts, fallbacks, large conditions.
    completeness : Completeness
        Whether pairs may be missing.
    constrained : tuple of int
        Pairs that belong to constrained rows kept in the matrices; they have no derivative.

    """

    reason: str
    iterations: int
    converged: int
    tolerance: float
    sigma: complex | None = None
    left_residuals: Block | None = None
    notes: tuple[str, ...] = ()
    completeness: Completeness = field(default_factory=lambda: Completeness("off"))
    constrained: tuple[int, ...] = ()


PER_PAIR = (
    "values",
    "right",
    "left",
    "residuals",
    "condition",
    "errors",
    "gaps",
    "phase_rows",
    "turns",
    "rounding",
    "offsets",
)
"""Arrays of `Eigenpairs` whose last index is a pair."""


@dataclass(frozen=True, eq=False)
class Eigenpairs(CollectiveContext):
    """Eigenvalues with right and left vectors of ``A x = lam B x``.

    Made by `solve_eigenproblem` or `from_eps`. A context manager: `close` frees the
    factor the pairs own.

    Attributes
    ----------
    pencil : Pencil
        The pencil solved; borrowed, not owned.
    values : ndarray
        Eigenvalues (k,), complex, the same on all ranks. k >= count when a conjugate
        or a cluster was completed.
    right, left : ndarray
        This rank's rows (n_local, k), Fortran order; real iff the pencil is Hermitian
        and the build real. ``left`` is None when not asked for; ``y^H B x = 1`` else.
    residuals : ndarray
        Backward errors ||A x - lam B x|| / ((||A|| + |lam| ||B||) ||x||).
    condition : ndarray
        Condition numbers of the eigenvalues (1 for every Hermitian definite pencil);
        nan without left vectors.
    errors : ndarray
        Estimated absolute errors of the eigenvalues.
    gaps : ndarray
        Distance of each eigenvalue to the nearest other one that converged, asked for or not
        (inf if there is none).
    clusters : tuple of tuple of int
        Pairs grouped by the eigenvalues that cannot be told apart.
    normalization : Normalization
        Scale of the right vectors; derivatives match it.
    phase_rows : ndarray or None
        Global row of each vector made real and positive; None where the phase is free
        or fixed by the normalization.
    info : SolveInfo
        How the solve went.
    turns : ndarray or None
        Of ill-conditioned pairs, which were corrected: errors that are left in gradients,
        relative to their terms, (k,); nan for others.
    rounding : ndarray or None
        How far rounding of each entry of A and B moves ill-conditioned eigenvalues, (k,);
        nan for others.
    offsets : ndarray or None
        Relative errors of right and left vectors that the factor shows, the larger one, (k,);
        nan where nobody looked.

    """

    pencil: Pencil
    values: Block
    right: Block
    left: Block | None
    residuals: Block
    condition: Block
    errors: Block
    gaps: Block
    clusters: tuple[tuple[int, ...], ...]
    normalization: Any
    phase_rows: Block | None
    info: SolveInfo
    factor: Any = None
    version: int = field(default=0)
    turns: Block | None = None
    rounding: Block | None = None
    offsets: Block | None = None

    @property
    def comm(self) -> MPI.Comm:
        """Communicator of the pencil."""
        return self.pencil.comm

    @property
    def rows(self) -> tuple[int, int]:
        """First row of this rank and one past its last."""
        return self.pencil.rows

    @property
    def count(self) -> int:
        """Number of pairs k."""
        return len(self.values)

    def inner(self, u: Block, v: Block) -> Block:
        """Return u^H v of two row blocks, the same on every rank.  (Collective.)"""
        return inner(self.comm, u, v)

    def check_current(self) -> None:
        """Raise unless the pencil still holds the matrices these pairs belong to.

        Not collective.

        Raises
        ------
        StaleError
            When the pencil was refilled or closed since.

        """
        self.pencil.check_open()
        if self.version != self.pencil.version:
            raise StaleError(
                f"eigenpairs must belong to the current matrices, got pairs of version "
                f"{self.version} of a pencil at version {self.pencil.version}; solve again"
            )

    def reordered(self, order: Sequence[int]) -> Eigenpairs:
        """Return the same pairs in another order, or some of them.

        Not collective. The factor is shared.

        Parameters
        ----------
        order
            Distinct indices of pairs, clusters whole, the same on every rank.

        Raises
        ------
        InputError
            When an index does not exist or comes twice (-1 of `track_modes` is a lost mode),
            or when a cluster is cut: what is left of it would look simple.

        """
        given = order.tolist() if isinstance(order, np.ndarray) else list(order)
        wrong = index_error(self.count, given, "order")
        if wrong is not None or len(set(given)) < len(given):
            raise InputError(
                f"order must hold distinct indices in 0 ... {self.count - 1}, got {given}; leave "
                "out lost modes (-1)"
            )
        chosen = [int(j) for j in given]
        place = {old: new for new, old in enumerate(chosen)}
        kept = [members for members in self.clusters if set(members) & set(chosen)]
        cut = [members for members in kept if not set(members) <= set(chosen)]
        if cut:
            raise InputError(
                f"order must keep clusters whole, got part of pairs {list(cut[0])} only; add the "
                "other members"
            )

        def taken(array: Block | None) -> Any:
            return None if array is None else np.asfortranarray(array[..., chosen])

        return replace(
            self,
            **{name: taken(getattr(self, name)) for name in PER_PAIR},
            clusters=tuple(sorted(tuple(sorted(place[j] for j in members)) for members in kept)),
            info=replace(
                self.info,
                left_residuals=taken(self.info.left_residuals),
                constrained=tuple(sorted(place[j] for j in self.info.constrained if j in place)),
            ),
        )

    @classmethod
    def from_eps(cls, eps: SLEPc.EPS, pencil: Pencil, **settings: Any) -> Eigenpairs:
        """Return the pairs of an EPS that the user has solved.

        Collective. The EPS and its factor are reused and stay the user's: keep them
        alive as long as the pairs.

        Parameters
        ----------
        eps
            A solved EPS of the same matrices.
        pencil
            Its matrices.
        settings
            ``count``, ``normalization``, ``phase``, ``left`` as in `solve_eigenproblem`.

        Raises
        ------
        InputError
            When the EPS holds other matrices.
        ConvergenceError
            When it was not solved, fewer pairs converged than asked for, or residuals
            are too large.

        """
        # The work is that of a solve and sits in a higher layer; the name belongs here.
        solve = importlib.import_module("geneig_adjoint.solve")
        pairs: Eigenpairs = solve.pairs_from_eps(eps, pencil, **settings)
        return pairs

    def close(self) -> None:
        """Free the factor.  (Collective.)"""
        if self.factor is not None:
            self.factor.close()


@dataclass(frozen=True)
class EigenCotangent:
    """Derivative of a real objective with respect to what it looks at; missing means zero.

    Attributes
    ----------
    values : ndarray or None
        lam_bar (k,), the same on every rank.
    right, left : ndarray or None
        x_bar, y_bar: this rank's rows (n_local, k).
    parameters : mapping or None
        Explicit dg/dp, in the structure of p (names may be missing).
    matrices : tuple of ndarray or None
        ``(left_a, left_b, right)``, (n_local, j) each: an explicit dependence on A(p)
        and B(p) whose derivative is Re sum_j left_a_j^H dA right_j + left_b_j^H dB right_j.
    span : tuple of ndarray or None
        ``(P, Q)``, (k, k) each, the same on every rank: the derivative inside the span of
        the vectors is Re tr(P^H X^H dA X) + Re tr(Q^H X^H dB X), and ``right`` counts only
        outside of it. For functions of the whole span (`SpectralFunction`), whose
        derivative at repeated eigenvalues cannot be had from ``right``. Hermitian pencils
        with definite B only.

    """

    values: Block | None = None
    right: Block | None = None
    left: Block | None = None
    parameters: Mapping[str, Any] | None = None
    matrices: tuple[Block, Block, Block] | None = None
    span: tuple[Block, Block] | None = None


@dataclass(frozen=True)
class EigenTangent:
    """Derivatives of eigenpairs along a direction of the parameters.

    Attributes
    ----------
    values : ndarray
        (k,), the same on every rank.
    right : ndarray
        This rank's rows (n_local, k).
    left : ndarray or None
        Likewise for the left vectors; None when the pairs have none.

    """

    values: Block
    right: Block
    left: Block | None = None


def value_cotangent(pairs: Eigenpairs, pair: int, lam_bar: complex) -> EigenCotangent:
    """Return the cotangent of a function of one eigenvalue.  (Not collective.)"""
    values = np.zeros(pairs.count, dtype=complex)
    values[pair] = lam_bar
    return EigenCotangent(values=values)


def linear_pairs(pairs: Any) -> Any:
    """Return the pairs of the pencil behind what users see of them.  (Not collective.)

    The pairs themselves, unless they are those of a nonlinear problem that was linearised.
    """
    return getattr(pairs, "linear", pairs)
