"""Matrix-free A and B with a target: iterative solves preconditioned by a user's matrix."""

import numpy as np
import pytest
from builders import mass, matrix, stiffness
from distributed_operators import POINT, N, arrays
from matrix_free import (
    NAMES,
    TARGET,
    around,
    band,
    dense_around,
    flat,
    mass_near,
    matrix_free,
    near,
    rows_of,
)
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

WEIGHTS = np.linspace(1.0, 2.0, N)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_inside_the_spectrum_and_their_gradients_are_the_dense_ones(comm, name):
    model = matrix_free(name, comm)
    values, slopes = dense_around(name)
    with around(model) as pairs:
        # eps_tol 1e-12 and conditions below 100
        assert np.allclose(pairs.values[:2], values, rtol=1e-9)
        assert pairs.residuals.max() < 1e-11
        found = ga.gradient(model, POINT, pairs, [obj.Eigenvalue(0), obj.Eigenvalue(1)])
    for one, expected in zip(found, slopes, strict=True):
        assert np.allclose(flat(one), expected, rtol=1e-8, atol=1e-9)


def with_a_good_preconditioner(name, comm):
    """Inner solves take 7 iterations in place of 16, where many pencils are solved."""
    return matrix_free(name, comm, preconditioner=near(name, comm, width=12))


@pytest.mark.parametrize("name", ["symmetric", *NAMES[3:]])
def test_whole_gradient_is_verified(comm, name):
    model = with_a_good_preconditioner(name, comm)
    objective = obj.QuadraticForm(WEIGHTS[rows_of(comm)], (0,))
    report = ga.verify_gradient(model, POINT, objective, count=2, target=TARGET, count_check="off")
    assert report.passed, str(report)
    assert report.dot_product_error < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_agree_with_differences_of_gradients(comm, name):
    model = with_a_good_preconditioner(name, comm)
    objective = obj.QuadraticForm(WEIGHTS[rows_of(comm)], (0,))
    direction = {"b": np.array([1.0, -0.5]), "a": np.array([0.7])}
    with around(model) as pairs:
        product = ga.hessian_vector_product(model, POINT, pairs, objective, direction)

        def slope(step):
            there = {key: POINT[key] + step * direction[key] for key in POINT}
            with around(model, there, like=pairs) as other:
                return flat(ga.gradient(model, there, other, objective))

        h = 2e-4
        expected = (8 * (slope(h) - slope(-h)) - (slope(2 * h) - slope(-2 * h))) / (12 * h)
    # h^4 times fifth derivatives of order 1e8, and 1e-10 / h of the adjoint solves
    assert np.allclose(flat(product), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["positive B", "nonsymmetric B"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_largest_values_solve_with_b_by_iterations(comm, name, preconditioned):
    changes = {True: {"preconditioner_b": mass_near(name, comm)}, False: {}}[preconditioned]
    model = matrix_free(name, comm, **changes)
    with (
        model.assemble(POINT) as pencil,
        ga.solve_eigenproblem(pencil, 2, which="largest_real") as pairs,
    ):
        values = np.linalg.eigvals(np.linalg.solve(*arrays(name, POINT)[::-1]))
        assert np.allclose(pairs.values, values[np.argsort(-values.real)][:2], rtol=1e-9)
        kind = {True: "lu|cholesky", False: "none"}[preconditioned]
        assert any(part in pairs.info.notes[0] for part in kind.split("|"))


def chain_operator(n, comm, **changes):
    """Return k stiffness, m mass of a chain of n rows, products by neighbours only (serial)."""

    def shifted(block, offset):
        return np.pad(block, ((1, 1), (0, 0)))[1 + offset : 1 + offset + len(block)]

    def stiffness(block):
        return 2 * block - shifted(block, 1) - shifted(block, -1)

    def mass(block):
        return (4 * block + shifted(block, 1) + shifted(block, -1)) / 6

    def vjp(p, left_a, left_b, right):
        k = np.vdot(left_a, stiffness(right)).real
        return {"p": np.array([k, np.vdot(left_b, mass(right)).real])}

    fields = {
        "apply_b": lambda p, block: p["p"][1] * mass(block),
        "preconditioner": lambda p, sigma: matrix(
            p["p"][0] * (2 * np.eye(n) - 0.9 * np.eye(n, k=1) - 0.9 * np.eye(n, k=-1))
            - sigma * p["p"][1] * np.eye(n),
            comm,
        ),
    }
    return ga.OperatorModel(
        n, lambda p, block: p["p"][0] * stiffness(block), vjp, comm=comm, **{**fields, **changes}
    )


@pytest.mark.parametrize("target", [0.0, 1.7])
def test_matrix_free_mass_has_the_values_of_the_closed_form(comm, target):
    n, p = 40, {"p": np.array([1.3, 0.7])}
    model = chain_operator(n, comm)
    cosines = np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    exact = p["p"][0] / p["p"][1] * (2 - 2 * cosines) * 6 / (4 + 2 * cosines)
    exact = exact[np.argsort(np.abs(exact - target))][:3]
    with around(model, p, 3, target) as pairs:
        # eps_tol 1e-12, relative to the largest value, which is 1e4 times the smallest
        assert np.allclose(pairs.values, exact, rtol=1e-10, atol=1e-11)
        gradient = ga.gradient(model, p, pairs, obj.Eigenvalue(1))["p"]
    # lam is proportional to k / m
    assert np.allclose(gradient, exact[1] / p["p"] * [1, -1], rtol=1e-9)


def advection(n, comm):
    """Return -nu u'' + c u' by central differences on the unit interval, u = 0 at both ends."""
    h = 1 / (n + 1)
    first = (np.eye(n, k=1) - np.eye(n, k=-1)) / (2 * h)
    second = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) / h**2

    def at(p):
        return p["p"][0] * second + p["p"][1] * first

    return ga.OperatorModel(
        n,
        lambda p, block: at(p) @ block,
        lambda p, left_a, left_b, right: {
            "p": np.array([np.vdot(left_a, d @ right).real for d in (second, first)])
        },
        apply_a_hermitian=lambda p, block: at(p).T @ block,
        # Too little advection.
        preconditioner=lambda p, sigma: matrix(
            at({"p": p["p"] * [1.0, 0.8]}) - sigma * np.eye(n), comm
        ),
        comm=comm,
    )


@pytest.mark.parametrize(("velocity", "target"), [(10.0, 250.0), (260.0, 300.0)])
def test_advection_has_the_values_and_derivatives_of_the_closed_form(comm, velocity, target):
    # lam_k = 2 nu / h^2 + 2 sqrt(l u) cos(k pi / (n + 1)), l, u = -nu / h^2 -+ c / (2 h): complex
    # above a cell Peclet number c h / nu of 2
    n = 12
    h = 1 / (n + 1)
    p = {"p": np.array([1.0, velocity])}
    square = complex(1 / h**4 - velocity**2 / (4 * h**2))
    cosine = np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    values = 2 / h**2 + 2 * np.sqrt(square) * cosine
    j = np.argmin(np.abs(values - target) - 1e-9 * values.imag)
    slope = [2 / h**2 + 2 * cosine[j] / h**4 / np.sqrt(square),
             -cosine[j] * velocity / (2 * h**2) / np.sqrt(square)]  # fmt: skip
    model = advection(n, comm)
    with around(model, p, 1, target) as pairs:
        # condition of the values at most |l / u|^(n / 2), about 10
        assert np.isclose(pairs.values[0], values[j], rtol=1e-9)
        found = ga.gradient(model, p, pairs, obj.Eigenvalue(0))["p"]
    assert np.allclose(found, np.real(slope), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["", "minres", "gmres", "fgmres"])
@pytest.mark.parametrize("target", [0.0, TARGET])
def test_methods_of_symmetric_operators(comm, method, target):
    positive = matrix(np.diag(1.0 + np.arange(N)), comm)  # MINRES needs it definite
    model = matrix_free("symmetric", comm, preconditioner=positive)
    options = {"": {}}.get(method, {"st_ksp_type": method})
    with around(model, target=target, solver_parameters=options) as pairs:
        assert np.allclose(pairs.values, dense_around("symmetric", target=target)[0], rtol=1e-9)
        expected = method or {0.0: "cg", TARGET: "minres"}[target]
        assert f"inner solves: {expected} with" in pairs.info.notes[0]
    positive.destroy()


def test_indefinite_preconditioner_leads_to_gmres(comm):
    with around(matrix_free("symmetric", comm)) as pairs:
        assert "inner solves: gmres with" in pairs.info.notes[0]


@pytest.mark.parametrize("kind", ["lu", "jacobi", "bjacobi", "gamg", "sor"])
@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric B"])
def test_preconditioners_from_the_options(comm, name, kind):
    # SOR cannot be applied transposed: left vectors then come from one of the transposed matrix.
    with around(matrix_free(name, comm), solver_parameters={"st_pc_type": kind}) as pairs:
        assert np.allclose(pairs.values[:2], dense_around(name)[0], rtol=1e-9)
        assert f"with {kind} to 1e-13" in pairs.info.notes[0]
        assert np.all(pairs.info.left_residuals < 1e-10)


def test_uncounted_pairs_are_said_to_be(comm):
    with around(chain_operator(40, comm), {"p": np.ones(2)}) as pairs:
        assert pairs.info.completeness.method == "second start"
        assert "iterations in" in pairs.info.notes[0]
        said = any("were not counted: that needs a factor" in note for note in pairs.info.notes)
        assert said != COMPLEX_BUILD  # where nothing is ever counted


@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric B"])
def test_assembled_pencil_with_a_preconditioner_is_not_factored(comm, name):
    A, B = arrays(name, POINT)
    near_matrix = matrix(band(A - TARGET * B), comm)
    with (
        ga.Pencil(
            matrix(A, comm), matrix(B, comm), owned=True, preconditioner=near_matrix
        ) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=TARGET) as pairs,
    ):
        assert np.allclose(pairs.values[:2], dense_around(name)[0], rtol=1e-9)
        assert pairs.factor.inner_rtol == pytest.approx(1e-13)
        assert pairs.info.completeness.method != "inertia"
    assert near_matrix.handle  # it stays the user's
    near_matrix.destroy()


def test_pairs_of_a_pencil_with_a_preconditioner_are_not_counted(comm):
    n = 40
    A, B = stiffness(n), mass(n)
    near_matrix = matrix(A + 0.1 * np.eye(n), comm)
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True, preconditioner=near_matrix) as both,
        ga.solve_eigenproblem(both, 2) as pairs,
    ):
        assert pairs.info.completeness.method == "second start"
    near_matrix.destroy()


@pytest.mark.parametrize("kind", ["lu", "sor"])
@pytest.mark.parametrize("name", NAMES)
def test_solves_with_the_transpose_are_those_of_the_dense_matrix(comm, name, kind):
    A, B = arrays(name, POINT)
    K = A - TARGET * B
    v = np.exp(1j * np.arange(N))[:, None]
    with around(matrix_free(name, comm), solver_parameters={"st_pc_type": kind}) as pairs:
        for hermitian, dense in ((False, K), (True, K.conj().T)):
            # inner tolerance 1e-13 and a condition below 1e4
            found = pairs.factor.solve(v, hermitian=hermitian)
            assert np.allclose(found, np.linalg.solve(dense, v), rtol=1e-8, atol=1e-8)
        near_k, turned = (pairs.factor.precondition(v, hermitian=part) for part in (False, True))
        # u^H (P^-1 v) = (P^-H u)^H v with u = v
        assert np.isclose(np.vdot(v, near_k), np.vdot(turned, v))


def test_default_of_a_preconditioned_operator_is_the_smallest_values(comm):
    model = matrix_free("symmetric", comm)
    with model.assemble(POINT) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        assert np.allclose(pairs.values, dense_around("symmetric", target=0.0)[0], rtol=1e-9)


def test_inner_tolerance_follows_the_outer_one(comm):
    model = matrix_free("symmetric", comm, preconditioner=near("symmetric", comm))
    with around(model, solver_parameters={"eps_tol": 1e-8}) as pairs:
        assert pairs.factor.inner_rtol == pytest.approx(1e-9)
