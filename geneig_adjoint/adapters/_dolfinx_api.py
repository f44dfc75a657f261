"""What is asked of dolfinx, in one place: names that differ between its releases are chosen here.

Run with dolfinx 0.5.2 (Debian 12); written after the reference of the releases up to 0.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.errors import MissingPackageError

try:
    import ufl
    from dolfinx import fem, jit
    from dolfinx.fem import petsc as fem_petsc
except ModuleNotFoundError as error:
    raise MissingPackageError(
        f"geneig_adjoint.adapters.dolfinx needs {error.name}, which cannot be found; on Debian: "
        "bash docker/setup-debian.sh --with-dolfinx, or apt install python3-dolfinx "
        "python3-dolfinx-real python3-dolfinx-complex (of the PETSc build in use)",
        name=error.name,
    ) from error

COMPILE_SECONDS = 60
"""How long to wait for a form that another process compiles; ends too if that one was killed."""

Function = fem.Function
Constant = fem.Constant


def cellwise_constants(mesh: Any) -> Any:
    """Return the space of functions that are constant on every cell.  (Collective.)"""
    # A function since 0.7; before, the class of the spaces was called.
    create = getattr(fem, "functionspace", fem.FunctionSpace)
    return create(mesh, ("DG", 0), **_patience())


def compiled(form: ufl.Form) -> Any:
    """Compile a UFL form for PETSc's scalars.  (Collective.)"""
    return fem.form(form, dtype=PETSc.ScalarType, **_patience())


def _patience() -> dict[str, dict[str, Any]]:
    """Return the option that lets a form wait for another process that is compiling it.

    dolfinx waits for 10 s, which several programs on a busy machine exceed.
    """
    # Options were called parameters before 0.6.
    name = "jit_options" if hasattr(jit, "get_options") else "jit_params"
    present = jit.get_options() if hasattr(jit, "get_options") else jit.get_parameters()
    return {name: {"timeout": max(COMPILE_SECONDS, present["timeout"])}}


def matrix(form: Any) -> PETSc.Mat:
    """Return the matrix of a compiled bilinear form, all rows; the caller destroys it.

    Collective.
    """
    mat = fem_petsc.assemble_matrix(form)
    mat.assemble()
    return mat


def vector(form: Any) -> Block:
    """Return this rank's entries of a compiled linear form, summed over the ranks.

    Collective.
    """
    vec = fem_petsc.assemble_vector(form)
    vec.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    entries = vec.array_r.copy()
    vec.destroy()
    return np.asarray(entries)


def layout(space: Any) -> tuple[int, int]:
    """Return the numbers of entries a rank owns, and of all ranks together.  (Not collective.)"""
    index_map, size = space.dofmap.index_map, space.dofmap.index_map_bs
    return index_map.size_local * size, index_map.size_global * size


def conditions_fit(space: Any, condition: Any) -> bool:
    """Tell whether a Dirichlet condition is one on a space or a part of it.  (Not collective.)"""
    other = condition.function_space
    return bool(space._cpp_object.contains(getattr(other, "_cpp_object", other)))


def boundary_values(space: Any, bcs: Sequence[Any], start: float) -> Block:
    """Return the owned part of a vector of equal entries after boundary values were set in it.

    Collective.
    """
    vec = PETSc.Vec().createMPI(layout(space), comm=space.mesh.comm)
    vec.set(start)
    fem_petsc.set_bc(vec, list(bcs))
    entries = vec.array_r.copy()
    vec.destroy()
    return np.asarray(entries)


def fill(function: Any, owned: Block | float) -> None:
    """Set the entries of a function from those of this rank, or one number.  (Collective.)"""
    function.x.array[: layout(function.function_space)[0]] = owned
    function.x.scatter_forward()


def owned(function: Any) -> Block:
    """Return a copy of this rank's entries of a function.  (Not collective.)"""
    return np.array(function.x.array[: layout(function.function_space)[0]])
