"""Slender beams and matrices that need more workspace, on several ranks."""

import numpy as np
import pytest
from builders import mass, matrix, nonsymmetric, own_rows
from test_factor_workspace import SIDE, check_lattice_solve, factored_lattice, shifted_lattice
from test_stiff_beams import beam, beam_model, deflections

import geneig_adjoint as ga
from geneig_adjoint import _petsc, factoring


@pytest.mark.parametrize("strategy", [None, "direct", "ksp"])
def test_gradient_is_that_of_the_closed_form(comm, strategy):
    cantilever = beam("mm N t")
    model, p = beam_model("mm N t"), {"p": np.zeros(3)}
    weights = deflections(cantilever)
    rows = slice(*own_rows(cantilever.n, comm))
    objective = ga.objectives.QuadraticForm(weights[rows], (0,))
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.0) as pairs:
        found = ga.gradient(model, p, pairs, objective, strategy=strategy)
    expected = comm.bcast(cantilever.gradient(weights, 0) if comm.rank == 0 else None)
    error = np.linalg.norm(found["p"] - expected) / np.linalg.norm(expected)
    assert error <= min(1e-6, found.relative_error)  # eps |K| / lam = 7e-5 at worst
    assert len({comm.bcast(found["p"].tobytes(), root=r) for r in range(comm.size)}) == 1
    assert len(set(comm.allgather(found.relative_error))) == 1


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "transposed"])
def test_factor_that_needs_more_workspace_than_estimated(comm, hermitian):
    check_lattice_solve(comm, np.cos(np.arange(SIDE**2)), hermitian=hermitian)


@pytest.mark.parametrize("kind", ["lu", "cholesky"])
def test_factors_get_more_workspace_or_fail_on_all_ranks_alike(comm, kind):
    status, workspace, residual = factored_lattice(comm, kind)
    assert status == 0
    assert workspace in factoring.WORKSPACES
    assert residual <= 1e-4  # eps times condition 1e10; without a factor: 1
    assert factored_lattice(comm, kind, mat_mumps_icntl_14=2)[:2] == (-9, 2)
    status, value = shifted_lattice(comm, kind)
    assert status == 0
    assert value == pytest.approx(1e-9, rel=1e-5)  # eps / 1e-9


def test_strategy_that_nobody_chose_gives_way_on_all_ranks(comm):
    n = 12
    A, B = nonsymmetric(n), mass(n)
    rhs = np.linspace(1.0, 2.0, n)
    rows = slice(*own_rows(n, comm))
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
        _petsc.inserted_options("ga_adjoint_", {"ksp_max_it": 1}),
    ):
        x = pairs.right[:, 0]
        where = complex(pairs.values[0]), x
        settings = [ga.AdjointSettings(), ga.AdjointSettings("direct")]
        found = []
        for item in settings:
            with ga.BorderedSystem(
                pencil, *where, transformation=pairs.factor, settings=item
            ) as system:
                found.append(system.solve(rhs[rows, None] + 0j, np.zeros(1), hermitian=True)[0])
                assert system.strategy == "direct"
    np.testing.assert_array_equal(*found)
