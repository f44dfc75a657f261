"""One direction of a bordered system: its operator, preconditioner and solver."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings, OwnSolver
from geneig_adjoint.collective import freed_on_error
from geneig_adjoint.errors import ConvergenceError, IllConditionedWarning
from geneig_adjoint.factoring import MUMPS_SINGULAR, mumps_trouble, set_up_factor
from geneig_adjoint.one_rank_factor import OneRankFactor

if TYPE_CHECKING:
    from mpi4py import MPI

DIRECT_OPTIONS = {
    "ksp_type": "preonly",
    "pc_type": "lu",
    "pc_factor_mat_solver_type": "mumps",
    # The border fills a row and a column. This ordering (QAMD) sets nearly dense rows aside;
    # with the others the analysis alone takes longer than the factorisation.
    "mat_mumps_icntl_7": 6,
}
CHOICES = ("ksp_type", "pc_type", "pc_factor_mat_solver_type")
"""Options that say how all ranks are to solve together."""
KRYLOV_OPTIONS = {
    "ksp_type": "gmres",
    "ksp_gmres_restart": 60,
    "ksp_max_it": 500,
    # For those who choose pc_type lu: PETSc's own LU wants a nonzero diagonal.
    "pc_factor_mat_solver_type": "mumps",
}


@dataclass(frozen=True)
class PackedOperator:
    """What a solver needs to know about a bordered matrix, on packed vectors.

    Attributes
    ----------
    comm : MPI.Comm
    sizes : tuple of int
        Local and global length of packed vectors.
    apply : callable
        The product.
    precondition : callable or None
        An approximate inverse; None: there is none.
    assemble : callable or None
        Returns the assembled matrix; None for operators without entries.
    name : str
        What messages call the system.
    alone : bool
        Whether one rank is to factor it for all, unless options say otherwise.

    """

    comm: MPI.Comm
    sizes: tuple[int, int]
    apply: Callable[[Block], Block]
    precondition: Callable[[Block], Block] | None
    assemble: Callable[[], PETSc.Mat] | None
    name: str
    alone: bool = False


class LinearSolver:
    """A KSP, or what the caller plugs in for one, for one bordered operator.

    Collective. `close` destroys what it made; a KSP of the caller is only reset.
    """

    def __init__(
        self,
        operator: PackedOperator,
        settings: AdjointSettings,
        strategy: str | PETSc.KSP | OwnSolver,
    ) -> None:
        self._operator = operator
        self._strategy = strategy
        self._mats: list[PETSc.Mat] = []
        self._callbacks: list[_petsc.Callback] = []
        self._ksp: PETSc.KSP | None = None
        self._one: OneRankFactor | None = None
        with freed_on_error(operator.comm, lambda: _petsc.destroy_quietly(*self._owned())):
            if strategy == "direct":
                self._main = self._assembled()
            else:
                self._main = self._shell()
            if isinstance(strategy, str):
                self._ksp = PETSc.KSP().create(operator.comm)
                self._configure(self._ksp, settings)

    @property
    def factors(self) -> bool:
        """Whether a solve is nothing but one with a factor of the matrix.  (Not collective.)"""
        ksp = self._strategy if isinstance(self._strategy, PETSc.KSP) else self._ksp
        return (
            ksp is not None
            and ksp.getType() == PETSc.KSP.Type.PREONLY
            and (
                self._one is not None
                or ksp.getPC().getType() in {PETSc.PC.Type.LU, PETSc.PC.Type.CHOLESKY}
            )
        )

    def solve(self, rhs: Block, *, transposed: bool = False) -> tuple[Block, int, str]:
        """Return the solution of a packed right-hand side, iterations and reason.

        Collective. ``transposed`` solves with the transpose of an assembled matrix.
        """
        source, target = self._main.createVecs()
        try:
            source.array[:] = rhs
            account = self._run(source, target, transposed)
            for callback in self._callbacks:
                callback.raise_deferred()
            return (target.array_r.copy(), *account)
        finally:
            _petsc.destroy(source, target)

    def close(self) -> None:
        """Destroy solver and matrices.  (Collective.)"""
        if isinstance(self._strategy, PETSc.KSP):
            self._strategy.reset()  # it must not keep operators that are gone
        _petsc.destroy(*self._owned())
        self._mats, self._ksp = [], None

    def _owned(self) -> list[PETSc.Object]:
        return [item for item in (self._ksp, *reversed(self._mats)) if item is not None]

    def _run(self, source: PETSc.Vec, target: PETSc.Vec, transposed: bool) -> tuple[int, str]:
        ksp = self._ksp
        if isinstance(self._strategy, PETSc.KSP):
            ksp = self._strategy
            # Both directions, and systems of other sizes, may share the caller's KSP.
            ksp.reset()
            ksp.setOperators(self._main)
        if ksp is None:
            assert callable(self._strategy)
            self._strategy(self._main, source, target)
            return 0, "a solver of the caller"
        with self._explained():
            (ksp.solveTranspose if transposed else ksp.solve)(source, target)
        reason = _petsc.reason_name(PETSc.KSP.ConvergedReason, ksp.getConvergedReason())
        return ksp.getIterationNumber(), reason

    def _configure(self, ksp: PETSc.KSP, settings: AdjointSettings) -> None:
        prefix = f"{settings.prefix}ga_adjoint_"
        direct = self._strategy == "direct"
        options = dict(DIRECT_OPTIONS if direct else KRYLOV_OPTIONS)
        options |= {"ksp_rtol": settings.rtol / 10, **settings.options}
        chosen_pc = "pc_type" in options or _petsc.has_option(prefix + "pc_type")
        ksp.setOptionsPrefix(prefix)
        if chosen_pc and not direct and self._operator.assemble is not None:
            ksp.setOperators(self._main, self._assembled())
        else:
            ksp.setOperators(self._main)
        if not chosen_pc:
            self._precondition(ksp.getPC())
        chosen = any(
            name in settings.options or _petsc.has_option(prefix + name) for name in CHOICES
        )
        alone = direct and self._operator.alone and not self._operator.comm.allreduce(int(chosen))
        with _petsc.inserted_options(prefix, options), self._explained():
            status = self._set_up_alone(ksp) if alone else _set_up(ksp)
        if status < 0:
            raise self._unsolvable(mumps_trouble(status), singular=status in MUMPS_SINGULAR)

    def _set_up_alone(self, ksp: PETSc.KSP) -> int:
        """Let one rank factor the matrix of a KSP, whose options it reads; return the verdict."""
        self._one = OneRankFactor(ksp.getOptionsPrefix())
        ksp.setType(PETSc.KSP.Type.PREONLY)
        ksp.getPC().setType(PETSc.PC.Type.PYTHON)
        ksp.getPC().setPythonContext(self._one)
        with _petsc.plain_errors():
            ksp.setUp()
        return self._one.status

    def _precondition(self, pc: PETSc.PC) -> None:
        if self._operator.precondition is None:
            pc.setType(PETSc.PC.Type.NONE)
            return
        pc.setType(PETSc.PC.Type.PYTHON)
        pc.setPythonContext(self._callback(self._operator.precondition))

    def _shell(self) -> PETSc.Mat:
        sizes = (self._operator.sizes, self._operator.sizes)
        context = self._callback(self._operator.apply)
        mat = PETSc.Mat().createPython(sizes, context, comm=self._operator.comm)
        self._mats.append(mat)
        mat.setUp()
        return mat

    def _assembled(self) -> PETSc.Mat:
        assert self._operator.assemble is not None
        self._mats.append(self._operator.assemble())
        return self._mats[-1]

    def _callback(self, action: Callable[[Block], Block]) -> _petsc.Callback:
        self._callbacks.append(_petsc.Callback(action))
        return self._callbacks[-1]

    def _explained(self) -> _petsc.translated_errors:
        return _petsc.translated_errors(
            lambda code: self._unsolvable(f"PETSc error {code}", singular=True)
        )

    def _unsolvable(self, trouble: str, *, singular: bool) -> ConvergenceError:
        remedy = (
            "the eigenvalue may be multiple: look at pairs.clusters"
            if singular
            else 'use strategy="ksp", more ranks or a machine with more memory'
        )
        return ConvergenceError(
            f"the bordered system of {self._operator.name} must be solvable, got {trouble}; "
            f"{remedy}",
            reason=trouble,
        )


def _set_up(ksp: PETSc.KSP) -> int:
    ksp.setFromOptions()
    return set_up_factor(ksp, ksp.getOptionsPrefix())


def warn_of_rounding(name: str, error: float, limit: float) -> None:
    """Warn about a solution of which rounding has left few digits.

    Not collective; the error is the same on all ranks, since a warning may have been made an
    exception.
    """
    warnings.warn(
        f"the adjoint solve of {name} should have an error below {limit:.0e}, got an estimated "
        f"{error:.1e}, which is rounding: the matrix is very stiff or the next eigenvalue near; "
        "trust no more digits (relative_error of the gradient counts them), or make the "
        "elements larger",
        IllConditionedWarning,
        stacklevel=5,
    )
