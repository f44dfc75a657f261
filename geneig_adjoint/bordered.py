r"""`BorderedSystem`: the nonsingular system that holds the derivative of one eigenpair.

    [ A - lam B   b ] [ v  ]   [ r   ]        b = beta B x,  c = gamma x
    [   c^H       0 ] [ nu ] = [ rho ]

A - lam B is singular at an eigenvalue; the border makes it regular when the eigenvalue
is simple (Lee & Jung, Comput. Struct. 62(3), 1997). For a cluster x is the block of all
its vectors: the border then holds the whole invariant subspace, and the system is as well
conditioned as the cluster is isolated. beta and gamma give the border the size of
A - lam B, so that nothing changes when A or B is multiplied by a number.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.adjoint_settings import (
    AdjointSettings,
    chosen_strategy,
    may_turn_direct,
    remedy_of,
)
from geneig_adjoint.bordered_matrix import bordered_matrix
from geneig_adjoint.bordered_solver import LinearSolver, PackedOperator, warn_of_rounding
from geneig_adjoint.collective import CollectiveContext
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner

REFINEMENTS = 12
ROUNDING = 100 * EPS
"""A residual of this size, relative to the matrix and the solution, is rounding."""
SETTLED = 1e-9
"""A correction of this size, relative to the solution, no longer moves it."""
SMALL_ERROR = 1e-6
"""Solutions with an estimated error up to this are accepted without a word."""
LARGEST_ERROR = 1e-3
"""Solutions with a larger estimated error are refused."""
LARGEST_GROWTH = 1e6
"""Solutions larger than this, relative to those with the factor, mean a multiple eigenvalue."""
Pair = tuple[Block, Block]
"""Upper and lower part of a vector of the bordered system."""


class BorderedSystem(CollectiveContext):
    """The bordered matrix of one eigenpair, solved forward and Hermitian-transposed.

    Collective. A context manager; `close` destroys the solvers.

    Parameters
    ----------
    pencil
        A and B.
    lam
        The eigenvalue.
    x
        Its right vector, this rank's rows (n_local,), or the right vectors of its
        cluster, (n_local, g).
    members
        Eigenvalues of the columns of x, (g,); None: lam.
    transformation
        The eigensolver's factor, used as preconditioner; None: there is none.
    settings
        Strategy, tolerance, options.
    name
        What messages call this system, e.g. "eigenpair 3".

    Attributes
    ----------
    accuracy : float
        Estimated relative error of the worst solution so far: its true relative residual,
        or its last corrections where a stiff matrix puts the residual out of reach.

    Raises
    ------
    InputError
        For a strategy that does not exist or does not fit the pencil.

    """

    def __init__(
        self,
        pencil: Pencil,
        lam: complex,
        x: Block,
        *,
        members: Block | None = None,
        transformation: SpectralTransformation | None = None,
        settings: AdjointSettings | None = None,
        name: str = "this eigenpair",
    ) -> None:
        self.pencil = pencil
        self.comm = pencil.comm
        self.name = name
        self.settings = settings or AdjointSettings()
        self.transformation = transformation if transformation and transformation.inverts else None
        self.strategy = chosen_strategy(self.settings.strategy, pencil, self.transformation)
        imaginary = bool(np.any(np.imag(x))) or np.imag(lam) != 0
        self._complex = bool(self.comm.allreduce(int(imaginary)))
        self.lam = complex(lam) if self._complex else complex(lam).real
        block = x if x.ndim == 2 else x[:, None]
        self.x = block if self._complex else np.asarray(block.real)
        values = np.full(self.width, lam) if members is None else np.asarray(members)
        self.members = values if self._complex else values.real
        # A complex system in a real build becomes a real one of twice the size.
        self._halves = 2 if self._complex and _petsc.REAL_SCALARS else 1
        self._last = self.comm.rank == self.comm.size - 1
        self._may_turn_direct = self.strategy == "ksp" and may_turn_direct(self.settings, pencil)
        self._solvers: dict[bool, LinearSolver] = {}
        self._columns: dict[bool, Block] = {}
        self.accuracy = 0.0
        self._set_border()

    @property
    def width(self) -> int:
        """Number g of columns of the border."""
        return int(self.x.shape[1])

    def solve(self, rhs: Block, rho: Block, *, hermitian: bool) -> tuple[Block, Block]:
        """Solve for several right-hand sides, true residuals checked.

        Collective.

        Parameters
        ----------
        rhs
            Upper parts, this rank's rows (n_local, k). Not changed.
        rho
            Lower parts (g, k), the same on every rank; (k,) for a border of one column.
        hermitian
            Solve with the Hermitian transpose: the adjoint system.

        Returns
        -------
        v : ndarray
            Upper parts (n_local, k).
        nu : ndarray
            Lower parts in the shape of rho, in units where the border is B x and x,
            unscaled.

        Raises
        ------
        ConvergenceError
            When a true residual stays above rtol, and rounding is not all that keeps it
            there or leaves less than three digits.

        Warns
        -----
        IllConditionedWarning
            When rounding leaves less than six digits of a solution.

        """
        scale_in, scale_out = (self.beta, self.gamma) if hermitian else (self.gamma, self.beta)
        real = _petsc.REAL_SCALARS and not self._complex and not np.iscomplexobj(rhs)
        v = np.zeros(rhs.shape, dtype=float if real else complex, order="F")
        lower = np.reshape(rho, (self.width, rhs.shape[1])) * scale_in[:, None]
        nu = np.zeros(lower.shape, dtype=v.dtype)
        # A singular system gives infinities, which the check of the residual reports.
        with np.errstate(all="ignore"):
            self._solve_columns(rhs, lower, (v, nu), hermitian=hermitian)
        return v, np.reshape(nu * scale_out[:, None], np.shape(rho))

    def _solve_columns(
        self, rhs: Block, rho: Block, out: tuple[Block, Block], *, hermitian: bool
    ) -> None:
        v, nu = out
        halves = v.dtype.kind == "c" and not self._complex and _petsc.REAL_SCALARS
        for column in range(rhs.shape[1]):
            lower = rho[:, column]
            if not halves:
                v[:, column], nu[:, column] = self._solved((rhs[:, column], lower), hermitian)
            else:  # a real matrix in a real build: the halves are independent
                re = self._solved((rhs[:, column].real, np.real(lower)), hermitian)
                im = self._solved((rhs[:, column].imag, np.imag(lower)), hermitian)
                v[:, column], nu[:, column] = re[0] + 1j * im[0], re[1] + 1j * im[1]

    def apply(self, v: Block, nu: Block, *, hermitian: bool) -> tuple[Block, Block]:
        """Return the product of the scaled bordered matrix, or its transpose.  (Collective.)"""
        column, row = (self.c, self.b) if hermitian else (self.b, self.c)
        shift = np.conj(self.lam) if hermitian else self.lam
        block = v[:, None]
        upper = self.pencil.multiply_a(block, hermitian=hermitian)
        upper = upper - shift * self.pencil.multiply_b(block, hermitian=hermitian)
        return upper[:, 0] + column @ nu, inner(self.comm, row, block)[:, 0]

    def eliminate(self, v: Block, nu: Block, *, hermitian: bool) -> tuple[Block, Block]:
        """Solve the system with K = A - sigma B in place of A - lam B, by its factor.

        Collective. Block elimination. K^-1 B x = x / (lam - sigma) costs nothing; the
        Hermitian transpose needs one more solve, done once.
        """
        assert self.transformation is not None
        exact = not self.transformation.iterative
        if not hermitian and exact:
            sigma = complex(self.transformation.sigma or 0.0)
            shifts = self.members - (sigma if self._complex else sigma.real)
            row, column = self.c, self.beta / shifts * self.x
        else:
            row, side = (self.b, self.c) if hermitian else (self.c, self.b)
            if hermitian not in self._columns:
                column = self.transformation.precondition(side, hermitian=hermitian)
                self._columns[hermitian] = column
            column = self._columns[hermitian]
        u = self.transformation.precondition(v[:, None], hermitian=hermitian)[:, 0]
        sums = inner(self.comm, row, np.column_stack([column, u]))
        try:
            mu = np.linalg.solve(sums[:, :-1], sums[:, -1] - nu)
        except np.linalg.LinAlgError:  # the true residual will tell
            mu = np.full(self.width, np.nan)
        return u - column @ mu, mu

    def factor(self) -> None:
        """Do the work that comes before the first solve.  (Collective.)"""
        self._solver(hermitian=True)

    def close(self) -> None:
        """Destroy solvers and matrices.  (Collective.)"""
        for solver in self._solvers.values():
            solver.close()
        self._solvers.clear()

    def _set_border(self) -> None:
        a_norm, b_norm = self.pencil.norms
        self.size = a_norm + abs(self.lam) * b_norm
        Bx = self.pencil.multiply_b(self.x)
        # A smaller border, like the mean diagonal, makes Krylov methods break down where the
        # entries of A differ by orders of magnitude.
        self.beta = self.size / column_norms(self.comm, Bx)
        self.gamma = self.size / column_norms(self.comm, self.x)
        self.b, self.c = self.beta * Bx, self.gamma * self.x

    # -- one right-hand side --

    def _solved(self, rhs: Pair, hermitian: bool) -> Pair:
        """Solve by the strategy; by "direct" where it fails and nobody has chosen it."""
        if self._may_turn_direct:
            with suppress(ConvergenceError):
                return self._refined(rhs, hermitian)
            self.close()
            self.strategy, self._may_turn_direct = "direct", False
        return self._refined(rhs, hermitian)

    def _refined(self, rhs: Pair, hermitian: bool) -> Pair:
        """Solve, and correct with the true residual as long as that helps.

        Accepted is a true residual below rtol; or, for matrices so stiff that rounding
        forbids it, a residual of the size of rounding whose corrections hardly move the
        solution. (A nearly singular system has such residuals, too, but corrections as
        large as the solution.)
        """
        target = self._norm(rhs)
        v, nu = 0.0 * rhs[0], 0.0 * rhs[1]
        if target < TINY:
            return v, nu
        remaining, spent, before, moves = rhs, 0, (np.inf, np.inf), list[float]()
        for _ in range(REFINEMENTS):
            (dv, dnu), iterations, reason = self._solve_once(remaining, hermitian)
            v, nu, spent = v + dv, nu + dnu, spent + iterations
            product = self.apply(v, nu, hermitian=hermitian)
            remaining = (rhs[0] - product[0], rhs[1] - product[1])
            residual, moved, size = (self._norm(item) for item in (remaining, (dv, dnu), (v, nu)))
            moves.append(moved / max(size, TINY))
            if residual <= self.settings.rtol * target:
                self.accuracy = max(self.accuracy, min(residual / target, moves[-1]))
                return v, nu
            stable = residual <= ROUNDING * self.size * size
            error = self._error((remaining, rhs), moves, size, hermitian) if stable else np.inf
            helped = residual <= 0.5 * before[0] or moves[-1] <= 0.5 * before[1]
            if error <= SETTLED or not helped:
                break
            before = (residual, moves[-1])
        if not error <= (SMALL_ERROR if self._may_turn_direct else LARGEST_ERROR):
            raise self._refused(residual / target, spent, reason)
        if error > max(SMALL_ERROR, self.accuracy):
            warn_of_rounding(self.name, error, SMALL_ERROR)
        self.accuracy = max(self.accuracy, error)
        return v, nu

    def _error(
        self, sides: tuple[Pair, Pair], moves: list[float], size: float, hermitian: bool
    ) -> float:
        """Estimate the relative error of a solution whose residual is rounding.  (Collective.)

        With a factor of the matrix itself corrections are as large as the error. Those of
        other solvers may be small because the solver is lazy: then the eigensolver's factor
        tells what is missing.
        """
        # The first correction is the solution itself, and a single one may be small by chance.
        moved = max(moves[-1], 0.1 * moves[-2] if len(moves) > 2 else 0.0)
        moved = moved if len(moves) > 1 else np.inf
        factors = self._solver(hermitian).factors
        if moved <= SETTLED and (factors or self.transformation is None):
            return moved
        foreseen = self._foreseen(*sides, size, hermitian)
        if factors:
            return moved if foreseen < np.inf else np.inf
        return foreseen if foreseen <= SETTLED else max(moved, foreseen)

    def _foreseen(self, remaining: Pair, rhs: Pair, size: float, hermitian: bool) -> float:
        """Estimate the next correction by the eigensolver's factor.  (Collective.)

        Infinite without one, and for nearly singular systems: the factor does not see them,
        but the solution does, which is then far larger than that with the factor.
        """
        if self.transformation is None:
            return np.inf
        correction = self._norm(self.eliminate(*remaining, hermitian=hermitian))
        natural = self._norm(self.eliminate(*rhs, hermitian=hermitian))
        growth = size / max(natural, TINY)
        return correction / size * max(growth, 1.0) if growth <= LARGEST_GROWTH else np.inf

    def _refused(self, residual: float, iterations: int, reason: str) -> ConvergenceError:
        remedy = remedy_of(self.strategy, assembled=not self.pencil.matrix_free)
        return ConvergenceError(
            f"the adjoint solve of {self.name} must reach rtol {self.settings.rtol:.1e}, got "
            f"{residual:.1e} ({reason}, {iterations} iterations); {remedy}",
            reason=reason,
            iterations=iterations,
            residual_norm=residual,
        )

    def _norm(self, pair: tuple[Block, Block]) -> float:
        upper = float(column_norms(self.comm, np.asarray(pair[0])[:, None])[0])
        return float(np.hypot(upper, np.linalg.norm(pair[1])))

    def _solve_once(
        self, rhs: tuple[Block, Block], hermitian: bool
    ) -> tuple[tuple[Block, Block], int, str]:
        # PETSc's absolute tolerance must not stop at a tiny right-hand side.
        size = self._norm(rhs) or 1.0
        rhs = (rhs[0] / size, rhs[1] / size)
        # One factor serves both directions: the Hermitian transpose by conjugation.
        transposed = self.strategy == "direct" and hermitian
        solver = self._solver(hermitian)
        local = self._packed(*rhs)
        rhs_local = local.conj() if transposed else local
        result, iterations, reason = solver.solve(rhs_local, transposed=transposed)
        v, nu = self._unpacked(result.conj() if transposed else result)
        return (size * v, size * nu), iterations, reason

    def _solver(self, hermitian: bool) -> LinearSolver:
        hermitian = hermitian and self.strategy != "direct"
        if hermitian not in self._solvers:
            operator = self._packed_operator(hermitian)
            self._solvers[hermitian] = LinearSolver(operator, self.settings, self.strategy)
        return self._solvers[hermitian]

    def _packed_operator(self, hermitian: bool) -> PackedOperator:
        def packed(action: Callable[..., tuple[Block, Block]]) -> Callable[[Block], Block]:
            return lambda local: self._packed(*action(*self._unpacked(local), hermitian=hermitian))

        def assembled() -> PETSc.Mat:
            border = self.b, self.c
            mat = bordered_matrix(self.pencil, complex(self.lam), *border, halves=self._halves)
            return mat.hermitianTranspose() if hermitian else mat

        return PackedOperator(
            comm=self.comm,
            sizes=(
                self._halves * (self.pencil.n_local + self.width * self._last),
                self._halves * (self.pencil.n + self.width),
            ),
            apply=packed(self.apply),
            precondition=None if self.transformation is None else packed(self.eliminate),
            assemble=None if self.pencil.matrix_free else assembled,
            alone=self.transformation is not None and self.transformation.on_single_ranks,
            name=self.name,
        )

    # -- packed vectors: this rank's rows, then the border's entries on the last rank --

    def _packed(self, v: Block, nu: Block) -> Block:
        parts = [v, nu] if self._last else [v]
        if self._halves == 1:
            return np.concatenate(parts)
        return np.concatenate([half for part in parts for half in (np.real(part), np.imag(part))])

    def _unpacked(self, local: Block) -> tuple[Block, Block]:
        n, own = self.pencil.n_local, None
        v = _joined(local[: self._halves * n], self._halves)
        if self._last:
            own = _joined(local[self._halves * n :], self._halves)
        return v, self.comm.bcast(own, root=self.comm.size - 1)


def _joined(packed: Block, halves: int) -> Block:
    if halves == 1:
        return packed
    re, im = np.split(packed, 2)
    return np.asarray(re + 1j * im)
