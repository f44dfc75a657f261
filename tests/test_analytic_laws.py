"""Laws and kernels a complex step cannot see are refused; constant ones have gradient zero."""

import numpy as np
import pytest
from builders import K0, M0, chain_dofs

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.kernels import complex_step

N = 6
P = {"k": np.linspace(0.5, 1.5, N + 1)}
# Written so that they return real numbers for complex ones.
NOT_ANALYTIC = {
    "abs": np.abs,
    "power of abs": lambda rho: 0.1 + np.abs(rho) ** 3,
    "real": lambda rho: 2.0 * rho.real,
    "conj times": lambda rho: (rho.conj() * rho).real,
}
CONSTANT = {
    "ones": np.ones_like,
    "real ones": lambda rho: np.ones(rho.shape),
    "times 0": lambda rho: 1.0 + 0.0 * rho,
}


def of_law(law):
    return ga.ScaledKernel(K0, law)


def of_function(law):
    return ga.NumpyKernel(lambda k: law(k)[:, None, None] * K0)


KINDS = {"ScaledKernel": of_law, "NumpyKernel": of_function}


def model_of(kernel, comm):
    ids, dofs = np.arange(N + 1), chain_dofs(N)
    return ga.ElementModel(
        N,
        [
            ga.ElementBlock("A", dofs, kernel, {"k": ids}),
            ga.ElementBlock("B", dofs, ga.NumpyKernel(lambda k: (1 + 0 * k)[:, None, None] * M0),
                            {"k": ids}),
        ],
        comm=comm,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", NOT_ANALYTIC)
def test_law_that_is_not_analytic_is_refused(comm, law, kind):
    model = model_of(KINDS[kind](NOT_ANALYTIC[law]), comm)
    match = r"must be analytic, got one that returns real numbers for complex values; use"
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        for call in (
            lambda: ga.gradient(model, P, pairs, obj.Eigenvalue(0)),
            lambda: ga.jvp(model, P, pairs, P),
            lambda: ga.derivative_products(model, P, pairs.right[:, 0], "k"),
        ):
            with pytest.raises(ga.InputError, match=match):
                call()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", CONSTANT)
@pytest.mark.parametrize("objective", [obj.Eigenvalue(0), obj.QuadraticForm(np.arange(N) + 1.0)])
def test_constant_law_has_gradient_zero(comm, law, kind, objective):
    model = model_of(KINDS[kind](CONSTANT[law]), comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        found = ga.gradient(model, P, pairs, objective)["k"]
        tangent = ga.jvp(model, P, pairs, P)
    assert np.array_equal(found, np.zeros(N + 1))
    assert np.array_equal(tangent.values, [0.0])


@pytest.mark.parametrize("law", NOT_ANALYTIC)
def test_step_that_moves_nothing_is_no_reason_to_refuse(law):
    # a direction of zeros: the derivative is zero whatever the law
    assert not complex_step(NOT_ANALYTIC[law], P["k"], np.zeros(N + 1)).any()
