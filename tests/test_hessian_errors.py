"""Hessian-vector products that are refused, and objectives that need care."""

import numpy as np
import pytest
from pencils import flat, petsc_matrix
from problems import problems
from scenarios import Scenario, solved

import geneig_adjoint as ga

GALLERY = {problem.name: problem for problem in problems()}


@pytest.fixture(params=["symmetric", "nonsymmetric"])
def chain(request, comm):
    with solved(Scenario(GALLERY[request.param], "2"), comm) as found:
        yield found


def product(chain, objective, **changes):
    job = {"model": chain.model, "pairs": chain.pairs, **changes}
    problem = chain.problem
    return ga.hessian_vector_product(
        job["model"], problem.p, job["pairs"], objective, problem.p_dot, strategy="direct"
    )


class Without:
    """A model that hides some of its methods."""

    def __init__(self, model, *hidden):
        self._model, self._hidden = model, hidden

    def __getattr__(self, name):
        if name in self._hidden:
            raise AttributeError(name)
        return getattr(self._model, name)


@pytest.mark.parametrize("name", ["tangent", "contract_tangent"])
def test_models_without_the_methods_are_refused(chain, name):
    with pytest.raises(ga.InputError, match=f"needs a model with {name}, got Without"):
        product(chain, ga.objectives.Eigenvalue(0), model=Without(chain.model, name))


def test_nonsymmetric_pencils_need_products_with_the_transpose(comm):
    class OneWay(Without):
        def tangent(self, p, p_dot, right):
            return self._model.tangent(p, p_dot, right)

    with (
        solved(Scenario(GALLERY["nonsymmetric"], "2"), comm) as chain,
        pytest.raises(ga.InputError, match=r"tangent without; let it take hermitian=True"),
    ):
        product(chain, ga.objectives.Eigenvalue(0), model=OneWay(chain.model))


def test_rough_objectives_are_asked_for_their_tangent(chain):
    def rough(pairs):
        lam = pairs.values[0].real
        bar = np.zeros(pairs.count)
        bar[0] = 1 + np.cos(1e7 * lam)
        return lam + np.sin(1e7 * lam) / 1e7, ga.EigenCotangent(values=bar)

    with pytest.raises(ga.InputError, match=r"rough must be smooth .* tangent\(pairs, tangent\)"):
        product(chain, rough)


def test_unusable_tangents_of_objectives_are_named(chain):
    class Wrong(ga.objectives.Eigenvalue):
        def tangent(self, pairs, tangent):
            return ga.EigenCotangent(values=np.zeros(pairs.count + 1))

    with pytest.raises(ga.InputError, match=r"'values' of Wrong.tangent must have shape"):
        product(chain, Wrong(0))


def test_span_without_a_separate_form_is_refused(comm):
    def spectral(pairs):
        k = pairs.count
        return 0.0, ga.EigenCotangent(span=(np.eye(k), np.eye(k)))

    with (
        solved(Scenario(GALLERY["symmetric"], "B"), comm) as chain,
        pytest.raises(ga.InputError, match="got span= from spectral"),
    ):
        product(chain, spectral)


def test_cotangents_of_left_vectors_need_left_vectors(chain):
    def left(pairs):
        bar = np.zeros(pairs.right.shape)
        bar[0, 0] = 1.0
        return 0.0, ga.EigenCotangent(left=bar)

    pairs = chain.solved(chain.problem.p, left=False)
    with pytest.raises(ga.InputError, match="solve again with left=True"):
        product(chain, left, pairs=pairs)


def test_products_without_left_vectors_equal_those_with(chain):
    objective = ga.objectives.KSMinimum(rho=0.7, of="eigenvalue")
    pairs = chain.solved(chain.problem.p, left=False)
    found, expected = flat(product(chain, objective, pairs=pairs)), flat(product(chain, objective))
    # rtol 1e-10 of the solves, one fed into the next
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_pairs_of_other_parameters_are_stale(chain):
    moved = {name: value + 0.1 for name, value in chain.problem.p.items()}
    with pytest.raises(ga.StaleError, match="the parameters the pairs were solved for"):
        ga.hessian_vector_product(
            chain.model, moved, chain.pairs, ga.objectives.Eigenvalue(0), chain.problem.p_dot
        )


def test_explicit_derivatives_must_fit(chain):
    def wrong(pairs, p):
        return 0.0, ga.EigenCotangent(parameters={"q": np.zeros(1)})

    with pytest.raises(ga.InputError, match="explicit derivative for 'q'"):
        product(chain, wrong)


# -- clusters --


@pytest.fixture
def double(comm):
    """Values 1, 2, 2, 4 at p = 0."""
    dA = np.array([[1.0, 0.3, 0, 0], [0.3, 0.5, 0.2, 0], [0, 0.2, -1.0, 0.4], [0, 0, 0.4, 0.7]])
    mats = [petsc_matrix(comm, M) for M in (np.diag([1.0, 2.0, 2.0, 4.0]) + 0 * dA, dA)]
    p = {"p": np.zeros(1)}
    with (
        ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=4, target=0.9) as pairs,
    ):
        yield model, p, pairs, dA


def second_derivative(double, objective):
    model, p, pairs, _ = double
    return ga.hessian_vector_product(model, p, pairs, objective, {"p": np.ones(1)})["p"][0]


def test_pairs_beside_a_cluster_have_second_derivatives(double):
    lam, dA = np.array([1.0, 2.0, 2.0, 4.0]), double[3]
    # Second-order perturbation theory: 2 sum_k |dA_0k|^2 / (lam_0 - lam_k)
    expected = 2 * sum(dA[0, k] ** 2 / (lam[0] - lam[k]) for k in (1, 2, 3))
    assert second_derivative(double, ga.objectives.Eigenvalue(0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "objective",
    [ga.objectives.Eigenvalue(1), ga.objectives.KSMinimum(of="eigenvalue", rho=1.0)],
    ids=["member", "ks"],
)
def test_pairs_of_a_cluster_are_refused(double, objective):
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"pairs \[1, 2\]"):
        second_derivative(double, objective)
