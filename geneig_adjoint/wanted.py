"""Which eigenpairs a user wants: checked once, and the order they come in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.eigenpairs import RELATIVE_GAP
from geneig_adjoint.errors import ArgumentError
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.user_options import take

RELATIVE_TIE = 1e-10
INTERVAL_MARGIN = 1e-6
INNER_SHARE = 0.1
"""Tolerance of the solves inside an eigensolve, relative to its own."""
SMALLEST_RTOL = 1e-14

WHICH = {
    name: getattr(SLEPc.EPS.Which, name.upper())
    for name in (
        "largest_magnitude",
        "smallest_magnitude",
        "largest_real",
        "smallest_real",
        "largest_imaginary",
        "smallest_imaginary",
    )
}


@dataclass(frozen=True)
class Wanted:
    """Which eigenpairs are wanted, and how they are looked for.

    Attributes
    ----------
    count : int
    target : complex or None
        Nearest to this value, by shift-and-invert.
    which : str or None
        One of SLEPc's names, without a factor of A; "given": in the order they come.
    interval : tuple of float or None
        All eigenvalues of a real symmetric pencil in [a, b].
    options : mapping
        PETSc options without the prefix ``ga_``.
    prefix : str
        In front of ``ga_``.
    start : ndarray or None
        This rank's rows (n_local, j) of vectors to start from.
    count_check : bool
        Whether to verify that no wanted pair was missed.
    rounding : float
        Distance below which computed values cannot be told apart; 0 before the solve.
    plain_product : bool
        Whether SLEPc is to work in the Euclidean product though B is definite.
    inner : str
        Krylov method of iterative inner solves; "": by what is known about the pencil.
    left : bool
        Whether left vectors will be asked for.

    """

    count: int
    target: complex | None = None
    which: str | None = None
    interval: tuple[float, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    start: Block | None = None
    count_check: bool = True
    rounding: float = 0.0
    plain_product: bool = False
    inner: str = ""
    left: bool = False

    def checked(self, pencil: Pencil) -> Wanted:
        """Return the request with its defaults filled in.  (Not collective.)

        Raises
        ------
        InputError
            Contradictory or impossible requests.

        """
        given = [
            name for name in ("target", "which", "interval") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ArgumentError(
                f"give one of target, which and interval, got {' and '.join(given)}; they exclude "
                "each other"
            )
        integer = isinstance(self.count, int | np.integer) and not isinstance(self.count, bool)
        if not integer or not 1 <= self.count <= pencil.n:
            raise ArgumentError(
                f"count must be in 1 ... {pencil.n} (the number of rows), got {self.count!r}; "
                "ask for fewer pairs, at least one"
            )
        if self.which is not None and self.which not in WHICH:
            raise ArgumentError(
                f"which must be one of {', '.join(WHICH)}, got {self.which!r}; or give a target"
            )
        _check_interval(self.interval, pencil)
        if self.which == "smallest_magnitude" or not given:
            # The same values as those nearest to 0, which a factor finds quickly.
            if pencil.factorable or pencil.preconditioner is not None:
                return replace(self, target=0.0, which=None)
            if not given:
                return replace(self, which="largest_magnitude")
        return _with_checked_target(self, pencil)

    def with_inner_tolerance(self, defaults: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
        """Return the options of an eigensolve, its inner tolerance tied to the outer one.

        Not collective. An eigenpair is never better than the solves with A - sigma B it
        comes from: an iterative solver goes to a tenth of ``eps_tol`` unless told otherwise.

        Parameters
        ----------
        defaults
            Options without the prefix, which those of the user replace.
        tolerance
            ``eps_tol`` where nobody gives one.

        """
        options = {**defaults, **self.options}
        if self.option("st_ksp_type", options) in {None, "preonly"}:
            return options
        if "st_ksp_rtol" not in self.options:
            with suppress(ValueError):  # PETSc says what is wrong with it
                outer = float(self.option("eps_tol", {"eps_tol": tolerance, **options}))
                options["st_ksp_rtol"] = max(INNER_SHARE * outer, SMALLEST_RTOL)
        if self.option("st_pc_type", options) not in {"lu", "cholesky"}:
            # The package of the direct factor does not fit another preconditioner.
            for name in set(options) - set(self.options):
                if name.startswith(("st_pc_factor_", "st_mat_mumps_", "st_mat_cholmod_")):
                    del options[name]
        return options

    def option(self, name: str, options: Mapping[str, Any]) -> Any:
        """Return an option as PETSc will see it: the command line wins."""
        take(name)
        return PETSc.Options().getString(f"{self.prefix}ga_{name}", "") or options.get(name)

    @property
    def searched(self) -> tuple[float, float]:
        """The interval, a little wider: an end that is an eigenvalue must not be lost."""
        assert self.interval is not None
        a, b = self.interval
        return a - INTERVAL_MARGIN * (b - a), b + INTERVAL_MARGIN * (b - a)

    def order(self, values: Block) -> Block:
        """Return the indices that sort values as asked, ties by larger imaginary part."""
        keys = self.keys(values)
        if self.which == "given":
            return np.arange(len(values))
        by_key = np.argsort(keys, kind="stable")
        # Keys equal up to rounding (conjugates, +-lam) must not be ordered by rounding; relative
        # to each value, because a singular B adds some of size 1e16.
        size = np.abs(values[by_key])
        ordered, level = keys[by_key], np.zeros(len(values), dtype=int)
        steps = ordered[1:] - ordered[:-1] > RELATIVE_TIE * size[1:]
        level[by_key[1:]] = steps.cumsum()
        imag = np.where(np.abs(values.imag) > RELATIVE_TIE * np.abs(values), values.imag, 0.0)
        return np.lexsort((-values.real, -imag, level))

    def counted_ends(self, cut: float) -> list[tuple[int, float]] | None:
        """Return (sign, sigma): how to sum the numbers of values below sigma with keys <= cut.

        Not collective. For real spectra; sigma = inf stands for all values. None where
        the wanted region is no union of intervals.
        """
        if self.target is not None:
            if np.imag(self.target):
                return None
            center = float(np.real(self.target))
            return [(1, center + cut), (-1, center - cut)]
        if self.which == "largest_magnitude" and cut >= 0:
            return [(1, np.inf)]
        ends = {
            "smallest_real": [(1, cut)],
            "largest_real": [(1, np.inf), (-1, -cut)],
            "largest_magnitude": [(1, np.inf), (-1, -cut), (1, cut)],
        }
        return ends.get(self.which or "")

    def window(self, cut: float) -> tuple[float, float] | None:
        """Return the real interval around the target that ends at a cut.  (Not collective.)"""
        if self.target is None or np.imag(self.target):
            return None
        center = float(np.real(self.target))
        return center - cut, center + cut

    def keys(self, values: Block) -> Block:
        """Return what the values are sorted by, smallest first.  (Not collective.)"""
        if self.target is not None:
            return np.abs(values - self.target)
        if self.interval is not None:
            return np.asarray(values.real)
        if self.which == "given":
            return np.arange(float(len(values)))
        size, part = (self.which or "").split("_")
        key = {"magnitude": np.abs(values), "real": values.real, "imaginary": values.imag}[part]
        return np.asarray(key if size == "smallest" else -key)


def _check_interval(interval: tuple[float, float] | None, pencil: Pencil) -> None:
    if interval is None:
        return
    if len(interval) != 2 or not interval[0] < interval[1]:
        raise ArgumentError(
            f"interval must be (a, b) with a < b, got {interval!r}; exchange the ends"
        )
    able = _petsc.REAL_SCALARS and pencil.definite and pencil.B_positive
    if not able or not pencil.factorable:
        raise ArgumentError(
            "an interval needs an assembled real symmetric pencil with B definite in PETSc's real "
            f"build, got problem type {pencil.problem_type} in the {_petsc.SCALAR_NAME} build; "
            "use target= instead"
        )


def _with_checked_target(wanted: Wanted, pencil: Pencil) -> Wanted:
    if wanted.target is None:
        return wanted
    if pencil.matrix_free and pencil.preconditioner is None:
        raise ArgumentError(
            "a target needs assembled matrices (A - sigma B is factored), got an operator without "
            "entries; give it a preconditioner=, an assembled matrix near A - sigma B, or use "
            'which="largest_real" or another end of the spectrum'
        )
    target = complex(wanted.target)
    if not np.isfinite(target):
        raise ArgumentError(f"target must be finite, got {wanted.target!r}; give a number")
    if target.imag != 0 and _petsc.REAL_SCALARS:
        raise ArgumentError(*_petsc.real_scalar_error(f"target={target}").args)
    # Of real values the same are nearest to the real part, and the factor stays Hermitian.
    real = target.imag == 0 or pencil.definite
    return replace(wanted, target=target.real if real else target)


def kept_indices(values: Block, wanted: Wanted) -> Block:
    """Return which of the ordered values to keep: those wanted, and what belongs to them.

    Not collective. Conjugates of a real pencil and values that cannot be told apart
    from a kept one are completed from what has converged.
    """
    if wanted.interval is not None:
        a, b = wanted.interval
        rounding = RELATIVE_TIE * max(abs(a), abs(b))
        return np.flatnonzero((values.real >= a - rounding) & (values.real <= b + rounding))
    kept = np.arange(len(values)) < wanted.count
    size = np.abs(values)
    if _petsc.REAL_SCALARS:
        kept |= _close_to(values, values[kept & (values.imag != 0)].conj(), RELATIVE_TIE * size)
    limit = np.maximum(RELATIVE_GAP * size, wanted.rounding)
    number = 0
    while number < np.count_nonzero(kept):  # a cluster is a chain
        number = np.count_nonzero(kept)
        kept |= _close_to(values, values[kept], limit)
    return np.flatnonzero(kept)


def _close_to(values: Block, members: Block, limit: Block) -> Block:
    distance = np.abs(values[:, None] - members[None, :])
    return np.asarray((distance <= limit[:, None]).any(axis=1))
