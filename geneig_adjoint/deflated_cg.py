r"""Systems of Hermitian eigenpairs without a factor: conjugate gradients in the complement.

With all lowest pairs known, A - lam_j B is positive definite on what is B-orthogonal to them:
there conjugate gradients need nothing but the preconditioner of the eigensolve. Along the
known vectors the system is diagonal. All columns of all pairs and objectives go together
(each with its own coefficients), and leave as they converge.

With M the preconditioner, r the residual, theta the smallest and Theta the largest Ritz value of
M^-1 (A - lam_j B), which the coefficients of the iteration hold, the error e obeys

    |e| <= sqrt(Theta) |e|_M <= sqrt(Theta) / theta |r|_{M^-1}

in the energy norm of A - sigma B, so that it stops, and reports, by errors of solutions in that
norm and not by residuals, whatever the units of A and M are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.block_krylov import Solution, System
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.observers import report
from geneig_adjoint.reductions import inner

ITERATIONS = 1000
"""Of one pass; what needs more is left to other strategies."""
CORRECTIONS = 4
"""Passes with the true residual; the first one is the solve."""
MARGIN = 0.3
"""A pass goes to this part of the tolerance: the recursive residual is not the true one."""
SMALLEST_RITZ = 1e-6
"""Relative to the largest one: below it the next eigenvalue is too near, or M is none."""


class DeflatedCG:
    """The systems of all pairs in one direction.  (Collective.)

    Parameters
    ----------
    pairs
        Of a Hermitian pencil with positive B, with the eigensolver's iterative solver.
    hermitian
        The transposed (adjoint) systems: the matrix is the same, the border is not.
    rtol
        Bound on the estimated relative errors.

    Attributes
    ----------
    applied : int
        Vectors that were preconditioned so far.

    """

    def __init__(self, pairs: Eigenpairs, *, hermitian: bool, rtol: float) -> None:
        self._pairs, self._rtol = pairs, rtol
        self._X = pairs.right
        self._BX = pairs.pencil.multiply_b(pairs.right)
        self._gram = inner(pairs.comm, self._X, self._BX)
        self._column, self._row = (self._X, self._BX) if hermitian else (self._BX, self._X)
        self.applied = 0

    def release(self) -> None:
        """Free what no later solve needs: nothing is kept anyway.  (Not collective.)"""

    def solve(self, systems: Sequence[System]) -> list[Solution]:
        """Solve together; what does not converge is marked by infinite accuracy.

        Collective.
        """
        owner = np.repeat(np.arange(len(systems)), [item.rhs.shape[1] for item in systems])
        parts = [self._project(system, system.rhs) for system in systems]
        rhs = np.hstack([part[0] for part in parts])
        w, errors = self._solved(rhs, [systems[i] for i in owner])
        errors = np.where(errors <= self._rtol, errors, np.inf)
        return [
            Solution(
                self._bordered(system, w[:, owner == i]), parts[i][1], errors[owner == i].max()
            )
            for i, system in enumerate(systems)
        ]

    def _project(self, system: System, block: Block) -> tuple[Block, Block]:
        """Return what the border leaves of right-hand sides, and its lower unknowns."""
        members = list(system.members)
        column, null = self._column[:, members], self._X[:, members]
        sums = inner(self._pairs.comm, null, np.hstack([column, block]))
        nu = np.linalg.solve(sums[:, : len(members)], sums[:, len(members) :])
        return np.asarray(block - column @ nu), nu

    def _bordered(self, system: System, w: Block) -> Block:
        """Return solutions with the lower row fulfilled.  (Collective.)"""
        members = list(system.members)
        row, null = self._row[:, members], self._X[:, members]
        sums = inner(self._pairs.comm, row, np.hstack([null, w]))
        missing = system.rho - sums[:, len(members) :]
        return np.asarray(w + null @ np.linalg.solve(sums[:, : len(members)], missing))

    def _solved(self, rhs: Block, systems: Sequence[System]) -> tuple[Block, Block]:
        """Return solutions and their estimated relative errors, column by column."""
        lam = self._pairs.values.real[[system.pair for system in systems]]
        w = np.zeros(rhs.shape, dtype=np.result_type(rhs, self._X))
        ritz, errors = np.full(rhs.shape[1], np.inf), np.full(rhs.shape[1], np.inf)
        errors[column_dots(self._pairs.comm, rhs, rhs).real == 0] = 0.0
        open_ = np.flatnonzero(errors)
        for attempt in range(CORRECTIONS + 1):
            if not open_.size:
                break
            rest = rhs[:, open_] - self._product(w[:, open_], lam[open_])
            along, rest = self._split(rest, lam[open_], [systems[i] for i in open_])
            z = self._preconditioned(rest)
            before = errors[open_]
            if attempt:
                errors[open_] = self._error(along, (rest, z), w[:, open_], ritz[open_])
                stalled = errors[open_] > 0.5 * before
                on = (errors[open_] > self._rtol) & ~stalled & (attempt < CORRECTIONS)
            else:
                on = np.ones(open_.size, dtype=bool)
            open_, rest, z, along = open_[on], rest[:, on], z[:, on], along[:, on]
            w[:, open_] += along
            step, found = self._iterate((rest, z), w[:, open_], lam[open_], ritz[open_])
            w[:, open_] += step
            ritz[open_] = found
            good = ritz[open_] > 0
            errors[open_[~good]] = np.inf
            open_ = open_[good]
        return w, errors

    def _split(self, rest: Block, lam: Block, systems: Sequence[System]) -> tuple[Block, Block]:
        """Return the solution along known vectors, and the residual outside of them."""
        found = np.linalg.solve(self._gram, inner(self._pairs.comm, self._X, rest))
        distances = self._pairs.values.real[:, None] - lam
        for j, system in enumerate(systems):
            distances[list(system.members), j] = np.inf  # the border takes care of them
        return self._X @ (found / distances), rest - self._BX @ found

    def _error(self, along: Block, outside: tuple[Block, Block], w: Block, ritz: Block) -> Block:
        """Return estimated relative errors from true residuals.  (Collective.)"""
        rest, z = outside
        squares = column_dots(self._pairs.comm, rest, z).real / ritz**2
        squares = squares + self._energies(along)
        return np.asarray(np.sqrt(np.maximum(squares, 0.0) / np.maximum(self._energies(w), TINY)))

    def _energies(self, block: Block) -> Block:
        """Return w^H (A - sigma B) w, the squares of the lengths that count.  (Collective.)"""
        sigma = np.full(block.shape[1], np.real(self._pairs.factor.sigma))
        return np.abs(column_dots(self._pairs.comm, block, self._product(block, sigma)))

    def _product(self, block: Block, lam: Block) -> Block:
        pencil = self._pairs.pencil
        return np.asarray(pencil.multiply_a(block) - pencil.multiply_b(block) * lam)

    def _preconditioned(self, rest: Block) -> Block:
        """Return M^-1 of residuals, made B-orthogonal to the known vectors.  (Collective.)"""
        self.applied += rest.shape[1]
        return self._outside(self._pairs.factor.precondition(rest))

    def _outside(self, z: Block) -> Block:
        part = inner(self._pairs.comm, self._BX, z)
        return np.asarray(z - self._X @ np.linalg.solve(self._gram, part))

    def _iterate(
        self, start: tuple[Block, Block], w: Block, lam: Block, known: Block
    ) -> tuple[Block, Block]:
        """Return corrections by conjugate gradients, and theta / sqrt(Theta).

        Collective. start: residuals and what the preconditioner makes of them; w: what is
        corrected; known: the same of earlier passes, which see more in longer ones.
        """
        comm, (r, z), count = self._pairs.comm, start, w.shape[1]
        steps, ritz = np.zeros(w.shape, dtype=w.dtype), known.copy()
        history = [_Coefficients() for _ in range(count)]
        on, p = np.arange(count), z
        energies, rz = self._energies(w), column_dots(comm, r, z).real
        for iteration in range(ITERATIONS):
            report("adjoint", solved=count - on.size, columns=count, iterations=iteration)
            if not on.size:
                break
            q = self._product(p, lam[on])
            q = q - self._BX @ np.linalg.solve(self._gram, inner(comm, self._X, q))
            curvature = column_dots(comm, p, q).real
            sound = (curvature > 0) & (rz > 0)
            alpha = np.where(sound, rz / np.where(sound, curvature, 1.0), 0.0)
            steps[:, on] += alpha * p
            r = r - alpha * q
            # Along conjugate directions energies add up.
            energies[on] += alpha**2 * curvature
            z = self._preconditioned(r)
            rz, before = column_dots(comm, r, z).real, rz
            beta = rz / np.where(before > 0, before, 1.0)
            for i, a, b in zip(on, alpha, beta, strict=True):
                history[i].add(a, b)
            found = [history[i].bound() for i in on]
            ritz[on] = comm.bcast(np.where(sound, np.minimum(known[on], found), -np.inf), root=0)
            sound = ritz[on] > 0
            limit = MARGIN * self._rtol * ritz[on] * np.sqrt(np.maximum(energies[on], TINY))
            keep = sound & (np.sqrt(np.maximum(rz, 0.0)) > limit)
            p = z[:, keep] + beta[keep] * p[:, keep]
            on, r, rz = on[keep], r[:, keep], rz[keep]
        ritz[on] = -np.inf  # not converged
        return steps, ritz


class _Coefficients:
    """Those of conjugate gradients, which are a tridiagonal matrix of Lanczos."""

    def __init__(self) -> None:
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._carried = 0.0
        self._largest = 0.0

    def add(self, alpha: float, beta: float) -> None:
        if alpha > 0:
            before = self._beside[-1] if self._beside else 0.0
            self._diagonal.append(1.0 / alpha + self._carried)
            self._beside.append(np.sqrt(max(beta, 0.0)) / alpha)
            self._carried = beta / alpha
            # Gershgorin's discs: too large by a factor of two at most
            self._largest = max(self._largest, before + self._diagonal[-1] + self._beside[-1])

    def bound(self) -> float:
        """Return theta / sqrt(Theta); -inf where theta is negligible."""
        if not self._diagonal:
            return np.inf
        values = scipy.linalg.eigh_tridiagonal(
            self._diagonal, self._beside[:-1], eigvals_only=True, select="i", select_range=(0, 0)
        )
        if not values[0] > SMALLEST_RITZ * self._largest:
            return -np.inf
        return float(values[0] / np.sqrt(self._largest))
