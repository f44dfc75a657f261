"""`FormModel`: A(p) and B(p) as bilinear UFL forms, assembled and differentiated by dolfinx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adapters import _dolfinx_api as api
from geneig_adjoint.adapters import _dolfinx_forms as forms
from geneig_adjoint.adapters._dolfinx_fields import (
    Coefficient,
    condition_error,
    entries_error,
    finite_error,
    halves,
    names_error,
    own_entries,
    parameter_error,
    parameter_size,
)
from geneig_adjoint.assembly import equal_layout, matrix_of_entries
from geneig_adjoint.collective import CollectiveContext, check_equal_input, raise_together
from geneig_adjoint.entrance import takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import (
    Gradient,
    IdAccess,
    Parameters,
    check_parameters,
    digest,
    finish,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI


@takes_structures
class FormModel(CollectiveContext):
    """A(p) and B(p) from bilinear forms of dolfinx whose coefficients are the parameters.

    Collective. Rows with Dirichlet conditions are left out of the matrices: they bring no
    eigenvalues of their own. Derivatives are those of the scalars a(x, y; p) and
    b(x, y; p) with vectors for x and y, assembled as vectors. They are exact for the
    matrices, since every integral keeps the quadrature degree it has there.

    Parameters
    ----------
    a, b
        Bilinear UFL forms of one trial and one test function of the same space
        (sesquilinear in the complex build: ``ufl.inner(u, v)`` conjugates v); b None: the
        identity.
    parameters
        Name -> ``Function`` (of any space; one entry per degree of freedom, in dolfinx's
        global numbering, which depends on the number of ranks) or ``Constant`` (one entry per
        component). Real also in the complex build. They are never changed: the forms are
        rewritten with copies of them.
    bcs
        Homogeneous Dirichlet conditions on that space.

    Raises
    ------
    InputError
        Forms of other arguments than described, parameters that are complex, in no form, given
        twice, or neither Function nor Constant, boundary values other than zero, conditions on
        another space.

    """

    def __init__(
        self,
        a: Any,
        b: Any = None,
        *,
        parameters: Mapping[str, Any],
        bcs: Sequence[Any] = (),
    ) -> None:
        error = names_error(parameters, bcs) or forms.argument_error("a", a)
        if error is None and b is not None:
            error = forms.argument_error("b", b, a.arguments()[0].ufl_function_space())
        if error is not None:
            raise error  # the text of the forms, the same on every rank
        self.space: Any = a.arguments()[0].ufl_function_space()
        self.comm: MPI.Comm = self.space.mesh.comm
        check_equal_input(self.comm, "the names of parameters", sorted(parameters))
        self._given = dict(sorted(parameters.items()))
        error = parameter_error(self._given, (a, b)) or condition_error(self.space, bcs)
        raise_together(self.comm, error)
        self._free = self._free_rows(bcs)
        local = len(self._free)
        first = self.comm.scan(local) - local
        self.rows: tuple[int, int] = (first, first + local)
        self._coefficients = self._copies()
        self.parameter_sizes = {name: parameter_size(given) for name, given in self._given.items()}
        replaced = self._replaced()
        real = [coefficient.function for coefficient in self._coefficients]
        self._forms = [
            None if form is None else forms.prepared(form, replaced, real) for form in (a, b)
        ]
        self._x, self._y, self._z = (api.Function(self.space) for _ in range(3))
        self._compiled: dict[Any, Any] = {}

    def values(self, *, distributed: bool = False) -> Gradient:
        """Return parameters with the present values of the user's Functions and Constants.

        Collective.

        Parameters
        ----------
        distributed
            Functions as PETSc vectors in dolfinx's layout (the caller destroys them) in
            place of arrays that are the same on every rank.

        """
        found: Gradient = {}
        for name, given in self._given.items():
            if not isinstance(given, api.Function):
                found[name] = np.array(given.value.real, dtype=float).ravel()
                continue
            mine = api.owned(given).real
            if distributed:
                found[name] = PETSc.Vec().createMPI(
                    api.layout(given.function_space), comm=self.comm
                )
                found[name].array[:] = mine
            else:
                found[name] = np.concatenate(self.comm.allgather(mine))
        return found

    def field(self, name: str, p: Parameters) -> Any:
        """Return one parameter of p, or of a gradient, as a new Function.

        Collective.

        Raises
        ------
        InputError
            For an unknown name, a Constant, another number of entries.

        """
        given = self._given.get(name)
        if given is None:
            raise InputError(f"name must be one of {sorted(self._given)}, got {name!r}; correct it")
        if not isinstance(given, api.Function):
            raise InputError(
                f"parameter {name!r} must be a Function to be a field, got a Constant; its "
                "entries are the numbers themselves"
            )
        error = entries_error(f"parameter {name!r}", p[name], self.parameter_sizes[name])
        raise_together(self.comm, error)
        result = api.Function(given.function_space, name=name)
        access = IdAccess(own_entries(given.function_space))
        api.fill(result, access.gather(p[name]))
        return result

    def eigenfunction(self, column: Block) -> Any:
        """Return a vector of the pencil as a new Function, zero where it is constrained.

        Collective.

        Parameters
        ----------
        column
            This rank's rows, (n_local,), for instance ``pairs.right[:, 0]``.

        Raises
        ------
        InputError
            For complex vectors in the real build: pass ``column.real`` and ``column.imag``; for
            another number of rows.

        """
        raise_together(self.comm, entries_error("column", column, len(self._free)))
        if _petsc.REAL_SCALARS and np.iscomplexobj(column):
            raise _petsc.real_scalar_error("a Function")
        result = api.Function(self.space)
        self._load(result, column)
        return result

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p, or refill ``out``; see `ElementModel.assemble`.

        Collective.
        """
        self._move_to(p)
        if out is not None:
            out.begin_refill(self.rows, with_b=self._forms[1] is not None)
        mats: list[PETSc.Mat | None] = []
        try:
            with _petsc.log_stage("assemble"):
                for side, old in enumerate((out.A, out.B) if out else (None, None)):
                    form = self._form(("matrix", side), partial(_itself, self._forms[side]))
                    mats.append(None if form is None else self._free_part(form, old))
            pencil = Pencil(mats[0], mats[1], owned=True) if out is None else out
        except BaseException:
            if out is None:
                _petsc.destroy_quietly(*mats)
            raise
        if out is not None:
            out.verify()
        pencil.point = digest(p)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the derivatives of Re sum_j a(x_j, y_j; p) + b(x_j, z_j; p).

        Collective. One linear form per pair and parameter is assembled. See
        `Model.contract`.
        """
        self._move_to(p)

        def linear(coefficient: Coefficient) -> Any:
            return self._form(("gradient", coefficient), lambda: self._gradient(coefficient))

        return self._contracted(p, linear, (left_a, left_b, right))

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the derivative of `contract` along p_dot; see `ElementModel.contract_tangent`.

        Collective.
        """
        self._move_to(p, p_dot)

        def linear(coefficient: Coefficient) -> Any:
            return self._form(
                ("second", coefficient),
                lambda: forms.directional(self._gradient(coefficient), self._directions),
            )

        return self._contracted(p, linear, (left_a, left_b, right))

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot; see `ElementModel.tangent`.

        Collective. dA and dB are assembled, one after the other.
        """
        self._move_to(p, p_dot)
        products = []
        for side, form in enumerate(self._forms):
            derivative = self._form(
                ("tangent", side), partial(forms.directional, form, self._directions)
            )
            if derivative is None:
                dtype = np.result_type(right, PETSc.ScalarType)
                products.append(np.zeros(right.shape, dtype=dtype, order="F"))
                continue
            mat = self._free_part(derivative)
            products.append(_petsc.multiply(mat, right, hermitian=hermitian))
            mat.destroy()
        return products[0], products[1]

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns (dA/dp_i) x and (dB/dp_i) x.

        Collective. One pair of matrices is assembled per column. See
        `geneig_adjoint.derivative_products`.
        """
        size = self.parameter_sizes[name]
        chosen = np.arange(size) if indices is None else np.asarray(indices)
        found: list[list[tuple[Block, Block]]] = [[], []]
        for index in chosen:
            unit = {other: np.zeros(n) for other, n in self.parameter_sizes.items()}
            unit[name][int(index)] = 1.0
            for side, product in enumerate(self.tangent(p, unit, x)):
                kept = np.flatnonzero(product[:, 0])
                found[side].append((kept, product[kept, 0]))
        layout = equal_layout(self.comm, len(chosen))
        dA_x, dB_x = (matrix_of_entries(self.comm, self.rows, layout, side) for side in found)
        return dA_x, dB_x

    def close(self) -> None:
        """Release what the model holds: no PETSc objects.  (Collective.)"""

    @property
    def _directions(self) -> list[tuple[Any, Any]]:
        return [(one.function, one.direction) for one in self._coefficients]

    def _gradient(self, coefficient: Coefficient) -> Any:
        terms = [(self._forms[0], self._y), (self._forms[1], self._z)]
        return forms.gradient(forms.scalar(terms, self._x), coefficient.function)

    def _contracted(
        self,
        p: Parameters,
        linear: Callable[[Coefficient], Any],
        blocks: tuple[Block, Block, Block],
    ) -> Gradient:
        """Sum linear forms over the pairs, which they meet one after the other."""
        total = zeros_like(p)
        with _petsc.log_stage("contract"):
            used = [(one, form) for one in self._coefficients if (form := linear(one)) is not None]
            sums = [np.zeros(one.access.shape) for one, _ in used]
            for half in halves(blocks):
                for j in range(half[2].shape[1]):
                    for function, block in zip((self._y, self._z, self._x), half, strict=True):
                        self._load(function, block[:, j])
                    for i, (one, form) in enumerate(used):
                        sums[i] += one.collected(api.vector(form).real)
            raise_together(self.comm, finite_error(used, sums))
            for (one, _), part in zip(used, sums, strict=True):
                one.access.add(total[one.name], part)
            return finish(self.comm, total)

    def _form(self, key: Any, build: Callable[[], Any]) -> Any:
        """Return a compiled form, made when it is needed first; None: zero.  (Collective.)"""
        if key not in self._compiled:
            form = build()
            self._compiled[key] = None if form is None else api.compiled(form)
        return self._compiled[key]

    def _move_to(self, p: Parameters, p_dot: Parameters | None = None) -> None:
        for given in (p, *([] if p_dot is None else [p_dot])):
            check_parameters(self.comm, given, self.parameter_sizes, exact=True)
        for one in self._coefficients:
            api.fill(one.function, one.access.gather(p[one.name]))
            if p_dot is not None:
                api.fill(one.direction, one.access.gather(p_dot[one.name]))

    def _load(self, function: Any, column: Block) -> None:
        entries = np.zeros(api.layout(self.space)[0], dtype=PETSc.ScalarType)
        entries[self._free] = column
        api.fill(function, entries)

    def _free_part(self, form: Any, out: PETSc.Mat | None = None) -> PETSc.Mat:
        """Return the matrix of a form without constrained rows and columns."""
        whole = api.matrix(form)
        numbers = whole.getOwnershipRange()[0] + self._free
        rows = PETSc.IS().createGeneral(numbers.astype(PETSc.IntType), comm=self.comm)
        part = whole.createSubMatrix(rows, rows, out)
        _petsc.destroy(rows, whole)
        return part

    def _free_rows(self, bcs: Sequence[Any]) -> Block:
        """Return this rank's entries of vectors that no condition sets, numbered from 0."""
        if not bcs:
            return np.arange(api.layout(self.space)[0])
        once, twice = (api.boundary_values(self.space, bcs, start) for start in (1.0, 2.0))
        set_ = once == twice
        error = None
        if np.any(once[set_] != 0):
            value = once[set_][np.argmax(np.abs(once[set_]))]
            error = InputError(
                f"boundary values must be zero, got {value}; an eigenproblem is homogeneous"
            )
        raise_together(self.comm, error)
        return np.flatnonzero(~set_)

    def _copies(self) -> list[Coefficient]:
        """Return functions of our own for all parameters."""
        found = []
        cells = None
        for name, given in self._given.items():
            if isinstance(given, api.Function):
                space = given.function_space
                found.append(Coefficient(name, space, IdAccess(own_entries(space)), False))
                continue
            cells = api.cellwise_constants(self.space.mesh) if cells is None else cells
            found += [
                Coefficient(name, cells, IdAccess(np.array([i])), True)
                for i in range(parameter_size(given))
            ]
        return found

    def _replaced(self) -> dict[Any, Any]:
        """Return the user's objects -> expressions in our own functions."""
        result = {}
        for name, given in self._given.items():
            own = [one.function for one in self._coefficients if one.name == name]
            whole = isinstance(given, api.Function) or given.ufl_shape == ()
            result[given] = own[0] if whole else forms.tensor(own, given.ufl_shape)
        return result


def _itself(form: Any) -> Any:
    return form
