"""Models of quadratic problems (lam^2 M + lam C + K) x = 0 that linearise themselves."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext, check_equal_input, raise_together
from geneig_adjoint.companion import Scaling, Term, halves, scaling_of, terms
from geneig_adjoint.entrance import takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.models import checked_tangent, has_hermitian_tangent
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    add_scaled,
    check_parameters,
    digest,
    release,
    structure_error,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_parts import ROLES, Constant, NamedPart, parameters_of, parts_error
from geneig_adjoint.quadratic_pencil import QuadraticPencil, norms_of
from geneig_adjoint.reductions import allreduce_same

if TYPE_CHECKING:
    from mpi4py import MPI

REMEMBERED = 8
"""Points whose scaling is kept."""


@takes_structures
class QuadraticModel(CollectiveContext):
    """(lam^2 M + lam C + K) x = 0 from three models of one matrix each.

    Collective. ``assemble`` gives a `QuadraticPencil` for `solve_quadratic`; contractions,
    tangents and second derivatives are those of the three models, on vectors of their size.

    Parameters
    ----------
    stiffness, damping, mass
        Models whose pencils hold one matrix (no B): K, C and M. Each is asked about the
        parameters it has (``parameter_sizes``), or about all of them. A `PETSc.Mat` is a
        constant; damping may be None.
    form
        "companion" or "symmetric", see `QuadraticPencil`.
    comm
        The ranks; default: those of the stiffness.

    Raises
    ------
    InputError
        Something that is neither a model nor a matrix.

    """

    refills = True

    def __init__(
        self,
        stiffness: Any,
        damping: Any,
        mass: Any,
        *,
        form: str = "companion",
        comm: MPI.Comm | None = None,
    ) -> None:
        if comm is None:
            comm = getattr(stiffness, "comm", None)
        if isinstance(comm, PETSc.Comm):
            comm = comm.tompi4py()
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        self.comm: MPI.Comm = comm
        self.form = form
        given = {"K": stiffness, "C": damping, "M": mass}
        raise_together(comm, parts_error(given))
        parts = {name: part for name, part in given.items() if part is not None}
        check_equal_input(comm, "the matrices of a quadratic model", sorted(parts))
        self.parts: dict[str, Any] = {
            name: Constant(part) if isinstance(part, PETSc.Mat) else part
            for name, part in parts.items()
        }
        tangents = [getattr(part, "has_tangent", hasattr(part, "tangent")) for part in self._all()]
        self.has_tangent = all(tangents)
        self.has_hermitian_tangent = self.has_tangent and all(
            has_hermitian_tangent(part) for part in self._all()
        )
        self._scalings: dict[Any, Scaling] = {}

    @classmethod
    def of(cls, problem: Any, *, names: str = "KCM", form: str = "companion") -> QuadraticModel:
        """Return the model of one object of the user that knows all three matrices.

        Collective. The object has an attribute ``comm`` and methods that are told by ``name``
        ("K", "C" or "M") which matrix is meant: ``matrix(name, p)``, a fresh assembled
        PETSc.Mat; ``contract(name, p, left, right)``, Re sum_j left_j^H K_i right_j in the
        structure of p, summed over the ranks; for tangents ``tangent(name, p, p_dot, right,
        hermitian)``, dK @ right or dK^H @ right; for second derivatives
        ``contract_tangent(name, p, p_dot, left, right)``. p comes and goes as the user gave it;
        an exception on one rank is raised on all.

        Parameters
        ----------
        problem
            The object.
        names
            "KCM", or "KM" without damping.
        form
            "companion" or "symmetric", see `QuadraticPencil`.

        Raises
        ------
        InputError
            Other names, an object without ``comm``, ``matrix`` and ``contract``.

        """
        missing = [name for name in ("comm", "matrix", "contract") if not hasattr(problem, name)]
        if missing:
            raise InputError(
                f"the object must have comm, matrix(name, p) and contract(name, p, left, right), "
                f"got {type(problem).__name__} without {missing[0]}; add it"
            )
        if names not in {"KCM", "KM"}:
            raise InputError(f'names must be "KCM" or "KM", got {names!r}; choose one')
        parts = [NamedPart(problem, name) if name in names else None for name in ROLES]
        return cls(*parts, form=form, comm=problem.comm)

    @property
    def parameter_sizes(self) -> dict[str, int] | None:
        """Names of the parameters and their smallest lengths, None if a model does not say."""
        total: dict[str, int] = {}
        for part in self._all():
            sizes = getattr(part, "parameter_sizes", None)
            if sizes is None:
                return None
            for name, size in sizes.items():
                total[name] = max(total.get(name, 0), size)
        return total

    def assemble(self, p: Parameters, out: Pencil | None = None) -> QuadraticPencil:
        """Return the pencil at p, or refill ``out``; see `ElementModel.assemble`.

        Raises
        ------
        InputError
            Parameters of the wrong structure, a model with a B, matrices that do not fit.

        """
        self._check(p)
        with ExitStack() as stack:
            K, C, M = self._matrices(p, stack)
            if out is None:
                pencil = QuadraticPencil(K, C, M, form=self.form)
            else:
                raise_together(self.comm, _out_error(out, self.form))
                assert isinstance(out, QuadraticPencil)
                pencil = out
                pencil.refill(K, C, M)
        pencil.point = digest(p)
        self._remember(p, pencil.scaling)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the contraction of vectors of the pencil, made with K, C and M.

        Collective. Three contractions of vectors of half the size; see `Model.contract`.
        """
        self._check(p)
        total = zeros_like(p)
        for name, left, half in self._sides(p, (left_a, left_b), right):
            mine = parameters_of(self.parts[name], p)
            found = self.parts[name].contract(mine, left, np.zeros_like(left), half)
            self._add(total, mine, found, "contract")
        return total

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the derivative of `contract` along p_dot; see `ElementModel.contract_tangent`.

        Raises
        ------
        InputError
            When one of the models has no ``contract_tangent``.

        """
        self._check(p)
        for name, part in self.parts.items():
            if not hasattr(part, "contract_tangent"):
                raise InputError(
                    f"second derivatives need contract_tangent of all three models, got "
                    f"{type(part).__name__} without for the {ROLES[name]}; the README shows the "
                    "methods of a model"
                )
        total = zeros_like(p)
        for name, left, half in self._sides(p, (left_a, left_b), right):
            part = self.parts[name]
            mine, dots = parameters_of(part, p), parameters_of(part, p_dot)
            found = part.contract_tangent(mine, dots, left, np.zeros_like(left), half)
            self._add(total, mine, found, "contract_tangent")
        return total

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot, made with dK, dC and dM.

        Collective. See `ElementModel.tangent`.

        Raises
        ------
        InputError
            When one of the models has no ``tangent``, or none with Hermitian transposes.

        """
        self._check(p)
        self._need_tangent(hermitian=hermitian)
        k = right.shape[1]
        both = np.asfortranarray(np.hstack(halves(right)))
        dtype = np.result_type(right, PETSc.ScalarType)
        products = {side: np.zeros(right.shape, dtype=dtype, order="F") for side in "AB"}
        blocks = self._terms(p)
        for name, part in self.parts.items():
            mine = [term for term in blocks if term.name == name]
            used = sorted({term.row if hermitian else term.column for term in mine})
            columns = np.concatenate([np.arange(half * k, (half + 1) * k) for half in used])
            point = (parameters_of(part, p), parameters_of(part, p_dot))
            found, _ = checked_tangent(
                self.comm, part, point, both[:, columns], hermitian=hermitian
            )
            moved = dict(zip(used, np.split(found, len(used), axis=1), strict=True))
            for term in mine:
                source, target = (term.row, term.column) if hermitian else (term.column, term.row)
                halves(products[term.side])[target][...] += term.factor * moved[source]
        return products["A"], products["B"]

    def close(self) -> None:
        """Release what is held: nothing; the three models are the user's.  (Collective.)"""

    def _all(self) -> list[Any]:
        return list(self.parts.values())

    def _check(self, p: Parameters) -> None:
        sizes = self.parameter_sizes
        if sizes is not None:
            check_parameters(self.comm, p, sizes)

    def _matrices(self, p: Parameters, stack: ExitStack) -> list[PETSc.Mat | None]:
        """Return K, C and M at p; they live as long as the stack.  (Collective.)"""
        found: dict[str, PETSc.Mat] = {}
        for name, part in self.parts.items():
            pencil = stack.enter_context(part.assemble(parameters_of(part, p)))
            error = None
            if pencil.B is not None:
                error = InputError(
                    f"the {ROLES[name]} must be a model of one matrix, got "
                    f"{type(part).__name__} with a B; give {name} as A of a model of its own"
                )
            raise_together(self.comm, error)
            found[name] = pencil.A
        return [found.get(name) for name in ROLES]

    def _terms(self, p: Parameters) -> tuple[Term, ...]:
        return terms(self.form, self._scaling(p))

    def _scaling(self, p: Parameters) -> Scaling:
        """Return the scaling of the pencil at p, a function of p alone.  (Collective.)"""
        known = self._scalings.get(_key(p))
        # A distributed p may have changed on some ranks only.
        if allreduce_same(self.comm, np.array([float(known is None)]))[0] == 0:
            assert known is not None
            return known
        with ExitStack() as stack:
            mats = self._matrices(p, stack)
            given = {name: mat for name, mat in zip(ROLES, mats, strict=True) if mat is not None}
            scaling = scaling_of(*norms_of(self.comm, given))
        self._remember(p, scaling)
        return scaling

    def _remember(self, p: Parameters, scaling: Scaling) -> None:
        self._scalings.pop(_key(p), None)
        self._scalings[_key(p)] = scaling
        while len(self._scalings) > REMEMBERED:
            self._scalings.pop(next(iter(self._scalings)))

    def _sides(
        self, p: Parameters, lefts: tuple[Block, Block], right: Block
    ) -> list[tuple[str, Block, Block]]:
        """Return (name, left, right) of n_local rows that make up a contraction."""
        left = dict(zip("AB", lefts, strict=True))
        summed: dict[tuple[str, int], Block] = {}
        for term in self._terms(p):
            if term.name in self.parts:
                place = (term.name, term.column)
                part = term.factor * halves(left[term.side])[term.row]
                summed[place] = summed[place] + part if place in summed else part
        right_halves = halves(right)
        return [(name, part, right_halves[half]) for (name, half), part in summed.items()]

    def _add(self, total: Gradient, mine: Parameters, found: Any, what: str) -> None:
        raise_together(self.comm, structure_error(what, mine, found))
        add_scaled(total, 1.0, found)
        release(found)

    def _need_tangent(self, *, hermitian: bool) -> None:
        able = self.has_hermitian_tangent if hermitian else self.has_tangent
        if able:
            return
        wanted = "tangent(..., hermitian=True)" if hermitian else "tangent"
        raise InputError(
            f"this needs {wanted} of all three models, got "
            f"{', '.join(type(part).__name__ for part in self._all())}; the README shows the "
            "methods of a model"
        )


def _key(p: Parameters) -> tuple[Any, ...]:
    return tuple(sorted(digest(p).items()))


def _out_error(out: Any, form: str) -> InputError | None:
    if isinstance(out, QuadraticPencil) and out.form == form:
        return None
    got = f'form="{out.form}"' if isinstance(out, QuadraticPencil) else type(out).__name__
    return InputError(
        f'out must be a QuadraticPencil of this model, with form="{form}", got {got}; assemble '
        "without out"
    )
