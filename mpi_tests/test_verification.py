"""`verify_gradient` on several ranks: one verdict, whatever the distribution."""

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed, own_rows
from mpi4py import MPI

import geneig_adjoint as ga
from geneig_adjoint.verification import random_direction

N = 8
SOLVER = {"count": 2, "target": 0.0, "solver_parameters": {"eps_tol": 1e-12}}


def bend(comm):
    """Return an objective of the first vector; c^T x, c constant."""
    first, last = own_rows(N, comm)
    return ga.objectives.LinearOutput(np.cos(np.arange(first, last)), 0)


def test_report_is_the_same_on_every_rank(comm):
    report = ga.verify_gradient(chain(N, comm), chain_parameters(N), bend(comm), **SOLVER)
    assert report.failures == ()
    assert report.dot_product_error < 1e-12
    assert set(comm.allgather(str(report))) == {str(report)}
    bits = comm.allgather(report.gradient["k"].tobytes())
    assert set(bits) == {report.gradient["k"].tobytes()}


def test_report_does_not_depend_on_the_number_of_ranks(comm):
    def orders_and_gradient(where):
        report = ga.verify_gradient(
            chain(N, where), chain_parameters(N), bend(where), seed=1, **SOLVER
        )
        return np.array(report.orders), report.gradient["m"]

    alone = comm.bcast(orders_and_gradient(MPI.COMM_SELF) if comm.rank == 0 else None)
    together = orders_and_gradient(comm)
    # The smallest remainders are near 1e-7: 1e-13 of noise in the values shows in the sixth digit.
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-4)
    np.testing.assert_allclose(together[1], alone[1], rtol=1e-9, atol=1e-12)


def test_distributed_parameters_are_tested_and_freed(comm):
    values = chain_parameters(N)
    p = {name: distributed(value, comm) for name, value in values.items()}
    report = ga.verify_gradient(chain(N, comm), p, bend(comm), **SOLVER)
    assert report.failures == ()
    model = chain(N, comm)
    with model.assemble(values) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        replicated = ga.gradient(model, values, pairs, bend(comm))
    for name, vec in report.gradient.items():
        first, last = vec.getOwnershipRange()
        # The same sums in another order.
        np.testing.assert_allclose(
            vec.array.real, replicated[name][first:last], rtol=1e-10, atol=1e-13
        )
        np.testing.assert_array_equal(p[name].array.real, values[name][first:last])
        vec.destroy()
    for vec in p.values():
        vec.destroy()


@pytest.mark.parametrize("zeros", [[], [0], [0, 1, 6]])
def test_direction_does_not_depend_on_the_distribution(comm, zeros):
    values = np.linspace(1.0, 3.0, 7)
    values[zeros] = 0.0
    vec = distributed(values, comm)
    pieces = random_direction({"k": vec}, 3)["k"]
    whole = np.concatenate(comm.allgather(pieces.array.real))
    np.testing.assert_allclose(whole, random_direction({"k": values}, 3)["k"], rtol=1e-14)
    assert (whole != 0).all()
    pieces.destroy()
    vec.destroy()


def test_wrong_contraction_fails_on_every_rank(comm):
    model = chain(N, comm)
    right = model.contract
    model.contract = lambda p, *vectors: {
        name: 1.5 * part for name, part in right(p, *vectors).items()
    }
    report = ga.verify_gradient(model, chain_parameters(N), ga.objectives.Eigenvalue(0), **SOLVER)
    assert comm.allgather(report.passed) == [False] * comm.size
    assert len(report.failures) == 4  # Taylor, two parameters, dot product


def test_more_ranks_than_rows(comm):
    report = ga.verify_gradient(chain(1, comm), chain_parameters(1), ga.objectives.Eigenvalue(0))
    assert report.failures == ()
