"""Options of the command line that change what is asked for, not only how it is found."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 30
P = chain_parameters(N)


@pytest.fixture
def database():
    """PETSc's options, as they were before when the test is over."""
    options = PETSc.Options()
    before = options.getAll()
    yield options
    for name in set(options.getAll()) - set(before):
        options.delValue(name)


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
def test_number_of_pairs(comm, database, base):
    with chain(N, comm, base=base).assemble(P) as pencil:
        with ga.solve_eigenproblem(pencil, 5) as pairs:
            expected = pairs.values
        database["ga_eps_nev"] = 5
        with ga.solve_eigenproblem(pencil, 1) as pairs:
            assert pairs.count == 5
            assert pairs.left.shape[1] == 5
            # eps_tol 1e-12 times conditions below 100
            assert np.allclose(pairs.values, expected, rtol=1e-10)


def test_fewer_pairs(comm, database):
    database["ga_eps_nev"] = 2
    with chain(N, comm).assemble(P) as pencil, ga.solve_eigenproblem(pencil, 4) as pairs:
        assert pairs.count == 2


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("given", [{}, {"target": 0.2}], ids=["default", "target"])
def test_target_moves_the_order(comm, database, base, given):
    with chain(N, comm, base=base).assemble(P) as pencil:
        with ga.solve_eigenproblem(pencil, 3, target=3.0) as pairs:
            expected = pairs.values
        database["ga_eps_target"] = 3.0
        with ga.solve_eigenproblem(pencil, 3, **given) as pairs:
            assert pairs.info.sigma == 3.0
            assert np.allclose(pairs.values, expected, rtol=1e-10)
        distance = np.abs(expected - 3.0)
        assert (np.diff(distance) > 0).all()


def test_gradient_belongs_to_the_pairs_that_came(comm, database):
    model = chain(N, comm, base=K0 + C0)
    with model.assemble(P) as pencil:
        with ga.solve_eigenproblem(pencil, 2, target=3.0) as pairs:
            expected = ga.gradient(model, P, pairs, obj.Eigenvalue(1))
        database["ga_eps_target"] = 3.0
        database["ga_eps_nev"] = 2
        with ga.solve_eigenproblem(pencil, 1) as pairs:
            found = ga.gradient(model, P, pairs, obj.Eigenvalue(1))
    for name in P:
        assert np.allclose(found[name], expected[name], rtol=1e-9, atol=1e-11)
