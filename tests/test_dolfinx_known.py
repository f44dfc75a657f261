"""`FormModel` against closed forms and an element model; the page of the documentation."""

import numpy as np
import pytest
import ufl
from builders import dense
from dolfinx import fem
from forms_of_tests import (
    Forms,
    clamped,
    direction,
    elasticity,
    everywhere,
    gradient_of,
    interpolated,
    moved_rectangle,
    rectangle,
    scalar,
    space,
)
from pages import promised, run_page

import geneig_adjoint as ga
from geneig_adjoint.adapters.dolfinx import FormModel

EIGENVALUE = ga.objectives.Eigenvalue(0)


def test_square_membrane(comm):
    """-div(k grad u) = lam rho u on the unit square: lam = k pi^2 (m^2 + n^2) / rho."""
    domain = rectangle(comm, (12, 12), (1.0, 1.0))
    V = space(domain, degree=2)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    k, rho = fem.Constant(domain, scalar(1.7)), fem.Constant(domain, scalar(0.6))
    model = FormModel(
        k * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx,
        rho * ufl.inner(u, v) * ufl.dx,
        parameters={"k": k, "rho": rho},
        bcs=[clamped(V, everywhere)],
    )
    values, found = gradient_of(model, model.values(), EIGENVALUE)
    exact = np.pi**2 * 2
    # P2, h = 1/12: the error of the eigenvalue is of the order (pi h)^4 / 100
    assert values[0].real == pytest.approx(exact * 1.7 / 0.6, rel=2e-4)
    assert found["k"][0] == pytest.approx(exact / 0.6, rel=2e-4)
    assert found["rho"][0] == pytest.approx(-exact * 1.7 / 0.36, rel=2e-4)
    # the discrete eigenvalue is exactly proportional to k / rho
    assert found["k"][0] == pytest.approx(values[0].real / 1.7, rel=1e-10)


def test_side_of_a_membrane(comm):
    """Moving the nodes by (t x, 0): lam = pi^2 (1 / (1 + t)^2 + 1), dlam/dt = -2 pi^2 at t = 0."""
    model = moved_rectangle(comm, (24, 24)).model()
    p = model.values()
    stretch = model.field("shift", p)
    stretch.interpolate(lambda x: scalar([x[0], 0 * x[0]]))
    values, found = gradient_of(model, p, EIGENVALUE)
    # P1, h = 1/24: (pi h)^2 / 6, and less for what differences of it leave
    assert values[0].real == pytest.approx(2 * np.pi**2, rel=1e-2)
    slope = found["shift"] @ stretch.x.array.real
    assert slope == pytest.approx(-2 * np.pi**2, rel=1e-2)


def test_element_model_of_the_same_mesh(comm):
    """P1 triangles by hand: the same eigenvalues and the same gradient of a density per cell."""
    domain = rectangle(comm, (7, 6))
    V, Q = space(domain), space(domain, "DG", 0)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    rho = interpolated(Q, lambda x: 0.5 + 0.4 * x[0] * x[1])
    forms = Forms(
        (1e-3 + rho**3) * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx,
        rho * ufl.inner(u, v) * ufl.dx,
        {"density": rho},
        [clamped(V, everywhere)],
    )
    model = forms.model()
    p = model.values()
    cells = len(p["density"])
    nodes = np.array([V.dofmap.cell_dofs(cell) for cell in range(cells)])
    ids = np.array([Q.dofmap.cell_dofs(cell)[0] for cell in range(cells)])
    points = V.tabulate_dof_coordinates()[nodes][:, :, :2]
    edges = np.stack([points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]], axis=1)
    area = np.abs(np.linalg.det(edges)) / 2
    slopes = np.linalg.inv(edges) @ np.array([[-1.0, 1, 0], [-1, 0, 1]])
    stiffness = area[:, None, None] * slopes.transpose(0, 2, 1) @ slopes
    mass = area[:, None, None] * (np.ones((3, 3)) + np.eye(3)) / 12
    fixed = np.isin(np.arange(nodes.max() + 1), forms.bcs[0].dof_indices()[0])
    numbers = np.where(fixed, -1, np.cumsum(~fixed) - 1)[nodes]
    table = {"density": ids}
    by_hand = ga.ElementModel(
        n=int(np.count_nonzero(~fixed)),
        blocks=[
            ga.ElementBlock(
                "A", numbers, ga.ScaledKernel(stiffness, ga.PowerLaw(3.0, 1e-3)), table
            ),
            ga.ElementBlock("B", numbers, ga.ScaledKernel(mass), table),
        ],
        comm=comm,
    )
    weight = 1.0 + np.arange(model.rows[1])
    for objective in (EIGENVALUE, ga.objectives.QuadraticForm(weight, (0,))):
        values, found = gradient_of(model, p, objective)
        expected_values, expected = gradient_of(by_hand, p, objective)
        np.testing.assert_allclose(values, expected_values, rtol=1e-11)
        size = np.abs(expected["density"]).max()
        np.testing.assert_allclose(found["density"], expected["density"], atol=1e-10 * size)


def test_quadrature_is_the_same_in_the_derivative(comm):
    # sqrt(node) is no polynomial: with the degrees UFL guesses for the derivative of the
    # form, the gradient would differ from the derivative of the matrix by 1e-4.
    domain = rectangle(comm, (3, 3))
    V = space(domain)
    node = interpolated(V, lambda x: 0.1 + 3 * x[0] ** 2)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    a = node**0.5 * ufl.inner(u, v) * ufl.dx
    b = ufl.inner(u, v) * ufl.dx(degree=1) + ufl.inner(u, v) * ufl.ds
    model = FormModel(a, b, parameters={"node": node})
    p = model.values()
    dot, right = direction(p), np.ones((model.rows[1], 1))
    step = 1e-4

    def total(t):
        with model.assemble({"node": p["node"] + t * dot["node"]}) as pencil:
            return (right.T @ pencil.multiply_a(right))[0, 0].real

    slope = (8 * (total(step) - total(-step)) - total(2 * step) + total(-2 * step)) / (12 * step)
    found = model.contract(p, right, 0 * right, right)["node"] @ dot["node"]
    assert found == pytest.approx(slope, rel=1e-10)


def test_vectors_as_functions(comm):
    model = elasticity(comm).model()
    column = np.arange(1.0, model.rows[1] + 1)
    function = model.eigenfunction(column)
    entries = function.x.array
    assert np.count_nonzero(entries) == model.rows[1]
    np.testing.assert_array_equal(entries[entries != 0], column)
    density = model.field("density", {"density": np.arange(64.0), "shear": np.ones(1)})
    np.testing.assert_array_equal(density.x.array, np.arange(64.0))
    assert density.name == "density"


def test_standard_problem_without_conditions(comm):
    domain = rectangle(comm, (2, 2))
    V = space(domain)
    c = fem.Constant(domain, scalar(2.0))
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    model = FormModel(c * ufl.inner(u, v) * ufl.dx, parameters={"c": c})
    values, found = gradient_of(model, {"c": np.array([2.0])}, EIGENVALUE, target=1.0)
    assert model.rows == (0, 9)
    assert found["c"][0] == pytest.approx(values[0].real / 2, rel=1e-12)


def test_tensor_constant(comm):
    domain = rectangle(comm, (3, 3))
    V = space(domain)
    D = fem.Constant(domain, scalar([[2.0, 0.3], [0.1, 1.0]]))
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    a = ufl.inner(D * ufl.grad(u), ufl.grad(v)) * ufl.dx
    model = FormModel(
        a, ufl.inner(u, v) * ufl.dx, parameters={"D": D}, bcs=[clamped(V, everywhere)]
    )
    values, found = gradient_of(model, model.values(), EIGENVALUE, count=1)
    # lam is linear in D: Euler
    assert found["D"] @ [2.0, 0.3, 0.1, 1.0] == pytest.approx(values[0].real, rel=1e-10)
    # of equal shares, since the quadratic form of a real mode sees the symmetric part only
    assert found["D"][1] == pytest.approx(found["D"][2], rel=1e-6)


def test_page_runs(capsys):
    defined = run_page("matrices_from_dolfinx.md")
    assert promised("matrices_from_dolfinx.md") == [capsys.readouterr().out]
    # P1 on 12 x 12 cells: too stiff by (pi h)^2 / 6
    assert defined["lam"] == pytest.approx(4 * np.pi**2, rel=0.02)
    assert np.abs(defined["nodes"].x.array).max() > 0.1


def test_constants_need_no_side_on_interior_facets(comm):
    """A penalty between the cells: the derivative in it is the energy of the jumps."""
    domain = rectangle(comm, (3, 3))
    V = space(domain, "DG", 1)
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    penalty = fem.Constant(domain, scalar(7.0))
    jumps = ufl.inner(ufl.jump(u), ufl.jump(v))
    a = ufl.inner(u, v) * ufl.dx + penalty**2 * jumps * ufl.dS + penalty("-") * jumps * ufl.dS
    model = FormModel(a, parameters={"penalty": penalty})
    whole = fem.petsc.assemble_matrix(fem.form(jumps * ufl.dS))
    whole.assemble()
    x = np.linspace(1.0, 2.0, model.rows[1])[:, None] ** 3
    found = model.contract({"penalty": np.array([7.0])}, x, 0 * x, x)["penalty"]
    expected = (2 * 7.0 + 1) * (x.T @ dense(whole) @ x).real
    assert found[0] == pytest.approx(expected[0, 0], rel=1e-12)
