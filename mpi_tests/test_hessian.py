"""Hessian-vector products on several ranks, for replicated and distributed parameters."""

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed
from mpi4py import MPI
from pencils import COMPLEX_BUILD, flat
from scenarios import scenarios, solved

import geneig_adjoint as ga

# One problem of every kind of pencil; the others differ from these on one rank, too.
NAMES = {"nonsymmetric", "indefinite", "complex_pair", "bar", "jax_advection", "assembled"}
NAMES |= {"semidefinite", "buckling"}
# Real problems are distributed alike in both builds: few of them in the complex one.
KEPT = {"nonsymmetric", "complex_pair", "bar", "hermitian_indefinite", "complex_symmetric"}
KEPT |= {"hermitian_ghiep"}
CHOSEN = [
    item for item in scenarios("default") if item.problem.name in (NAMES, KEPT)[COMPLEX_BUILD]
]


def products(at):
    """Return products with the Hessians of every kind of cotangent: each objective by itself is
    tested on one rank.
    """
    at.objectives, at.specs = at.objectives[1::4], at.specs[1::4]
    p, p_dot = at.problem.p, at.problem.p_dot
    rows = [ga.hessian_vector_product(at.model, p, at.pairs, f, p_dot) for f in at.objectives]
    return np.array([flat(row) for row in rows])


def products_alone(scenario):
    """Return the products of one rank, which equal differences there, and their sizes."""
    with solved(scenario, MPI.COMM_SELF) as at:
        found = products(at)
        return found, np.maximum(np.abs(found).max(axis=1), 0.1 * at.sizes)


@pytest.mark.parametrize("scenario", CHOSEN, ids=str)
def test_products_equal_those_of_one_rank(scenario, comm):
    expected, sizes = comm.bcast(products_alone(scenario) if comm.rank == 0 else None)
    with solved(scenario, comm) as at:
        found = products(at)
        errors = np.abs(found - expected).max(axis=1) / sizes
        # Solves to 1e-10, each with what others have found, divided by gaps.
        assert at.named(errors, ~(errors <= 1e-8)) == {}
        assert len({comm.bcast(found.tobytes(), root=r) for r in range(comm.size)}) == 1


def test_distributed_parameters_give_the_same_product(comm):
    n = 23
    model, values = chain(n, comm), chain_parameters(n)
    dots = {name: np.cos(3.0 * np.arange(n + 1) + len(name)) for name in values}
    weight = np.linspace(1.0, 2.0, n)[slice(*model.rows)]

    def explicit(pairs, p):
        """lam_0 (x_1^H D x_1) + |p|^2, with explicit derivatives in the structure of p."""
        form, cotangent = ga.objectives.QuadraticForm(weight, (1,))(pairs)
        lam = pairs.values[0].real
        bar = np.zeros(pairs.count)
        bar[0] = form
        return lam * form, ga.EigenCotangent(
            values=bar,
            right=lam * cotangent.right,
            parameters={name: 2.0 * value for name, value in p.items()},
        )

    found = []
    for kind in (lambda v: v.copy(), lambda v: distributed(v, comm)):
        p, p_dot = ({name: kind(v) for name, v in q.items()} for q in (values, dots))
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count=3) as pairs:
            product = ga.hessian_vector_product(model, p, pairs, explicit, p_dot)
        found.append({name: np.asarray(getattr(v, "array", v)).real for name, v in product.items()})
    for name, whole in found[0].items():
        part = np.concatenate(comm.allgather(found[1][name]))
        # The same solves, summed in another order
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-9 * np.abs(whole).max())


def test_rough_objectives_are_refused_on_every_rank(comm):
    model, p = chain(11, comm), chain_parameters(11)

    def rough(pairs):
        bar = np.zeros(pairs.count)
        bar[0] = np.cos(1e7 * pairs.values[0].real)
        return 0.0, ga.EigenCotangent(values=bar)

    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil) as pairs,
        pytest.raises(ga.InputError, match="rough must be smooth enough"),
    ):
        ga.hessian_vector_product(model, p, pairs, rough, p)
