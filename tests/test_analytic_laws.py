"""Laws and kernels a complex step cannot see are refused; constant ones have gradient zero."""

import numpy as np
import pytest
from builders import K0, M0, chain_dofs

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.differentiation import complex_step

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


def bar(nodes, modulus):
    """A bar in the plane whose length is found by norm: complex numbers lose a part on the way."""
    along = nodes[:, 1] - nodes[:, 0]
    stretch = np.concatenate([-along, along], axis=1)
    stiff = modulus / np.linalg.norm(along, axis=1) ** 3
    return stiff[:, None, None] * stretch[:, :, None] * stretch[:, None, :]


# Complex numbers come out, with a part of the derivative missing.
PARTLY_LOST = {
    "law": (ga.ScaledKernel(K0, lambda k: k * np.abs(k)), {"k": P["k"]}),
    "factor": (
        ga.NumpyKernel(lambda k, m: (np.abs(k) * m)[:, None, None] * K0),
        {"k": P["k"], "m": P["k"]},
    ),
    "norm": (
        ga.NumpyKernel(bar),
        {"nodes": np.arange(12.0).reshape(3, 2, 2) ** 1.5, "modulus": np.ones(3)},
    ),
}


@pytest.mark.parametrize("name", PARTLY_LOST)
def test_lost_parts_of_a_derivative_are_found_by_differences(name):
    kernel, values = PARTLY_LOST[name]
    count = len(next(iter(values.values())))
    size = kernel.matrices(values, slice(0, count)).shape[1]
    side = np.ones((count, size, 1))
    for _ in range(2):  # not only the first time
        with pytest.raises(ga.InputError, match=r"must be analytic.* differ from differences by"):
            kernel.vjp(values, side, side, slice(0, count))


@pytest.mark.parametrize("kind", KINDS)
def test_function_that_fails_beside_its_values_is_differentiated(kind):
    def law(k):
        assert k.real.min() >= 0.5
        return k**2

    kernel = KINDS[kind](law)
    found = kernel.derivative(P, {"k": np.ones(N + 1)}, slice(0, N + 1))
    # rounding of one product
    np.testing.assert_allclose(found, 2 * P["k"][:, None, None] * K0, rtol=1e-14)


@pytest.mark.parametrize("law", [lambda k: 2.0, lambda k: k.sum()])
def test_law_that_does_not_work_entry_by_entry_is_refused(law):
    with pytest.raises(ga.InputError, match=r"of the shape \(7,\) it was given.*entry by entry"):
        ga.ScaledKernel(K0, law).matrices(P, slice(0, N + 1))


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


@pytest.mark.parametrize(("law", "at"), [(0.5, 0.0), (1.5, -0.1), (-1.0, 0.0)])
def test_power_laws_without_a_derivative_are_refused(comm, law, at):
    """Not a huge number, which is what differences and complex steps return."""
    kernel = ga.ScaledKernel(K0, ga.PowerLaw(law))
    values, x = {"k": np.array([0.5, at])}, np.ones((2, 2, 1))
    both, none = slice(0, 2), {"k": np.zeros(2)}
    message = rf"must have a derivative .* PowerLaw\(p={law}, floor=0.0\) at {at:.6g};"
    with pytest.raises(ga.InputError, match=message):
        kernel.vjp(values, x, x, both)
    with pytest.raises(ga.InputError, match=message):
        kernel.slopes(values, {"k": np.ones(2)})
    # What stands still has none to have.
    moving = kernel.slopes(values, {"k": np.array([2.0, 0.0])})
    np.testing.assert_allclose(moving, [2 * law * 0.5 ** (law - 1), 0.0], rtol=1e-14)
    assert not kernel.slopes(values, none).any()
