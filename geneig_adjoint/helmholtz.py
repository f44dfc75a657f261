"""`HelmholtzFilter`: a field of elements smoothed by the solution of a differential equation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.cell_matrices import Layout, assembled, integrated, numbered
from geneig_adjoint.cells import cell_error
from geneig_adjoint.collective import CollectiveContext, check_equal_input, guard, raise_together
from geneig_adjoint.errors import ConvergenceError, InputError
from geneig_adjoint.ghosts import Ghosts
from geneig_adjoint.maps import Named, like
from geneig_adjoint.parameters import is_distributed, length, local_values

if TYPE_CHECKING:
    from mpi4py import MPI

PREFIX = "ga_filter_"
OPTIONS = {
    "ksp_type": "cg",
    "ksp_rtol": 1e-13,
    "ksp_max_it": 1000,
    # Of the residual itself: what is checked in the end.
    "ksp_norm_type": "unpreconditioned",
    "pc_type": "gamg",
}
RTOL = 1e-11
"""Bound on the true residual, relative to the right-hand side."""
ROUNDING = 1e-14
"""What is allowed beside, relative to the largest row of the matrix times the solution."""
LOST = 1e-6
"""What rounding of the matrix may do to a constant field."""


class HelmholtzFilter(Named, CollectiveContext):
    r"""Smooth a field of elements by the solution of a differential equation on the mesh.

    Collective. Of p, constant in every element, q holds the means over the elements of the
    solution u of

    .. math::

        -r^2 \Delta u + u = p, \qquad \partial u / \partial n = 0, \qquad
        r = R / (2 \sqrt{3}),

    by linear shape functions: q = D^-1 T^T (r^2 K + M)^-1 T p with T the integrals of the shape
    functions over the elements and D the elements' sizes. A constant field stays what it is, and
    so does the integral of any field. Unlike `DensityFilter` it needs no neighbours, so its cost
    does not depend on the radius, and it does not look through holes of the mesh.

    The matrix is distributed and symmetric: one KSP serves values and derivatives. It is CG with
    algebraic multigrid; PETSc's options with the prefix ``ga_filter_`` change that. True
    residuals are checked.

    Parameters
    ----------
    parameter
        Name of the parameter, with one entry per element.
    cells
        Node numbers of the elements, (m, nodes), counted from 0, with gaps or without: all of
        them, or with ``comm`` this rank's share, in the order in which the ranks' entries follow
        each other in the parameter. Lines, triangles, quadrilaterals, tetrahedra or hexahedra,
        of one kind; a rank without elements passes shape (0, nodes).
    coordinates
        Of the nodes of every cell, (m, nodes, dim): ``points[cells]``. Lines and triangles may
        be curves and surfaces in space. Either orientation will do.
    radius
        R, positive, in the unit of the coordinates: comparable to that of `DensityFilter`.
    output, keep, comm
        As in `LinearMap`.

    Attributes
    ----------
    sizes : ndarray
        Lengths, areas or volumes of this rank's elements, (m,).
    iterations : int
        Of the last solve.

    Raises
    ------
    InputError
        Cells, coordinates or a radius that make no sense; cells without extent or turned inside
        out, by their number.
    ConvergenceError
        On use: when the true residual is too large.

    References
    ----------
    .. [1] B. S. Lazarov, O. Sigmund, "Filters in topology optimization based on Helmholtz-type
       differential equations", Int. J. Numer. Methods Eng. 86, 765-781, 2011.

    """

    def __init__(
        self,
        parameter: str,
        cells: Block,
        coordinates: Block,
        radius: float,
        *,
        output: str | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        self._means = _Means(cells, coordinates, radius, comm)
        self.comm = self._means.comm
        super().__init__(parameter, self._means, output=output, keep=keep)

    @property
    def sizes(self) -> Block:
        """Lengths, areas or volumes of this rank's elements, (m,)."""
        return self._means.sizes

    @property
    def iterations(self) -> int:
        """Iterations of the last solve."""
        return self._means.iterations

    def close(self) -> None:
        """Destroy matrix and solver; the map cannot be used afterwards.  (Collective.)"""
        self._means.close()


class _Means:
    """The function of `HelmholtzFilter`: a `ValueMap`.

    With ``whole``, every rank holds all cells and solves by itself.
    """

    def __init__(
        self, cells: Block, coordinates: Block, radius: float, comm: MPI.Comm | None
    ) -> None:
        self.whole = comm is None
        self.comm: MPI.Comm = PETSc.COMM_SELF.tompi4py() if comm is None else comm
        error = None
        with guard(self.comm):  # what is no array at all fails everywhere, too
            cells, coordinates = np.asarray(cells), np.asarray(coordinates)
            error = _radius_error(radius) or cell_error(cells, coordinates)
        raise_together(self.comm, error)
        kind = (*coordinates.shape[1:], float(radius))
        check_equal_input(self.comm, "(nodes per cell, dimension, radius)", kind)
        counts = self.comm.allgather(len(cells))
        raise_together(self.comm, _count_error(sum(counts)))
        self.ranges = np.cumsum([0, *counts])
        self.iterations = 0
        self._ghosts: dict[tuple[int, ...], Ghosts] = {}
        nodes, places = np.unique(cells, return_inverse=True)
        numbers, layout = numbered(self.comm, nodes.astype(np.int64))
        self._nodes = Ghosts(layout, numbers)
        self._rows = layout.rows[1] - layout.rows[0]
        loads, local = integrated(places.reshape(cells.shape), coordinates, radius, nodes.size)
        self.sizes = np.asarray(loads.sum(axis=0)).ravel()
        # Unknowns are u times the root of the nodes' sizes: the matrix has no unit, residuals
        # count in small cells, too, and that root is an eigenvector, of the eigenvalue 1.
        roots = np.zeros((self._rows, 1))
        self._nodes.add(loads.sum(axis=1)[:, None], roots)
        roots = np.sqrt(roots)
        scale = scipy.sparse.diags(1 / self._nodes.gather(roots)[:, 0])
        self._loads = scipy.sparse.csr_matrix(scale @ loads)
        self._mat = assembled(layout, numbers, scale @ local @ scale)
        self._norm = self._mat.norm(PETSc.NormType.INFINITY)
        self._ksp: PETSc.KSP | None = self._solver(roots[:, 0])

    def __call__(self, value: Any) -> Any:
        """Return the means of the smoothed field: in the kind of the value.  (Collective.)"""
        self._check("value", value)
        entries = self._filtered(self._own(value)) / self.sizes
        if is_distributed(value) and not self.whole:
            vec = PETSc.Vec().createMPI((entries.size, self.ranges[-1]), comm=value.comm)
            vec.array[:] = entries
            return vec
        return self._spread(value, entries)

    def jvp(self, value: Any, dot: Any) -> Any:
        """Return the means of the smoothed direction."""
        del value
        return self(dot)

    def vjp(self, value: Any, bar: Any) -> Any:
        """Return the transposed map of a cotangent, in the layout of the value.  (Collective.)"""
        self._check("value", value)
        self._check("cotangent", bar)
        # A cotangent has the layout of the cells, or with `whole` that of the value.
        entries = self._filtered(self._own(bar) / self.sizes)
        if not is_distributed(value) or self.whole:
            return self._spread(value, entries)
        found = np.zeros((value.getLocalSize(), 1))
        self._access(value).add(entries[:, None], found)
        return like(value, found[:, 0])

    def vjp_tangent(self, value: Any, dot: Any, bar: Any) -> Any:
        """Return zeros: the map is linear.  (Collective.)"""
        del dot, bar
        return like(value, np.zeros(np.shape(local_values(value))))

    def close(self) -> None:
        """Destroy matrix and solver.  (Collective.)"""
        if self._ksp is not None:
            _petsc.destroy(self._ksp, self._mat)
        self._ksp = None

    def _solver(self, roots: Block) -> PETSc.KSP:
        """Return the solver, set up, or raise if rounding has spoilt the matrix.  (Collective.)"""
        constant = _petsc.vec_from(self._mat, roots)
        product = self._mat * constant
        lost = np.abs(product.array_r.real / roots - 1).max(initial=0.0)
        constant.normalize()
        near = PETSc.NullSpace().create(vectors=[constant], comm=self._mat.comm)
        self._mat.setNearNullSpace(near)  # what multigrid keeps on coarse levels
        _petsc.destroy(near, product, constant)
        lost = max(self.comm.allgather(float(lost)))
        if lost > LOST:
            self._mat.destroy()
            raise _lost_error(lost)
        ksp = PETSc.KSP().create(self.comm)
        ksp.setOperators(self._mat)
        ksp.setOptionsPrefix(PREFIX)
        options = dict(OPTIONS)
        if _petsc.has_option(PREFIX + "ksp_type"):
            del options["ksp_norm_type"]  # not every solver knows this norm
        with _petsc.inserted_options(PREFIX, options):
            ksp.setFromOptions()
            ksp.setUp()
        return ksp

    def _own(self, value: Any) -> Block:
        """Return the entries of this rank's cells.  (Collective for a PETSc.Vec.)"""
        entries = np.asarray(local_values(value), dtype=float)
        if self.whole:
            if not is_distributed(value):
                return entries
            return np.concatenate(value.comm.tompi4py().allgather(entries))
        if is_distributed(value):
            return self._access(value).gather(entries[:, None])[:, 0]
        return entries[slice(*self.ranges[self.comm.rank : self.comm.rank + 2])]

    def _spread(self, value: Any, entries: Block) -> Any:
        """Return entries of this rank's cells as a whole, or as a vector like the value."""
        if not self.whole:
            return np.concatenate(self.comm.allgather(entries))
        if is_distributed(value):
            return like(value, entries[slice(*value.getOwnershipRange())])
        return entries

    def _access(self, value: PETSc.Vec) -> Ghosts:
        """Return what fetches the entries of this rank's cells, made once per layout."""
        key = tuple(int(first) for first in value.getOwnershipRanges())
        if key not in self._ghosts:
            mine = np.arange(*self.ranges[self.comm.rank : self.comm.rank + 2])
            layout = Layout(self.comm, value.getOwnershipRange())
            self._ghosts[key] = Ghosts(layout, mine)
        return self._ghosts[key]

    def _filtered(self, entries: Block) -> Block:
        """Return T^T (r^2 K + M)^-1 T entries of this rank's cells.  (Collective.)"""
        loads = np.zeros((self._rows, 1))
        self._nodes.add((self._loads @ entries)[:, None], loads)
        field = self._solved(loads[:, 0])
        return np.asarray(self._loads.T @ self._nodes.gather(field[:, None])[:, 0])

    def _solved(self, loads: Block) -> Block:
        """Return the nodal field of nodal loads, both of this rank's rows.  (Collective.)"""
        from mpi4py import MPI

        largest = np.abs(loads).max(initial=0.0)
        scale = self.comm.allreduce(largest if np.isfinite(largest) else np.inf, op=MPI.MAX)
        raise_together(self.comm, _finite_error(scale))
        if scale == 0:
            return loads
        rhs = _petsc.vec_from(self._mat, loads / scale)
        target = self._mat.createVecRight()
        try:
            self._run(rhs, target)
            return np.asarray(target.array_r.real * scale)
        finally:
            _petsc.destroy(rhs, target)

    def _run(self, rhs: PETSc.Vec, target: PETSc.Vec) -> None:
        """Solve and look at the residual.  (Collective.)"""
        ksp = self._ksp
        assert ksp is not None
        ksp.solve(rhs, target)
        self.iterations = ksp.getIterationNumber()
        reason = _petsc.reason_name(PETSc.KSP.ConvergedReason, ksp.getConvergedReason())
        size = rhs.norm()
        allowed = RTOL * size + min(ROUNDING * self._norm * target.norm(), LOST * size)
        rhs.scale(-1.0)
        self._mat.multAdd(target, rhs, rhs)
        residual = rhs.norm()
        if ksp.getConvergedReason() > 0 and residual <= allowed:
            return
        raise ConvergenceError(
            f"the solve of a HelmholtzFilter must reach a relative residual of {RTOL:.0e}, got "
            f"{residual / size:.1e} ({reason}, {self.iterations} iterations); drop options that "
            f"start with -{PREFIX}, raise -{PREFIX}ksp_max_it, try -{PREFIX}pc_type jacobi or a "
            f"factorisation (-{PREFIX}pc_type lu -{PREFIX}pc_factor_mat_solver_type mumps), or "
            "mend very flat cells",
            reason=reason,
            iterations=self.iterations,
            residual_norm=float(residual / size),
        )

    def _check(self, what: str, value: Any) -> None:
        error = None
        got = length(value if is_distributed(value) else np.asarray(value))
        if self._ksp is None:
            error = InputError("a HelmholtzFilter must be open, got a closed one; make a new one")
        elif got != self.ranges[-1]:
            error = InputError(
                f"a HelmholtzFilter needs a {what} with {self.ranges[-1]} entries, one per cell, "
                f"got {got}; with comm= the cells are this rank's share, without it all of them"
            )
        elif is_distributed(value) and not self.whole and value.comm.size != self.comm.size:
            error = InputError(
                f"a PETSc.Vec must live on the ranks that share the cells, got {value.comm.size} "
                f"ranks in place of {self.comm.size}; use one communicator"
            )
        comm = value.comm.tompi4py() if is_distributed(value) else self.comm
        raise_together(comm, error)


def _radius_error(radius: float) -> InputError | None:
    if 0 < radius < np.inf:
        return None
    return InputError(f"radius must be positive and finite, got {radius}; take some element widths")


def _lost_error(lost: float) -> InputError:
    return InputError(
        f"a constant field must stay constant up to {LOST:.0e}, got an error of {lost:.1e} by "
        "rounding: the radius is far larger than the thinnest cells; make it smaller or mend the "
        "mesh"
    )


def _count_error(count: int) -> InputError | None:
    if count:
        return None
    return InputError("a HelmholtzFilter needs cells, got none on any rank; pass the mesh")


def _finite_error(scale: float) -> InputError | None:
    if np.isfinite(scale):
        return None
    return InputError(
        "values and cotangents of a HelmholtzFilter must be finite, got NaN or Inf; check where "
        "they are computed"
    )
