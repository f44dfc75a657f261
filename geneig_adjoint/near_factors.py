"""Factors of the bordered matrices of single pairs, and when they are worth their price.

The bordered matrix of a simple pair of a nonsymmetric pencil gives its left vector (transposed,
right-hand side (0, 1)), its adjoints and its tangents in one to three solves each, where the
factor of A - sigma B needs a Krylov space for each of them. A factor made for one of these is
kept with the pairs for the others.

Prices are counted from what is known of the eigensolver's factor, not timed: decisions are the
same on all ranks and in every run. Units are seconds of one core of 2020, their ratios count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.block_triangular import triangular_factor
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.collective import CollectiveContext
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner

SMALLEST = 5_000
"""Rows below which the eigensolver's factor does everything: nothing is worth a decision."""
MOST_KEPT = 3
"""Factors kept with pairs at most: each is as large as the eigensolver's."""
PARALLEL = 1e-12
"""Part of a vector outside of another one that is rounding."""

# Fitted to measured times, 2D and 3D, 20,000 to 400,000 rows.
FACTOR_ROW, FACTOR_FLOP = 4e-6, 1.5e-10
SOLVE_ROW, SOLVE_ENTRY = 0.55e-6, 1e-9
QUICK_ENTRY = 2e-9
"""PETSc's own LU, transposed."""
GROUP_ENTRY = 2e-9
"""Group by group (`block_triangular`)."""
FORWARD = 1 / 3
"""Price of a forward solve by PETSc's own LU, relative to a transposed one; others are alike."""
PLANE = 0.06
"""Operations of a factorisation with f entries on a mesh of the plane, relative to f^1.5."""
STEPS = 30
"""Blocked solves that adjoint systems need with the factor at the target, usually."""
BLOCKED = 0.2
"""Price of one more column in a block, relative to a single solve, with MUMPS."""
HALVES = 2.5
"""Price of the real form of a complex matrix, relative to the matrix's own."""


class NearSystem(CollectiveContext):
    """A kept bordered system, for x of another length; see `BorderedSystem.solve`.

    Collective. Closing it leaves the factor where it is kept.

    Parameters
    ----------
    system
        Of x.
    ratio
        The system meant is that of ratio x.
    conjugated
        What is meant is the conjugate of that: of a real pencil at the conjugate value.

    """

    def __init__(self, system: BorderedSystem, ratio: complex, *, conjugated: bool) -> None:
        self.comm = system.comm
        self._system, self._ratio, self._conjugated = system, ratio, conjugated

    @property
    def accuracy(self) -> float:
        """Estimated relative error of the worst solution so far."""
        return self._system.accuracy

    def solve(self, rhs: Block, rho: Block, *, hermitian: bool) -> tuple[Block, Block]:
        """Solve for several right-hand sides, true residuals checked.  (Collective.)"""
        if self._conjugated:
            rhs, rho = rhs.conj(), np.conj(rho)
        v, nu = self._system.solve(rhs, rho / np.conj(self._ratio), hermitian=hermitian)
        nu = nu / self._ratio
        return (v.conj(), nu.conj()) if self._conjugated else (v, nu)

    def close(self) -> None:
        """Do nothing: the factor stays where it is kept.  (Not collective.)"""


def is_kept(transformation: SpectralTransformation, lam: complex) -> bool:
    """Tell whether there is a factor for an eigenvalue, or for its conjugate.  (Not collective.)"""
    return _kept_value(transformation, lam) is not None


def _kept_value(transformation: SpectralTransformation, lam: complex) -> complex | None:
    candidates = [complex(lam), complex(lam).conjugate()] if _petsc.REAL_SCALARS else [complex(lam)]
    return next((value for value in candidates if value in transformation.near), None)


def kept_system(
    transformation: SpectralTransformation | None,
    pair: tuple[complex, Block],
    settings: AdjointSettings,
    name: str,
) -> NearSystem | None:
    """Return the kept system of a pair (lam, x), x in this rank's rows, None if there is none.

    Collective.
    """
    lam, x = complex(pair[0]), pair[1][:, None]
    value = None if transformation is None else _kept_value(transformation, lam)
    if transformation is None or value is None:
        return None
    system: BorderedSystem = transformation.near[value]
    if system.settings.prefix != settings.prefix:
        return None
    x = x if value == lam else x.conj()
    squares = inner(system.comm, system.x, np.hstack([system.x, x]))[0]
    ratio = squares[1] / squares[0]
    outside, length = column_norms(system.comm, np.hstack([x - ratio * system.x, x]))
    if not outside <= PARALLEL * length:
        return None
    system.settings = replace(system.settings, rtol=settings.rtol)
    system.name, system.accuracy = name, 0.0
    return NearSystem(system, ratio, conjugated=value != lam)


def keep(transformation: SpectralTransformation, lam: complex, system: BorderedSystem) -> bool:
    """Keep the system of a pair where there is room for it.  (Not collective.)"""
    room = len(transformation.near) < MOST_KEPT and not is_kept(transformation, lam)
    if room:
        transformation.near[complex(lam)] = system
    return room


def prices(pencil: Pencil, transformation: SpectralTransformation) -> tuple[float, float] | None:
    """Return the prices of a bordered factorisation and of a transposed solve, or None.

    Not collective; the same on all ranks. None where the factor is of a package that does not
    tell, or the problem is too small.
    """
    solver, groups, ksp = None, None, transformation.eps.getST().getKSP()
    if transformation.inverts and not transformation.iterative:
        groups = triangular_factor(ksp)
        solver = "groups" if groups is not None else ksp.getPC().getFactorSolverType()
    if pencil.n < SMALLEST or not pencil.factorable or solver not in {"mumps", "petsc", "groups"}:
        return None
    if groups is not None:
        # The bordered matrix couples all groups.
        operations = PLANE * (groups.number * groups.entries) ** 1.5
        return _factor_price(pencil, operations), GROUP_ENTRY * groups.entries
    factor = ksp.getPC().getFactorMatrix()
    if solver == "mumps":
        entries = float(factor.getMumpsInfog(29))
        entries = entries if entries >= 0 else -1e6 * entries  # MUMPS: then in millions
        operations = float(factor.getMumpsRinfog(3))
        solve = SOLVE_ROW * pencil.n + SOLVE_ENTRY * entries
    else:
        entries = float(factor.getInfo()["nz_used"])
        operations = PLANE * entries**1.5
        solve = QUICK_ENTRY * entries
    return _factor_price(pencil, operations), solve


def _factor_price(pencil: Pencil, operations: float) -> float:
    return FACTOR_ROW * pencil.n + FACTOR_FLOP * operations


def forward_share(transformation: SpectralTransformation) -> float:
    """Return the price of a forward solve relative to that of `prices`.  (Not collective.)"""
    ksp = transformation.eps.getST().getKSP()
    pc, groups = ksp.getPC(), triangular_factor(ksp)
    quick = pc.getType() == PETSc.PC.Type.LU and pc.getFactorSolverType() == "petsc"
    # A single group is the whole matrix, factored by PETSc's own LU on every rank.
    quick = quick or (groups is not None and groups.number == 1)
    return FORWARD if quick else 1.0


def factors_pay(
    pencil: Pencil, transformation: SpectralTransformation | None, values: Block, solves: float
) -> bool:
    """Tell whether a factor for each of some values is cheaper than a number of solves.

    Not collective; the same on all ranks. Factors that are kept cost nothing, others must find
    room to be kept.
    """
    found = None if transformation is None else prices(pencil, transformation)
    if found is None or transformation is None or not len(values):
        return False
    values = np.array([lam for lam in values if not is_kept(transformation, complex(lam))])
    if len(transformation.near) + len(values) > MOST_KEPT:
        return False
    doubled = np.imag(values) != 0 if _petsc.REAL_SCALARS else np.zeros(len(values), dtype=bool)
    return bool(found[0] * np.where(doubled, HALVES, 1.0).sum() <= found[1] * solves)


def factors_pay_in_blocks(pairs: Eigenpairs, chosen: Sequence[int], columns: int) -> bool:
    """Tell whether factors for some pairs are cheaper than the blocked solves of their systems.

    Not collective; the same on all ranks. columns: right-hand sides of all of them.
    """
    factor = pairs.factor
    if not chosen or prices(pairs.pencil, factor) is None:
        return False
    pc = factor.eps.getST().getKSP().getPC()
    mumps = pc.getType() != "python" and pc.getFactorSolverType() == "mumps"
    solves = STEPS * (1 + (BLOCKED if mumps else 1.0) * (columns - 1))
    return factors_pay(pairs.pencil, factor, pairs.values[list(chosen)], solves)
