"""What rounding has made of a Jordan block, told from matrices that are merely hard to solve."""

import numpy as np
import pytest
from builders import matrix
from hard_pencils import chain_of_four

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.exceptional_points import explained_as_defective

FEW = {"strategy": "ksp", "solver_parameters": {"ksp_max_it": 1, "pc_type": "none"}}


@pytest.mark.parametrize("left", ["auto", False])
@pytest.mark.parametrize(("seed", "target"), [(1, 1.0), (1, 1.00001), (0, 1.001), (4, 1.001)])
def test_target_inside_of_the_ring_meets_an_exceptional_point(comm, seed, target, left):
    pencil = ga.Pencil(matrix(chain_of_four(seed), comm), owned=True)
    with (
        pencil,
        pytest.raises(
            ga.DefectiveEigenvalueError, match="around the target must be simple"
        ) as caught,
    ):
        ga.solve_eigenproblem(pencil, 1, target=target, left=left)
    assert caught.value.condition > 1e6


@pytest.mark.parametrize("seed", range(2))
def test_target_among_pseudospectra_meets_none(comm, seed):
    """Values 1 apart, of conditions that no factor survives, which no rounding moves."""
    rng = np.random.default_rng(seed)
    A = np.diag(np.arange(1.0, 13.0)) + 1e3 * np.triu(rng.standard_normal((12, 12)), 1)
    with (
        ga.Pencil(matrix(A, comm), owned=True) as pencil,
        pytest.raises(ga.ConvergenceError, match="the target may hit an eigenvalue"),
    ):
        ga.solve_eigenproblem(pencil, 1, target=2.05)


def large_dense():
    """Return a full matrix with the values 1, ..., 7 and 1e10, nearly."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    return turn * [*np.arange(1.0, 8.0), 1e10] @ turn.T + np.triu(np.full((8, 8), 0.1), 1)


def large_corner():
    return np.diag(np.arange(1.0, 9.0)) + np.diag([0, 1e10], 6) + np.diag([1e10], 7)


@pytest.mark.parametrize("matrix_of", [large_dense, large_corner])
def test_solver_that_is_stopped_early_is_no_exceptional_point(comm, matrix_of):
    """Beside an entry of 1e10 all gaps are small."""
    mats = [matrix(item, comm) for item in (matrix_of(), np.eye(8))]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.9, left=False) as pairs,
        pytest.raises(ga.ConvergenceError, match="adjoint solve of eigenpair 0 must reach rtol"),
    ):
        ga.gradient(model, p, pairs, obj.Eigenvalue(0), **FEW)


@pytest.mark.parametrize(
    ("gap", "error"), [(1e-7, ga.DefectiveEigenvalueError), (1.0, ga.ConvergenceError)]
)
def test_of_operators_without_entries_the_neighbour_tells(comm, gap, error):
    """Nothing can be factored there."""
    model = ga.OperatorModel(
        n=5, apply_a=lambda p, v: 9.0 * v, vjp=lambda p, *columns: p, comm=comm
    )
    with (
        model.assemble({"p": np.zeros(1)}) as pencil,
        pytest.raises(error),
        explained_as_defective(pencil, 0, 9.0, gap),
    ):
        raise ga.ConvergenceError("a solve")
