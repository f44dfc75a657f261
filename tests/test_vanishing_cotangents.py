"""Second derivatives of objectives whose cotangent is zero, or small, where they are best."""

import numpy as np
import pytest
from pencils import flat
from scenarios import scenarios, solved

import geneig_adjoint as ga


@pytest.fixture(scope="module", params=scenarios("default")[:3], ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        yield found


def product(chain, objective):
    problem = chain.problem
    return flat(
        ga.hessian_vector_product(
            chain.model, problem.p, chain.pairs, objective, problem.p_dot, strategy="direct"
        )
    )


def slope(chain, objective):
    return flat(
        ga.gradient(chain.model, chain.problem.p, chain.pairs, objective, strategy="direct")
    )


def fitted(chain, objective):
    """Return (g - g(p))^2: no slope at p."""
    start = objective(chain.pairs)[0]

    def fit(pairs):
        value, cotangent = objective(pairs)
        rest = value - start
        scaled = {
            part: None if (bar := getattr(cotangent, part)) is None else 2 * rest * bar
            for part in ("values", "right", "left")
        }
        return rest**2, ga.EigenCotangent(**scaled)

    return fit


@pytest.mark.parametrize("kind", ["values", "right", "left"])
def test_fit_at_its_best(chain, kind):
    rows = np.arange(*chain.pairs.rows)
    objective = {
        "values": ga.objectives.Eigenvalue(0),
        "right": ga.objectives.QuadraticForm(np.cos(1.0 + rows), (0,)),
        "left": left_form(np.cos(1.0 + rows)),
    }[kind]
    g = slope(chain, objective)
    expected = 2 * g * (g @ flat(chain.problem.p_dot))
    # Differences of the cotangent: 1e-11 of it; the slope may be small where the scale is fixed
    np.testing.assert_allclose(
        product(chain, fitted(chain, objective)),
        expected,
        rtol=0,
        atol=1e-8 * np.abs(g).max() * np.linalg.norm(g),
    )
    assert np.abs(expected).max() > 1e-6


def left_form(weight):
    def form(pairs):
        y = pairs.left[:, 0]
        bar = np.zeros_like(pairs.left)
        bar[:, 0] = 2 * weight * y
        return pairs.comm.allreduce(float(weight @ np.abs(y) ** 2)), ga.EigenCotangent(left=bar)

    return form


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_small_fit_beside_a_large_slope(chain, size):
    first, other = (ga.objectives.Eigenvalue(j) for j in (0, chain.pairs.count - 1))
    fit = fitted(chain, other)

    def mixed(pairs):
        large, small = first(pairs), fit(pairs)
        values = size * large[1].values + small[1].values
        return size * large[0] + small[0], ga.EigenCotangent(values=values)

    g = slope(chain, other)
    expected = size * product(chain, first) + 2 * g * (g @ flat(chain.problem.p_dot))
    # rtol 1e-10 of the solves and rounding of the sum
    np.testing.assert_allclose(
        product(chain, mixed), expected, rtol=0, atol=1e-9 * (size + 1) * np.abs(expected).max()
    )
