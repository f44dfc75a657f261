r"""Systems of all eigenpairs together, by blocked solves with the eigensolver's factor.

Every system is (I - s_j S) w = K^-1 f with one S for all eigenvalues (`krylov_space`). With
w = b + s_j u, b = K^-1 f, the rest solves (I - s_j S) u = S b: its right-hand side lies in
the range of S, also where B is singular. u is the vector of the space with the smallest
residual in the space's inner product; the directions still in the residuals of columns that
have not converged are what the next blocked solve is made of. Known eigenvectors, and
the eigensolver's whole basis where it is at hand, are part of the space from the start
(deflation), after M. Parks et al., SIAM J. Sci. Comput. 28(5), 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import column_norms, inner
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.krylov_space import KrylovSpace
from geneig_adjoint.normalization import column_dots

STEPS = 60
"""Blocked solves for one right-hand side at most."""
STALLED = 4
"""Steps without progress after which columns are left to other strategies."""
CORRECTIONS = 3
MARGIN = 0.1
"""The projected problem is solved to this part of the tolerance: it does not know all errors."""
LARGEST_GROWTH = 1e5
"""Solutions larger than this, relative to those with the factor, hint at a multiple value."""


@dataclass(frozen=True, eq=False)
class System:
    """Right-hand sides of the bordered system of a pair; see `BorderedSystem.solve`.

    Attributes
    ----------
    pair : int
    members : tuple of int
        The pairs in the border.
    rhs : ndarray
        Upper parts (n_local, k).
    rho : ndarray
        Lower parts (g, k).

    """

    pair: int
    members: tuple[int, ...]
    rhs: Block
    rho: Block


@dataclass(frozen=True, eq=False)
class Solution:
    """Upper and lower parts as `BorderedSystem.solve` returns them, and how good they are.

    ``accuracy`` estimates the relative error; infinite where the columns did not converge.
    """

    v: Block
    nu: Block
    accuracy: float


class BlockKrylov:
    """The bordered systems of all pairs in one direction.  (Collective.)

    Parameters
    ----------
    pairs
        With a factor of A - sigma B and with left vectors, or of a Hermitian pencil.
    hermitian
        The transposed (adjoint) systems.
    rtol
        Bound on the estimated relative errors.

    """

    def __init__(self, pairs: Eigenpairs, *, hermitian: bool, rtol: float) -> None:
        self._pairs, self._hermitian, self._rtol = pairs, hermitian, rtol
        pencil = pairs.pencil
        weighted = pencil.definite and pencil.B_positive
        self.space = KrylovSpace(pairs.factor, hermitian=hermitian, weighted=weighted)
        sigma = complex(pairs.factor.sigma)
        shifts = pairs.values - sigma
        self._shifts = shifts.conj() if hermitian else shifts
        left = _left(pairs)
        # Null vectors of A - lam B and of its transpose, as this direction sees them.
        self._null, self._dual = (left, pairs.right) if hermitian else (pairs.right, left)
        B_right = pencil.multiply_b(pairs.right)
        # Border: column beside the matrix, row below it.
        self._column, self._row = (pairs.right, B_right) if hermitian else (B_right, pairs.right)
        self.space.add_eigenvectors(self._null, 1.0 / self._shifts)
        if weighted:
            recycled = pairs.factor.krylov_basis()
            if recycled is not None:
                self.space.add_krylov_basis(recycled)
        self._places = self.space.coordinates(self._null)

    def solve(self, systems: Sequence[System]) -> list[Solution]:
        """Solve together; what does not converge is marked by infinite accuracy.

        Collective.
        """
        owner = np.repeat(np.arange(len(systems)), [item.rhs.shape[1] for item in systems])
        parts = [self.project(system, system.rhs) for system in systems]
        with np.errstate(all="ignore"):  # what is singular fails the checks
            w, errors = self._solved(
                np.hstack([part[0] for part in parts]), [systems[i] for i in owner]
            )
        errors = np.where(errors <= self._rtol, errors, np.inf)
        return [
            Solution(
                self._bordered(system, w[:, owner == i]), parts[i][1], errors[owner == i].max()
            )
            for i, system in enumerate(systems)
        ]

    def product(self, w: Block, lam: Block) -> Block:
        """Return (A - lam_j B) w_j, or with its Hermitian transpose.  (Collective.)"""
        pencil, hermitian = self._pairs.pencil, self._hermitian
        lam = _real_where_real(lam.conj() if hermitian else lam, w)
        B_w = pencil.multiply_b(w, hermitian=hermitian)
        return np.asarray(pencil.multiply_a(w, hermitian=hermitian) - B_w * lam)

    def project(self, system: System, block: Block) -> tuple[Block, Block]:
        """Return what the border leaves of right-hand sides, and its lower unknowns."""
        comm, members = self._pairs.comm, list(system.members)
        column, dual = self._column[:, members], self._dual[:, members]
        sums = inner(comm, dual, np.hstack([column, block]))
        nu = np.linalg.solve(sums[:, : len(members)], sums[:, len(members) :])
        return np.asarray(block - column @ nu), nu

    def _bordered(self, system: System, w: Block) -> Block:
        """Return solutions with the lower row fulfilled.  (Collective.)"""
        members = list(system.members)
        row, null = self._row[:, members], self._null[:, members]
        sums = inner(self._pairs.comm, row, np.hstack([null, w]))
        missing = system.rho - sums[:, len(members) :]
        return np.asarray(w + null @ np.linalg.solve(sums[:, : len(members)], missing))

    def _solved(self, rhs: Block, systems: Sequence[System]) -> tuple[Block, Block]:
        """Return solutions and their estimated relative errors, column by column."""
        space, comm = self.space, self._pairs.comm
        w = np.zeros(rhs.shape, dtype=np.result_type(rhs, self._null))
        errors = np.full(rhs.shape[1], np.inf)
        errors[column_norms(comm, rhs) == 0] = 0.0
        natural = np.zeros(rhs.shape[1])
        remaining = rhs.astype(w.dtype)
        for attempt in range(CORRECTIONS):
            (open_,) = np.nonzero(errors > self._rtol)
            if not open_.size:
                break
            chosen = [systems[i] for i in open_]
            b = space.solve(remaining[:, open_])
            lengths = space.lengths(b)
            if attempt:
                moves = lengths / np.maximum(space.lengths(w[:, open_]), TINY)
                if np.all(moves <= self._rtol):
                    w[:, open_] += b
                    errors[open_] = moves
                    break
                lengths = np.maximum(lengths, space.lengths(w[:, open_]))
            else:
                natural[open_] = lengths
            found, rest, foreseen = self._expanded(b, lengths, chosen)
            w[:, open_] += found
            remaining[:, open_], unforeseen = self._remaining(
                rhs[:, open_], w[:, open_], rest, chosen
            )
            lengths = np.maximum(space.lengths(w[:, open_]), TINY)
            errors[open_] = (foreseen + unforeseen) / lengths
            errors[open_[lengths > LARGEST_GROWTH * natural[open_]]] = np.inf
        return w, errors

    def _remaining(
        self, rhs: Block, w: Block, rest: Block, systems: Sequence[System]
    ) -> tuple[Block, Block]:
        """Return true residuals, and what their unforeseen parts do to solutions.

        Collective. Unforeseen is what the projected problem does not know: rounding, and
        errors of known eigenvectors. K^-1 of it is estimated: exact along eigenvectors,
        with the largest known shift elsewhere.
        """
        numbers = [system.pair for system in systems]
        residual = rhs - self.product(w, self._pairs.values[numbers])
        unforeseen = residual - self.space.times_factor(rest)
        for i, system in enumerate(systems):
            both = self.project(system, np.column_stack([residual[:, i], unforeseen[:, i]]))[0]
            residual[:, i], unforeseen[:, i] = both.T
        comm, far = self._pairs.comm, np.abs(self._shifts).max()
        along = inner(comm, self._dual, unforeseen) / self._shifts[:, None]
        heavy = self.space.lengths(w) / np.maximum(column_norms(comm, w), TINY)
        across = column_norms(comm, unforeseen) / np.maximum(heavy * far, TINY)
        sizes = self.space.lengths(self._null)
        return residual, np.linalg.norm(sizes[:, None] * along, axis=0) + across

    def _expanded(
        self, b: Block, lengths: Block, systems: Sequence[System]
    ) -> tuple[Block, Block, Block]:
        """Return solutions for K w = b by the space, grown until it holds them.

        Collective. Also s W rho, with rho the residuals' coordinates, and its lengths.
        """
        space = self.space
        shifts = self._shifts[[system.pair for system in systems]]
        shifts = _real_where_real(shifts, b)
        right = self._joined(space.image(self._halves(b)), b)
        history: list[Block] = []
        while True:
            right = _padded(right, space.size)
            u, rho = self._projected(right, shifts, systems)
            errors = np.abs(shifts) * np.linalg.norm(rho, axis=0)
            history.append(errors / lengths)
            stalled = len(history) > STALLED and history[-1] > 0.5 * history[-1 - STALLED]
            (open_,) = np.nonzero((errors > MARGIN * self._rtol * lengths) & ~np.asarray(stalled))
            if len(history) == STEPS or not open_.size:
                break
            if not space.expand(self._halves(rho[:, open_])):
                break
        rest = shifts * (space.basis @ rho)
        found = b + shifts * (space.basis @ (space.known @ u))
        return found, rest, np.abs(shifts) * np.linalg.norm(rho, axis=0)

    def _projected(
        self, right: Block, shifts: Block, systems: Sequence[System]
    ) -> tuple[Block, Block]:
        """Return the best u for (I - s_j S) W E u_j = W right_j, and the residuals.

        Collective. Null vectors are left out. Small and dense: solved once.
        """
        space, comm = self.space, self._pairs.comm
        found = None
        if comm.rank == 0:
            places = space.known.conj().T @ _padded(self._places, space.size)
            rho = np.array(right, dtype=np.result_type(right, shifts, places))
            u = np.zeros((len(places), right.shape[1]), dtype=rho.dtype)
            for system in dict.fromkeys(systems):
                columns = [i for i, item in enumerate(systems) if item is system]
                members = list(system.members)
                free = np.linalg.qr(places[:, members], mode="complete")[0][:, len(members) :]
                matrix = (space.known - shifts[columns[0]] * space.images) @ free
                y = scipy.linalg.lstsq(matrix, right[:, columns], lapack_driver="gelsy")[0]
                u[:, columns] = free @ y
                rho[:, columns] = right[:, columns] - matrix @ y
            found = (u, rho)
        u, rho = comm.bcast(found, root=0)
        return u, rho

    def _halves(self, block: Block) -> Block:
        """Return a complex block as two real ones where the space is real."""
        if np.iscomplexobj(block) and not np.iscomplexobj(self.space.basis):
            return np.hstack([block.real, block.imag])
        return block

    def _joined(self, coordinates: Block, like: Block) -> Block:
        if np.iscomplexobj(like) and not np.iscomplexobj(self.space.basis):
            re, im = np.hsplit(coordinates, 2)
            return np.asarray(re + 1j * im)
        return coordinates


def _real_where_real(values: Block, block: Block) -> Block:
    """Return real values for a real block: those of Hermitian pencils are real."""
    return values if np.iscomplexobj(block) else values.real


def _left(pairs: Eigenpairs) -> Block:
    """Return left vectors with y^H B x = 1; those of Hermitian pencils follow from the right."""
    if pairs.left is not None:
        return pairs.left
    B_right = pairs.pencil.multiply_b(pairs.right)
    return np.asarray(pairs.right / column_dots(pairs.comm, pairs.right, B_right).real)


def _padded(block: Block, rows: int) -> Block:
    return np.vstack([block, np.zeros((rows - len(block), block.shape[1]), dtype=block.dtype)])
