"""Every term of the gradient alone: objectives chosen such that one term is all there is.

Dropping a term passes most tests when the others are large.  Here the expected result is that term
by a formula of its own, and it is not small.
"""

import numpy as np
import pytest
from pencils import COMPLEX_BUILD, flat
from problems import problems
from scenarios import Scenario, solved

import geneig_adjoint as ga

GALLERY = {problem.name: problem for problem in problems()}
STRATEGIES = ["direct", "ksp"]
# rtol 1e-10 of the adjoint, conditions below 10
EXACT = 1e-9


def gradient(chain, objective, strategy) -> np.ndarray:
    problem = chain.problem
    found = ga.gradient(chain.model, problem.p, chain.pairs, objective, strategy=strategy)
    return flat(found)


def products_with_b(chain, left, right) -> np.ndarray:
    """Return left^H dB_i right for every parameter, dense."""
    return np.array([left.conj() @ t.B @ right for t in chain.unit_tangents])


def first(pairs, column) -> np.ndarray:
    block = np.zeros(pairs.right.shape, dtype=complex)
    block[:, 0] = column
    return block


def check(found, expected) -> None:
    size = np.abs(expected).max()
    assert size > 1e-3  # the term is there
    np.testing.assert_allclose(found, expected, atol=EXACT * size)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["symmetric", "indefinite", "bar"])
def test_only_the_normalization_term_of_b(name, strategy, comm):
    # g = x^H B_0 x with the constant B_0 = B(p): x_bar is parallel to B x, so that w = 0.
    with solved(Scenario(GALLERY[name], "B"), comm) as chain:
        B_0 = chain.reference.B

        def objective(pairs):
            x = pairs.right[:, 0]
            return (x.conj() @ B_0 @ x).real, ga.EigenCotangent(right=first(pairs, 2 * B_0 @ x))

        x = chain.pairs.right[:, 0]
        check(gradient(chain, objective, strategy), -products_with_b(chain, x, x).real)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["symmetric", "complex_symmetric"][: 1 + COMPLEX_BUILD])
def test_only_the_normalization_term_of_bilinear(name, strategy, comm):
    # g = Re x^T B_0 x: likewise, x_bar = 2 conj(B_0 x).
    with solved(Scenario(GALLERY[name], "bilinear"), comm) as chain:
        B_0 = chain.reference.B

        def objective(pairs):
            x = pairs.right[:, 0]
            x_bar = 2 * (B_0 @ x).conj()
            return (x @ B_0 @ x).real, ga.EigenCotangent(right=first(pairs, x_bar))

        x = chain.pairs.right[:, 0]
        check(gradient(chain, objective, strategy), -products_with_b(chain, x.conj(), x).real)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("label", ["component", "linear"])
@pytest.mark.parametrize("name", list(GALLERY))
def test_the_functional_of_a_linear_normalization_is_constant(name, label, strategy, comm):
    scenario = Scenario(GALLERY[name], label)
    c = scenario.scale.c
    with solved(scenario, comm) as chain:
        for part in ("real", "imag"):
            objective = ga.objectives.LinearOutput(c, pair=0, part=part)
            x_dot = max(np.abs(t.right[:, 0]).max() for t in chain.unit_tangents)
            # Rounding relative to the tangent that cancels
            np.testing.assert_allclose(
                gradient(chain, objective, strategy), 0.0, atol=1e-13 * x_dot * np.abs(c).sum()
            )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("label", ["B", "2"])
@pytest.mark.parametrize("name", ["complex_pair", "hermitian"][: 1 + COMPLEX_BUILD])
def test_only_the_phase_term(name, label, strategy, comm):
    # g = Im x_0^H M x with the constant M x_0 = x_bar of x_0 at p moves with the phase alone.
    label = {"complex_pair": "2"}.get(name, label)
    with solved(Scenario(GALLERY[name], label), comm) as chain:
        x_0 = chain.pairs.right[:, 0].copy()
        Mx_0 = {"B": chain.reference.B, "2": np.eye(len(x_0))}[label] @ x_0

        def objective(pairs):
            x = pairs.right[:, 0]
            return (Mx_0.conj() @ x).imag, ga.EigenCotangent(right=first(pairs, 1j * Mx_0))

        # x_dot = z + i theta x + (real) x with x^H M z = 0: theta keeps the phase row real.
        row = int(chain.pairs.phase_rows[0])
        theta = []
        for tangent in chain.unit_tangents:
            x_dot = tangent.right[:, 0]
            z = x_dot - x_0 * (Mx_0.conj() @ x_dot) / (Mx_0.conj() @ x_0)
            theta.append(-z[row].imag / x_0[row].real)
        check(gradient(chain, objective, strategy), np.array(theta) * (Mx_0.conj() @ x_0).real)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("label", ["component", "2"])
@pytest.mark.parametrize("name", ["nonsymmetric", "complex_pair", "two_group"])
def test_only_the_scale_of_the_left_vector(name, label, strategy, comm):
    # g = Re y^H B_0 x_0: y_bar is parallel to B x, so that v = 0 and only nu = 1 is left.
    with solved(Scenario(GALLERY[name], label), comm) as chain:
        Bx_0 = chain.reference.B @ chain.pairs.right[:, 0]

        def objective(pairs):
            value = (pairs.left[:, 0].conj() @ Bx_0).real
            return value, ga.EigenCotangent(left=first(pairs, Bx_0))

        # y^H B x = 1: y_dot^H B x = -y^H dB x - y^H B x_dot
        x, y, B = chain.pairs.right[:, 0], chain.pairs.left[:, 0], chain.reference.B
        through_x = [y.conj() @ B @ tangent.right[:, 0] for tangent in chain.unit_tangents]
        expected = -products_with_b(chain, y, x) - np.array(through_x)
        check(gradient(chain, objective, strategy), expected.real)


@pytest.mark.parametrize("name", ["nonsymmetric", "bar", "advection"])
def test_only_the_explicit_terms(name, comm):
    # g = sum_i p_i^3 + Re u^H A v + Re u^H B v for constant vectors: no eigenpair at all.
    problem = GALLERY[name]
    u, v = problem.vector(31), problem.vector(32)
    with solved(Scenario(problem, "2"), comm) as chain:

        def objective(pairs, p):
            A_v, B_v = pairs.pencil.multiply_a(v[:, None]), pairs.pencil.multiply_b(v[:, None])
            value = np.vdot(u, A_v + B_v).real + (flat(p) ** 3).sum()
            left, right = u[:, None], v[:, None]
            return value, ga.EigenCotangent(
                parameters={key: 3 * entry**2 for key, entry in p.items()},
                matrices=(left, left, right),
            )

        expected = [
            (u.conj() @ (t.A + t.B) @ v).real + 3 * flat(problem.p)[i] ** 2
            for i, t in enumerate(chain.unit_tangents)
        ]
        check(gradient(chain, objective, "direct"), np.array(expected))


@pytest.mark.parametrize("name", list(GALLERY))
def test_each_matrix_acts_alone_on_an_eigenvalue(name, comm):
    with solved(Scenario(GALLERY[name], "default"), comm) as chain:
        x, y, lam = chain.pairs.right[:, 1], chain.pairs.left[:, 1], chain.pairs.values[1]
        by_a = np.array([y.conj() @ t.A @ x for t in chain.unit_tangents])
        by_b = np.array([-lam * (y.conj() @ t.B @ x) for t in chain.unit_tangents])
        for part in ("real", "imag"):
            found = gradient(chain, ga.objectives.Eigenvalue(1, part=part), None)
            expected = getattr(by_a + by_b, part)
            # A sum of products: rounding relative to the terms
            scale = np.abs(by_a).max() + np.abs(by_b).max()
            np.testing.assert_allclose(found, expected, atol=1e-13 * len(x) * scale)


@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric", "two_group", "bar", "advection"])
def test_the_gallery_moves_a_alone_and_b_alone(name, comm):
    with solved(Scenario(GALLERY[name], "default"), comm) as chain:
        moves = {(bool(t.A.any()), bool(t.B.any())) for t in chain.unit_tangents}
    assert moves & {(True, False), (False, True)}
    assert any(a for a, _ in moves)
    assert any(b for _, b in moves)
