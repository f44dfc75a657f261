"""Bilinear forms of dolfinx with parameters of every kind, and meshes small enough for tests."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ufl
from builders import REAL
from dolfinx import fem, mesh
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint.adapters.dolfinx import FormModel

SIDES = (1.0, 0.8)


def scalar(value):
    return np.asarray(value, dtype=PETSc.ScalarType)


def rectangle(comm, cells=(6, 5), sides=SIDES):
    corners = [np.zeros(2), np.array(sides)]
    return mesh.create_rectangle(comm, corners, list(cells))


def space(domain, family="CG", degree=1):
    return fem.FunctionSpace(domain, (family, degree))


def vector_space(domain):
    return fem.VectorFunctionSpace(domain, ("CG", 1))


def clamped(V, where, value=0.0):
    """Return the condition on all components at the points a function of x names."""
    facets = mesh.locate_entities_boundary(V.mesh, V.mesh.topology.dim - 1, where)
    dofs = fem.locate_dofs_topological(V, V.mesh.topology.dim - 1, facets)
    return fem.dirichletbc(scalar(np.full(V.num_sub_spaces or (), value)), dofs, V)


def left(x):
    return np.isclose(x[0], 0.0)


def everywhere(x):
    return np.full(x.shape[1], True)


def interpolated(V, function):
    """Return a Function of given values at points; two rows for a field of two components."""
    made = fem.Function(V)
    made.interpolate(lambda x: scalar(function(x)))
    return made


def density_like(x):
    return 1 + 0.3 * np.sin(3 * x[0]) + 0.2 * x[1]


@dataclass
class Forms:
    """Forms, and what they depend on."""

    a: Any
    b: Any
    parameters: dict[str, Any]
    bcs: list[Any] = field(default_factory=list)

    def model(self):
        return FormModel(self.a, self.b, parameters=self.parameters, bcs=self.bcs)


def advection(comm):
    """Advection, diffusion and reaction: no symmetry, roots and powers, every kind of parameter.

    In the complex build with absorption, and with a conjugated parameter.
    """
    domain = rectangle(comm)
    V, Q = space(domain), space(domain, "DG", 0)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    cell = interpolated(Q, density_like)
    node = interpolated(V, lambda x: 1 + 0.3 * np.cos(2 * x[0]) + 0.2 * x[1] ** 2)
    scale = fem.Constant(domain, scalar(2.0))
    wind = fem.Constant(domain, scalar([4.0, 3.0]))
    a = cell**3 * scale * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
    a += ufl.inner(ufl.dot(wind, ufl.grad(u)), v) * ufl.dx
    a += ufl.inner(u / node, node**2.5 * v) * ufl.dx
    a += node * ufl.inner(u, v) * ufl.ds
    near = ufl.conditional(ufl.lt(ufl.real(scale), 100.0), ufl.exp(ufl.variable(node)) / 5, node)
    near *= ufl.real(node)
    a += (1.0 if REAL else 0.3j) * ufl.inner(node * u, near * v) * ufl.dx
    b = cell * node**0.5 * ufl.inner(u, v) * ufl.dx
    parameters = {"cell": cell, "node": node, "scale": scale, "wind": wind}
    return Forms(a, b, parameters, [clamped(V, left)])


def elasticity(comm):
    """A clamped plate with a SIMP density per cell and a Poisson-like number."""
    domain = rectangle(comm, (8, 4), (2.0, 1.0))
    V, Q = vector_space(domain), space(domain, "DG", 0)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    density = interpolated(Q, lambda x: 0.6 + 0.3 * np.sin(2 * x[0]) * np.cos(3 * x[1]))
    shear = fem.Constant(domain, scalar(0.4))
    strain, volume = ufl.sym(ufl.grad(u)), ufl.inner(ufl.div(u), ufl.div(v))
    a = (
        (1e-3 + density**3)
        * (2 * shear * ufl.inner(strain, ufl.sym(ufl.grad(v))) + 0.6 * volume)
        * ufl.dx
    )
    b = density * ufl.inner(u, v) * ufl.dx
    return Forms(a, b, {"density": density, "shear": shear}, [clamped(V, left)])


def moved_rectangle(comm, cells=(8, 8)):
    """A membrane whose nodes are moved by a field: forms on the fixed mesh."""
    domain = rectangle(comm, cells, (1.0, 1.0))
    V = space(domain)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    shift = fem.Function(vector_space(domain))
    F = ufl.Identity(2) + ufl.grad(shift)
    back, size = ufl.inv(F).T, ufl.det(F)
    a = size * ufl.inner(back * ufl.grad(u), back * ufl.grad(v)) * ufl.dx
    return Forms(a, size * ufl.inner(u, v) * ufl.dx, {"shift": shift}, [clamped(V, everywhere)])


def gradient_of(model, p, objective, **solver):
    """Return the pairs' values and the gradient, or one per objective of a list."""
    settings = {"count": 2, "target": 0.0, "solver_parameters": {"eps_tol": 1e-13}} | solver
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **settings) as pairs:
        return pairs.values, ga.gradient(model, p, pairs, objective, rtol=1e-12)


def direction(p):
    """Return a direction without any symmetry."""
    return {
        name: np.cos(1.0 + i + 0.7 * np.arange(value.size))
        for i, (name, value) in enumerate(p.items())
    }
