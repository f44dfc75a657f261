"""A clamped plate from forms of dolfinx: what every cell's density does to the first frequency.

python dolfinx_plate.py, or mpirun -n 2 python dolfinx_plate.py, with either build of PETSc.
The plate vibrates in its plane.  Known answers: the eigenvalue is proportional to E, so that
E dlam/dE = lam; and without the floor of the density law lam would be of degree 2 in the density.
"""

import numpy as np
import ufl
from dolfinx import fem, mesh
from mpi4py import MPI
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint.adapters.dolfinx import FormModel

comm = MPI.COMM_WORLD
with ga.abort_on_failure():
    domain = mesh.create_rectangle(comm, [np.zeros(2), np.array([0.4, 0.1])], [32, 8])
    V = fem.VectorFunctionSpace(domain, ("CG", 1))  # current dolfinx: functionspace(..., (2,))
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)

    density = fem.Function(fem.FunctionSpace(domain, ("DG", 0)))  # one number per cell
    density.interpolate(lambda x: 0.5 + x[0].astype(PETSc.ScalarType))
    young = fem.Constant(domain, PETSc.ScalarType(70e9))  # Pa
    nu, rho = 0.3, 2700.0  # kg/m^3

    def strain(w):
        return ufl.sym(ufl.grad(w))

    stress = young / (1 - nu**2) * ((1 - nu) * strain(u) + nu * ufl.div(u) * ufl.Identity(2))
    a = (1e-6 + density**3) * ufl.inner(stress, strain(v)) * ufl.dx
    b = rho * density * ufl.inner(u, v) * ufl.dx

    facets = mesh.locate_entities_boundary(domain, 1, lambda x: np.isclose(x[0], 0.0))
    fixed = fem.locate_dofs_topological(V, 1, facets)
    clamp = fem.dirichletbc(np.zeros(2, dtype=PETSc.ScalarType), fixed, V)

    model = FormModel(a, b, parameters={"density": density, "E": young}, bcs=[clamp])
    p = model.values()  # names -> arrays, from the Function and the Constant
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count=3, target=0.0) as pairs:
        values = pairs.values.real
        gradient = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        field = model.field("density", gradient)  # a Function again: write it, plot it
        mode = model.eigenfunction(np.real(pairs.right[:, 0]))
    of_stiffness = p["E"][0] * gradient["E"][0]
    degree = float(gradient["density"] @ p["density"]) / values[0]
    if comm.rank == 0:
        print("frequencies, Hz", (np.sqrt(values) / (2 * np.pi)).round(2))
        print(f"E dlam/dE / lam = {of_stiffness / values[0]:.12f}, degree in rho {degree:.6f}")
