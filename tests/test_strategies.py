"""Strategies of the adjoint: one gradient, whichever solves."""

import pytest
from builders import (
    C0,
    K0,
    chain,
)
from petsc4py import PETSc
from test_contract import N, assert_same, convected, gradient_of

import geneig_adjoint as ga


def own_ksp(comm):
    ksp = PETSc.KSP().create(comm)
    ksp.setType("gmres")
    ksp.getPC().setType("none")
    ksp.setTolerances(rtol=1e-13)
    return ksp


def by_gmres(operator, rhs, solution):
    ksp = own_ksp(operator.comm)
    ksp.setOperators(operator)
    ksp.solve(rhs, solution)
    ksp.destroy()


LU = {"pc_type": "lu", "pc_factor_mat_solver_type": "mumps"}
ADJOINT = {
    "direct": lambda comm: {"strategy": "direct"},
    "ksp": lambda comm: {"strategy": "ksp"},
    "bcgs": lambda comm: {"strategy": "ksp", "solver_parameters": {"ksp_type": "bcgs"}},
    "lu": lambda comm: {"strategy": "ksp", "solver_parameters": LU},
    "qr": lambda comm: {"strategy": "direct", "solver_parameters": {"ksp_type": "richardson"}},
    "own ksp": lambda comm: {"strategy": own_ksp(comm)},
    "callable": lambda comm: {"strategy": by_gmres},
}


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("way", ADJOINT)
def test_all_strategies_give_one_gradient(comm, way, base):
    model = chain(N, comm, base=base)
    found = gradient_of(model, adjoint=ADJOINT[way](comm))
    assert_same(found, gradient_of(model, adjoint={"strategy": "direct"}))


def test_strategy_that_does_not_exist(comm):
    with pytest.raises(ga.InputError, match=r"strategy must be"):
        gradient_of(chain(N, comm), adjoint={"strategy": "gmres"})


def test_unknown_keyword(comm):
    with pytest.raises(TypeError, match=r"tolerance"):
        gradient_of(chain(N, comm), adjoint={"tolerance": 1e-3})


def test_too_few_iterations(comm):
    options = {"ksp_max_it": 1, "pc_type": "none"}
    with pytest.raises(
        ga.ConvergenceError, match=r"adjoint solve of eigenpair 1 .*raise ksp_max_it"
    ):
        gradient_of(convected(comm), adjoint={"strategy": "ksp", "solver_parameters": options})
