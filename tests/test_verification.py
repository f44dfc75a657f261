"""`verify_gradient` tells a right gradient from a wrong one, whichever part is wrong."""

import re

import numpy as np
import pytest
from builders import K0, chain, chain_parameters, shares
from test_changing_modes import N as TWO_CHAINS
from test_changing_modes import two_chains

import geneig_adjoint as ga

N = 8
SOLVER = {"count": 2, "target": 0.0, "solver_parameters": {"eps_tol": 1e-12}}


def squares(scale=1.0, explicit=1.0):
    """Return sum_i i x_i^2 + sum_j sin(k_j), with factors on its derivatives that should be 1."""

    def objective(pairs, p):
        weight = np.arange(*pairs.rows) + 1.0
        x = pairs.right[:, 0]
        value = pairs.comm.allreduce(float(np.vdot(x, weight * x).real))
        right = np.zeros_like(pairs.right)
        right[:, 0] = scale * 2 * weight * x
        parts = {"k": explicit * np.cos(p["k"])}
        return value + float(np.sin(p["k"]).sum()), ga.EigenCotangent(right=right, parameters=parts)

    return objective


OBJECTIVES = {
    "eigenvalue": ga.objectives.Eigenvalue(1),
    "smooth minimum": ga.objectives.KSMinimum(rho=3.0, of="eigenvalue"),
    "own": squares(),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_right_gradient_passes_with_order_two(comm, objective):
    # Along the direction of seed 0 the second derivative of the second eigenvalue vanishes nearly.
    settings = SOLVER | {"seed": 1, "adjoint": {"strategy": "direct"}}
    report = ga.verify_gradient(chain(N, comm), chain_parameters(N), objective, **settings)
    assert report.failures == ()
    assert report.passed
    assert report.orders[-1] == pytest.approx(2.0, abs=0.05)
    assert min(report.orders) > 1.9
    assert [item.parameter for item in report.comparisons] == ["k", "m"]
    # Fourth-order differences with step 2e-3: (2e-3)^4 of truncation, 1e-12 / 2e-3 of rounding.
    assert max(item.relative_error for item in report.comparisons) < 1e-8
    assert report.dot_product_error < 1e-12
    assert max(report.residual, report.left_residual) < 1e-12


class Changed:
    """A model with one method replaced."""

    def __init__(self, model, **methods):
        self.assemble, self.contract, self.tangent = model.assemble, model.contract, model.tangent
        vars(self).update(methods)


def forgets_mass(model):
    """One parameter's derivative is missing."""

    def contract(p, *vectors):
        found = model.contract(p, *vectors)
        return found | {"m": 0 * found["m"]}

    return Changed(model, contract=contract)


def wrong_by_a_millionth(model):
    def contract(p, *vectors):
        return {name: (1 + 3e-6) * part for name, part in model.contract(p, *vectors).items()}

    return Changed(model, contract=contract)


def wrong_tangent(model):
    def tangent(p, p_dot, right):
        dA_x, dB_x = model.tangent(p, p_dot, right)
        return 1.001 * dA_x, dB_x

    return Changed(model, tangent=tangent)


def wrong_both(model):
    """Contract and tangent agree with each other and not with assemble."""

    def contract(p, *vectors):
        return {name: 1.5 * part for name, part in model.contract(p, *vectors).items()}

    def tangent(p, p_dot, right):
        return tuple(1.5 * part for part in model.tangent(p, p_dot, right))

    return Changed(model, contract=contract, tangent=tangent)


def unchanged(model):
    return model


DIFFERENCES = "the derivative in '{}' must agree with differences to 1e-06, got "
DOT = "the dot-product identity must hold to 1e-08, got "
TAYLOR = "the Taylor order must reach 1.95, got "
WRONG = {
    "forgotten": (forgets_mass, squares(), [TAYLOR, DIFFERENCES.format("m"), DOT]),
    "nearly right": (
        wrong_by_a_millionth,
        ga.objectives.Eigenvalue(0),
        [DIFFERENCES.format("k"), DIFFERENCES.format("m"), DOT],
    ),
    "tangent": (wrong_tangent, ga.objectives.Eigenvalue(0), [DOT]),
    "both": (
        wrong_both,
        ga.objectives.Eigenvalue(0),
        [TAYLOR, DIFFERENCES.format("k"), DIFFERENCES.format("m")],
    ),
    "cotangent": (
        unchanged,
        squares(scale=0.5),
        [TAYLOR, DIFFERENCES.format("k"), DIFFERENCES.format("m")],
    ),
    "explicit part": (unchanged, squares(explicit=2.0), [TAYLOR, DIFFERENCES.format("k")]),
}


@pytest.mark.failure("wrong derivative", through="api")
@pytest.mark.parametrize(("change", "objective", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_derivative_is_found_and_named(comm, change, objective, expected):
    model = change(chain(N, comm))
    report = ga.verify_gradient(model, chain_parameters(N), objective, **SOLVER)
    assert not report.passed
    starts = [
        failure.startswith(start) for failure, start in zip(report.failures, expected, strict=True)
    ]
    assert starts == [True] * len(expected), report.failures
    assert "verdict             FAILED" in str(report)
    assert all(failure in str(report) for failure in report.failures)


def linear_model(comm):
    """A = sum k_e K0, B = I: the eigenvalue of one dof is linear in k."""
    own = shares(2, comm)
    dofs = np.array([[-1, 0], [0, -1]])[own]
    block = ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"k": own})
    return ga.ElementModel(1, [block], comm=comm), {"k": np.array([1.5, 0.7])}


def test_linear_objective_is_reported_as_exact(comm):
    model, p = linear_model(comm)
    report = ga.verify_gradient(model, p, ga.objectives.Eigenvalue(0))
    assert report.passed
    assert np.isnan(report.orders).all()
    assert str(report).count("exact (remainder is rounding)") == 4
    assert report.value == pytest.approx(2.2)


def test_parameter_without_effect_compares_well(comm):
    # The only entry of a normalised vector of length one does not move.
    model, p = linear_model(comm)
    objective = ga.objectives.QuadraticForm(np.ones(model.rows[1] - model.rows[0]))
    report = ga.verify_gradient(model, p, objective)
    assert report.passed
    assert report.comparisons[0].derivative == pytest.approx(0.0, abs=1e-14)


def operator_model(comm, **products):
    """A = diag(k)^2 as products only."""
    rows = np.array_split(np.arange(4), comm.size)[comm.rank]

    def apply_a(p, block):
        return p["k"][rows, None] ** 2 * block

    def vjp(p, left_a, left_b, right):
        total = np.zeros(4)
        total[rows] = 2 * p["k"][rows] * (left_a.conj() * right).real.sum(axis=1)
        return {"k": comm.allreduce(total)}

    def jvp(p, p_dot, right):
        return (2 * p["k"] * p_dot["k"])[rows, None] * right, 0 * right

    methods = {name: {"jvp": jvp}[name] for name in products}
    return ga.OperatorModel(4, apply_a, vjp, comm=comm, **methods)


@pytest.mark.parametrize(
    ("products", "line"), [({}, "no tangent of the model"), ({"jvp": 1}, r"\d\.\de[-+]\d\d")]
)
def test_operator_is_tested_with_and_without_a_tangent(comm, products, line):
    model = operator_model(comm, **products)
    p = {"k": np.array([1.0, 1.3, 1.7, 2.4])}
    report = ga.verify_gradient(
        model, p, ga.objectives.Eigenvalue(0), which="largest_real", count=1
    )
    assert report.passed, report.failures
    assert re.search(f"^dot-product error   {line}", str(report), flags=re.MULTILINE)


def test_cluster_safe_objective_is_tested_without_tangents(comm):
    """The sum of a double eigenvalue has a gradient; its vectors have no tangents."""
    own = np.arange(3)[comm.rank :: comm.size]
    block = ga.ElementBlock("A", own[:, None], ga.ScaledKernel(np.ones((1, 1))), {"k": 0 * own})
    model = ga.ElementModel(3, [block], comm=comm)

    def total(pairs):
        return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(pairs.count))

    report = ga.verify_gradient(model, {"k": np.array([2.0])}, total, count=3)
    assert report.passed, report.failures
    assert report.dot_product_error is None
    np.testing.assert_allclose(report.gradient["k"], [3.0], rtol=1e-12)
    assert "of a cluster" in str(report)


def test_seed_changes_the_direction_only(comm):
    first, second = (
        ga.verify_gradient(
            chain(N, comm), chain_parameters(N), ga.objectives.Eigenvalue(0), seed=seed, **SOLVER
        )
        for seed in (0, 1)
    )
    assert first.passed and second.passed  # noqa: PT018
    assert first.remainders != second.remainders
    np.testing.assert_allclose(first.gradient["k"], second.gradient["k"], rtol=1e-12)


def test_values_that_cross_within_the_steps(comm):
    # s chain beside a chain: the lowest values cross at s = 1, the steps go 2 % around.
    model = two_chains(comm)
    p = {"s": np.array([0.99999]), "t": 1e-6 * np.cos(np.arange(TWO_CHAINS))}
    report = ga.verify_gradient(model, p, ga.objectives.Eigenvalue(0), count=2)
    assert report.passed, str(report)
