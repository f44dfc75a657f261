r"""The lowest pairs of a definite pencil by a block method that never solves with A.

Krylov-Schur needs A^-1 to as many digits as its pairs are to have: without a factor, some
thirty products with a preconditioner for each of its steps. A block Davidson method needs one.
The basis grows by the preconditioned residuals of all pairs that have not converged, and is
cut back to the pairs and their last directions, which keeps the pace of conjugate gradients
(LOBPCG: A. V. Knyazev, SIAM J. Sci. Comput. 23(2), 2001).

With M the preconditioner and theta the smallest Ritz value of M^-1 (A - sigma B) seen so far, the
error of a pair is measured by |r|_{M^-1} / (sqrt(theta) |x|), in the energy norm of A - sigma B,
whatever the units of A, B and M are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.collective import from_first_rank
from geneig_adjoint.inner_solver import account_of
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.observers import report
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import inner
from geneig_adjoint.symmetry import is_positive
from geneig_adjoint.wanted import Wanted

FOUND = "ga_pairs"
CHOICES = ("eps_type", "eps_ncv", "st_ksp_type", "st_ksp_rtol", "st_ksp_max_it")
"""Options that ask for Krylov-Schur with inner solves."""
ITERATIONS = 300
STALLED = 30
"""Iterations without progress after which other methods have to do it."""
MOVED = 1e-8
"""Relative change of a value that has converged: it is another one, that came late."""
LOWERED = 1e-4
"""Relative fall of the sum of values that is progress."""
GUARDS = 0.25
"""Pairs beyond those wanted, relative to their number: they make the last ones come as fast."""
LEAST_GUARDS = 2
ROOM = 5
"""Blocks in the basis when it is cut back."""
ROUNDING = 30 * EPS
TIED = 1e-5
"""Guards as near to the last wanted value, relatively, belong to it."""
NEAR = 1e-2
"""Error of the first guard below which its value is one that belongs there."""
SEEN = 1e-3
"""Guards with errors below this tell where the next value is."""
DEPENDENT = 1e-10
SEPARATE = 1e-6
"""Of the squares of directions: below it they are too near to others for a Ritz value."""


@dataclass(frozen=True, eq=False)
class LowestPairs:
    """Values (m,) and this rank's rows of vectors (n_local, m), and what they took."""

    values: Block
    right: Block
    iterations: int
    converged: int
    applied: int

    @property
    def note(self) -> str:
        """What users are told."""
        return (
            f"lowest pairs by block Davidson: {self.iterations} iterations, {self.applied} vectors "
            "preconditioned"
        )


def lowest_pairs(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted) -> LowestPairs | None:
    """Return the lowest pairs where they are what is wanted; None: by other methods.

    Collective. For Hermitian definite pencils without a factor, a target below all values
    and a preconditioner that is definite, unless the user has chosen how Krylov-Schur and its
    inner solves are to do it. Also None where the method stalls.

    Parameters
    ----------
    eps
        Set up: its preconditioner and its tolerance are used.
    pencil, wanted
        What is to be solved.

    """
    chosen = any(wanted.option(name, wanted.options) is not None for name in CHOICES)
    if account_of(eps.getST().getKSP()) is None or chosen or wanted.target is None:
        return None
    width = wanted.count + max(LEAST_GUARDS, int(np.ceil(GUARDS * wanted.count)))
    if 2 * width > pencil.n or not _is_below(pencil, float(np.real(wanted.target))):
        return None
    return _Davidson(eps, pencil, wanted, width).run()


def _is_below(pencil: Pencil, target: float) -> bool:
    """Tell whether a definite pencil has no values below a target.  (Collective.)"""
    if target > 0 or not (pencil.definite and pencil.B_positive):
        return False
    return pencil.A_positive if target == 0 else is_positive(pencil.A)


class _Davidson:
    """A basis V with V^H B V = I, products with A and B, and the Ritz pairs in it."""

    def __init__(self, eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, width: int) -> None:
        self._pc, self._pencil, self._comm = eps.getST().getKSP().getPC(), pencil, pencil.comm
        self._tolerance, self._count, self._width = eps.getTolerances()[0], wanted.count, width
        self._sigma = float(np.real(wanted.target or 0.0))
        empty = np.zeros((pencil.n_local, 0), dtype=pencil.block_dtype)
        if not _petsc.REAL_SCALARS:
            empty = empty.astype(complex)
        self._V, self._AV, self._BV = empty, empty, empty
        self._turn, self._applied = np.zeros((0, 0)), 0
        self._reach = (np.inf, 0.0)
        known = empty if wanted.start is None else wanted.start[:, : width - LEAST_GUARDS]
        self._known = known.shape[1]  # fewer than all: what is new must be seen, too
        self._add((known.real if empty.dtype.kind == "f" else known).astype(empty.dtype))
        room = width - self._known
        start = _petsc.deterministic_block(pencil.rows, room, seed=5).astype(empty.dtype)
        self._add(self._preconditioned(pencil.multiply_b(start)))

    def run(self) -> LowestPairs | None:
        """Iterate; None: it stalls.  (Collective.)"""
        errors, progress = np.full(self._width, np.inf), _Progress()
        before = np.zeros(self._width)
        for iteration in range(ITERATIONS):
            theta, turn = self._ritz()
            if len(theta) < self._width or not theta[0] > self._sigma:
                return None
            errors[np.abs(theta - before) > MOVED * (theta - self._sigma)] = np.inf
            before, open_ = theta, np.flatnonzero(errors > self._limit(theta))
            needed = self._needed(theta)
            good = int(np.setdiff1d(needed, open_).size)
            report("eigensolve", converged=good, wanted=needed.size, restarts=iteration)
            z = self._measured(theta, turn, errors, open_)
            if z is not None and not self._is_ahead(theta, errors):
                # A copy that came late may have moved others to places that were not looked at.
                open_ = np.setdiff1d(self._needed(theta), open_)
                z = self._measured(theta, turn, errors, open_)
                if z is not None and not self._is_ahead(theta, errors):
                    return self._found(theta, turn, errors, iteration)
            if z is None:
                return None
            watched = slice(self._guard(theta) + 1)
            if progress.stalls(theta[watched] - self._sigma, errors[watched]):
                return None
            self._restart(turn)
            self._add(z)
        return None

    def _is_ahead(self, theta: Block, errors: Block) -> bool:
        """Tell whether there is work left.

        A guard must have come near a value above those wanted: after a start with vectors that
        are exact already it may still be on its way to one between theirs.
        """
        needed, guard = self._needed(theta), self._guard(theta)
        if (errors[needed] > self._limit(theta)[needed]).any():
            return True
        if guard == errors.size:
            return False
        apart = (theta[guard] - theta[needed[-1]]) / (theta[guard] - self._sigma)
        return bool(errors[guard] > min(NEAR, apart))

    def _guard(self, theta: Block) -> int:
        """Return the place of the first pair that is neither needed nor known, or the last."""
        return int(min(max(self._needed(theta).size, self._known), self._width))

    def _measured(self, theta: Block, turn: Block, errors: Block, chosen: Block) -> Block | None:
        """Write errors of some pairs; return directions that reduce them, None: M is no good.

        Collective.
        """
        part = turn[:, chosen]
        rest: Block = self._AV @ part - (self._BV @ part) * theta[chosen]
        z = self._preconditioned(rest)
        squares = self._squares(rest, z)
        if squares is None:
            return None
        errors[chosen] = np.sqrt(squares / (theta[chosen] - self._sigma))
        return z

    def _squares(self, rest: Block, z: Block) -> Block | None:
        """Return the squares of the errors' lengths; None where M is no good.

        Collective. r^H A^-1 r <= r^H M^-1 r / theta; z = M^-1 r, so that r = M z.
        """
        squares = column_dots(self._comm, rest, z).real
        if not np.all(squares >= 0):  # not definite, or not finite
            return None
        part = squares > 0
        if not part.any():
            return squares
        scaled = z[:, part] / np.sqrt(squares[part])
        product = self._pencil.multiply_a(scaled) - self._sigma * self._pencil.multiply_b(scaled)
        weighed = rest[:, part] / np.sqrt(squares[part])
        H, G = np.hsplit(inner(self._comm, scaled, np.hstack([product, weighed])), 2)
        least, most = from_first_rank(self._comm, lambda: _extremes(H, G))
        self._reach = min(least, self._reach[0]), max(most, self._reach[1])
        return np.asarray(squares / self._reach[0]) if self._reach[0] > 0 else None

    def _limit(self, theta: Block) -> Block:
        """Return the errors to reach: what is asked for, or what rounding leaves."""
        a_norm, b_norm = self._pencil.norms
        rounding = ROUNDING * np.sqrt(a_norm / (b_norm * (theta - self._sigma)))
        if self._reach[1]:  # rounding looks as if it were where M sees least
            rounding = rounding * np.sqrt(self._reach[1] / self._reach[0])
        return np.maximum(self._tolerance, np.minimum(rounding, 1e-8))

    def _needed(self, theta: Block) -> Block:
        """Return which pairs must converge: those wanted, and copies of the last one."""
        last = theta[self._count - 1]
        return np.flatnonzero(theta <= last + TIED * (last - self._sigma))

    def _ritz(self) -> tuple[Block, Block]:
        """Return the lowest Ritz values and the coordinates of their vectors.  (Collective.)"""
        H = inner(self._comm, self._V, self._AV)
        values, vectors = from_first_rank(self._comm, lambda: np.linalg.eigh((H + H.conj().T) / 2))
        return values[: self._width], vectors[:, : self._width]

    def _restart(self, turn: Block) -> None:
        """Cut the basis back to Ritz vectors and those before, when it is full."""
        size = self._V.shape[1]
        before = np.zeros((size, self._turn.shape[1]), dtype=turn.dtype)
        before[: len(self._turn)] = self._turn
        if size + self._width > ROOM * self._width:
            kept = self._comm.bcast(np.linalg.qr(np.hstack([turn, before]))[0], root=0)
            vectors, self._V = self._V @ turn, self._V @ kept
            self._measure()
            turn = inner(self._comm, self._BV, vectors)
        self._turn = turn

    def _measure(self) -> None:
        """Multiply with A and B, and make the basis orthonormal once more.  (Collective.)"""
        V, self._V = self._V, self._V[:, :0]
        self._AV, self._BV = self._AV[:, :0], self._BV[:, :0]
        self._add(V)

    def _add(self, block: Block) -> None:
        """Add directions to the basis, but for those that depend on it.  (Collective.)"""
        comm, pencil = self._comm, self._pencil
        block = block / np.maximum(np.sqrt(column_dots(comm, block, block).real), TINY)
        for _ in range(3):
            block = block - self._V @ inner(comm, self._BV, block)
            weighed = pencil.multiply_b(block)
            gram = inner(comm, block, weighed)
            values, turn, scale = from_first_rank(comm, partial(_scaled_eigh, gram))
            keep = values > DEPENDENT * max(values.max(initial=0.0), TINY)
            block = block @ (scale[:, None] * turn[:, keep] / np.sqrt(values[keep]))
        self._V = np.hstack([self._V, block])
        self._AV = np.hstack([self._AV, pencil.multiply_a(block)])
        self._BV = np.hstack([self._BV, pencil.multiply_b(block)])

    def _preconditioned(self, block: Block) -> Block:
        self._applied += block.shape[1]
        return _petsc.columnwise(self._pencil.A, self._pc.apply, block)

    def _found(self, theta: Block, turn: Block, errors: Block, iterations: int) -> LowestPairs:
        # Guards that are nearly there tell how far away the next value is.
        keep = np.flatnonzero(errors <= SEEN)
        keep = np.union1d(keep, self._needed(theta))
        values, right = theta[keep].astype(complex), np.asfortranarray(self._V @ turn[:, keep])
        return LowestPairs(values, right, iterations, len(keep), self._applied)


class _Progress:
    """Whether errors fall, or values do: pairs that come late begin with large errors."""

    def __init__(self) -> None:
        self._best, self._total, self._since = np.inf, np.inf, 0

    def stalls(self, theta: Block, errors: Block) -> bool:
        """Tell whether there was no progress for `STALLED` calls."""
        worst, total = float(np.log(np.maximum(errors, TINY)).sum()), float(theta.sum())
        if total < (1 - LOWERED) * self._total:
            self._best = np.inf
        self._since = 0 if worst < self._best - 0.7 else self._since + 1
        self._best = worst if self._since == 0 else self._best
        self._total = min(total, self._total)
        return self._since > STALLED


def _extremes(H: Block, G: Block) -> tuple[float, float]:
    """Return the smallest and the largest Ritz value of H y = theta G y, G of unit diagonal."""
    values, turn = np.linalg.eigh((G + G.conj().T) / 2)
    turn = turn[:, values > SEPARATE] / np.sqrt(values[values > SEPARATE])
    found = np.linalg.eigvalsh(turn.conj().T @ (H + H.conj().T) / 2 @ turn)
    return float(found[0]), float(found[-1])


def _scaled_eigh(gram: Block) -> tuple[Block, Block, Block]:
    """Return eigenvalues and vectors of a Gram matrix scaled to ones, and the scale."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(gram).real, TINY))
    values, turn = np.linalg.eigh(scale[:, None] * (gram + gram.conj().T) / 2 * scale)
    return values, turn, scale
