"""Whole gradients with `JaxKernel` on any ranks: those of hand-written kernels and differences."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from all_derivatives import everything, objective
from builders import C0, K0, M0, chain_dofs, chain_parameters, distributed, shares
from mpi4py import MPI
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

N = 11
P = chain_parameters(N)
P_DOT = {name: np.cos(np.arange(N + 1) + len(name)) * value for name, value in P.items()}
EVERY = np.arange(N + 1)
# Convection makes A nonsymmetric; a complex build gets a complex one.
BASES = {"symmetric": K0, "nonsymmetric": K0 + C0}
BASES |= {"complex": K0 + (1 + 0.3j) * C0} if COMPLEX_BUILD else {}
OWN = {
    "turns": lambda comm: shares(N + 1, comm),
    "all on the last": lambda comm: EVERY[: (N + 1) * (comm.rank == comm.size - 1)],
}


def scaled(base):
    return ga.ScaledKernel(base, ga.PowerLaw(2.0, 0.01)), ga.ScaledKernel(M0)


def traced(base):
    return (
        ga.JaxKernel(lambda k: (0.01 + k**2) * jnp.asarray(base)),
        ga.JaxKernel(lambda m: m * M0),
    )


def chain(comm, kernels, own):
    dofs = chain_dofs(N)[own]
    blocks = [
        ga.ElementBlock("A", dofs, kernels[0], {"k": own}),
        ga.ElementBlock("B", dofs, kernels[1], {"m": own}),
    ]
    return ga.ElementModel(N, blocks, comm=comm)


@cache
def by_hand(base):
    """Return what one rank finds with scaled kernels."""
    return everything(chain(MPI.COMM_SELF, scaled(BASES[base]), EVERY), P, P_DOT)


@pytest.mark.parametrize(
    ("base", "own"), [*((base, "turns") for base in BASES), ("nonsymmetric", "all on the last")]
)
def test_the_same_as_scaled_kernels(comm, base, own):
    found = everything(chain(comm, traced(BASES[base]), OWN[own](comm)), P, P_DOT)
    expected = comm.bcast(by_hand(base) if comm.rank == 0 else None)
    for name, value in expected.items():
        # the same systems solved to 1e-10 with right-hand sides that differ by rounding
        assert np.abs(found[name] - value).max() <= 1e-8 * np.abs(value).max(), name
        assert len(set(comm.allgather(found[name].tobytes()))) == 1, name


def test_gradient_is_right(comm):
    base = list(BASES.values())[-1]  # the others give what kernels by hand give
    model = chain(comm, traced(base), OWN["turns"](comm))

    def shape(pairs):
        return objective(pairs)(pairs)

    report = ga.verify_gradient(model, P, shape, count=2, target=0.3)
    assert report.passed, str(report)
    # one direct factor serves both ways; condition numbers are below 100
    assert report.dot_product_error <= 1e-9
    assert max(order for order in report.orders if not np.isnan(order)) > 1.95


def test_distributed_parameters(comm):
    own = OWN["turns"](comm)
    p, p_dot = ({name: distributed(given[name], comm) for name in P} for given in (P, P_DOT))
    expected = comm.bcast(by_hand("symmetric") if comm.rank == 0 else None)
    found = everything(chain(comm, traced(K0), own), p, p_dot)
    for name in P:
        gradient = np.concatenate(comm.allgather(found[f"gradient {name}"].array_r.real))
        assert np.allclose(gradient, expected[f"gradient {name}"], rtol=1e-8, atol=1e-10)


def test_an_element_without_derivative_is_an_error_on_all_ranks(comm):
    kernels = (ga.JaxKernel(lambda k: jnp.sqrt(k) * K0), ga.ScaledKernel(M0))
    model = chain(comm, kernels, OWN["turns"](comm))
    p = P | {"k": np.where(EVERY == 1, 0.0, P["k"])}  # one element of one rank
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
        pytest.raises(ga.InputError, match=r"derivatives of a JaxKernel in 'k' must be"),
    ):
        ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))


def test_data_must_have_a_row_per_element(comm):
    kernel = ga.JaxKernel(lambda k, a: k * a * K0, {"a": np.ones(N + 2)})
    with pytest.raises(ga.InputError, match=r"data 'a' must have \d+ rows, one per element"):
        chain(comm, (kernel, ga.ScaledKernel(M0)), OWN["turns"](comm))
