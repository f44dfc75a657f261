"""Rows that stand alone: constrained ones by convention, and masses on springs of their own."""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix, stiffness

import geneig_adjoint as ga
from geneig_adjoint.constraints import row_left_vectors
from geneig_adjoint.moving_rows import with_moving_rows

N = 6
"""Rows of the chain beside; its values begin at 9.9."""


def model_of(comm, stiffnesses, masses, *slopes, skew=0.0):
    """Return a chain beside rows of their own, and p = 0; slopes: rows -> dK."""
    chain = 50 * stiffness(N) + skew * (np.eye(N, k=1) - np.eye(N, k=-1))
    A = scipy.linalg.block_diag(chain, np.diag(stiffnesses))
    B = scipy.linalg.block_diag(np.eye(N), np.diag(masses))
    n, parts = len(A), []
    for slope in slopes:
        D = np.zeros((n, n))
        for (i, j), entry in slope.items():
            D[i, j] = entry
        parts.append((matrix(D, comm), None))
    mats = [matrix(array, comm) for array in (A, B)]
    return ga.MatrixModel(*mats, {"p": parts}), {"p": np.zeros(len(parts))}


def own(i):
    """Row number i of those beside the chain."""
    return N + i, N + i


CHAIN = {(0, 0): 1.0}


def solved(model, p, count, **wanted):
    return ga.solve_eigenproblem(model.assemble(p), **{"count": count, "target": 0.1, **wanted})


def test_node_with_two_equal_stiffnesses_is_a_mode(comm):
    # A plus-shaped truss between fixed supports: k_x = k_y = 2, m = 1.
    model, p = model_of(comm, [2.0, 2.0], [1.0, 1.0], {own(0): 0.3, own(1): 0.4}, CHAIN)
    pairs = solved(model, p, 2)
    assert pairs.info.constrained == ()
    [note] = [note for note in pairs.info.notes if "coupled" in note]
    assert note.startswith("2 of the pairs (0, 1) belong to 2 rows with the value 2 that nothing")
    found = ga.gradient(model, p, pairs, lambda q: (
        float(q.values.real.sum()), ga.EigenCotangent(values=np.ones(q.count)),
    ))["p"]  # fmt: skip
    np.testing.assert_allclose(found, [0.7, 0.0], rtol=1e-12, atol=1e-14)
    mu = ga.directional_derivatives(model, p, pairs, 0, {"p": np.array([1.0, 0.0])})
    np.testing.assert_allclose(mu, [0.3, 0.4], rtol=1e-12)


ONES = [1.0] * 6
# 1/49 in units of which the ratios differ by rounding
ROUNDED = [np.arange(1.0, 7.0) / 49 * 3.3, np.arange(1.0, 7.0) / 49]


@pytest.mark.parametrize(
    ("stiffnesses", "masses", "value"),
    [
        (*ROUNDED, 3.3),
        (ONES, [1.0, 1 + 1e-12, 1.0, 1.0, 1 - 1e-12, 1.0], 1.0),
        ([3.0] * 6, ONES, 3.0),
        ([1 + 2e-16, 1 - 1e-10], [1.0, 1.0], 1.0),
    ],
)
def test_constrained_rows_are_equal_up_to_rounding(comm, stiffnesses, masses, value):
    model, p = model_of(comm, stiffnesses, masses, CHAIN)
    pairs = solved(model, p, 2)
    assert pairs.info.constrained == tuple(range(pairs.count))
    [note] = [note for note in pairs.info.notes if "constrained rows with" in note]
    start = f"belong to {len(masses)} constrained rows with the value "
    assert float(note.split(start)[1].split(":")[0]) == pytest.approx(value, rel=1e-9)
    # Beside p they are what they are here.
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == pairs.info.constrained


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_rows_with_a_value_of_their_own_are_a_mass_on_springs(comm, count):
    model, p = model_of(comm, [3.0] * count, [1.0] * count, CHAIN)
    pairs = solved(model, p, count)
    assert pairs.info.constrained == ()
    assert f"belong to {count} rows with the value 3 that nothing" in pairs.info.notes[0]


@pytest.mark.parametrize("slope", [{own(0): 1e-3}, {(N, 0): 1e-3, (0, N): 1e-3}], ids=str)
def test_rows_that_a_parameter_changes_or_couples_are_modes(comm, slope):
    model, p = model_of(comm, [1.0], [1.0], slope)
    pairs = solved(model, p, 1)
    assert pairs.info.constrained == (0,)
    assert with_moving_rows(model, p, pairs, ()) is pairs
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == ()


def test_one_parameter_for_one_of_two_springs_is_enough(comm):
    model, p = model_of(comm, [1.0, 1.0], [1.0, 1.0], {own(1): 1.0})
    pairs = solved(model, p, 2)
    assert pairs.info.constrained == (0, 1)
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == ()


def test_columns_of_constrained_rows_may_move(comm):
    # Codes that replace rows only leave the columns to the solver.
    model, p = model_of(comm, [1.0], [1.0], {(0, N): 1.0}, skew=3.0)
    pairs = solved(model, p, 1, left=False)
    assert pairs.info.constrained == (0,)
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == (0,)


class Constrained:
    """A user's model: rows are replaced after assembly, derivatives are left as they are."""

    def __init__(self, inner, rows):
        self.inner, self.rows = inner, rows

    def assemble(self, p, *, out=None):
        pencil = self.inner.assemble(p, out=out)
        for mat in (pencil.A, pencil.B):
            mat.zeroRowsColumns(self.rows, 1.0)
        return pencil

    def contract(self, *given):
        return self.inner.contract(*given)


def test_derivatives_left_in_constrained_rows_prove_nothing(comm):
    model, p = model_of(comm, [7.0, 8.0], [2.0, 2.0], {own(0): 1.0, own(1): 1.0})
    rows = np.array([N, N + 1], dtype="i")
    user = Constrained(model, rows)
    pairs = solved(user, p, 2)
    assert pairs.info.constrained == (0, 1)
    contracted = user.contract(p, pairs.right, pairs.right, pairs.right)["p"]
    assert np.abs(contracted).max() > 0.5
    assert with_moving_rows(user, p, pairs, (0,)).info.constrained == (0, 1)
    # The rows are not this model's at all.
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == (0, 1)


def test_distributed_parameters(comm):
    own_rows = np.array_split(np.arange(4), comm.size)[comm.rank]
    dofs = own_rows[:, None] + np.array([[0, 1]])
    chain = ga.ElementBlock(
        "A", dofs, ga.ScaledKernel(50 * np.array([[1.0, -1.0], [-1.0, 1.0]])), {"k": own_rows}
    )
    last = np.array([[5]])[: int(comm.rank == 0)]
    spring = ga.ElementBlock("A", last, ga.ScaledKernel(np.eye(1)), {"k": 4 + 0 * last[:, 0]})
    model = ga.ElementModel(6, [chain, spring], comm=comm)
    vec = matrix(np.eye(5), comm).createVecRight()
    vec.set(1.0)
    p = {"k": vec}
    pairs = solved(model, p, 1, target=0.9)
    assert pairs.info.constrained == (0,)
    assert with_moving_rows(model, p, pairs, (0,)).info.constrained == ()
    assert vec.min()[1] == vec.max()[1] == 1.0


def test_left_vectors_of_rows(comm):
    columns = {(0, N): 5.0, (1, N + 1): 2.0, (3, N + 2): 1.0}
    model, _ = model_of(comm, [2.0, 4.0, 1.0], [1.0, 2.0, 1.0], columns, skew=3.0)
    # Columns stay, as after zeroRows: right vectors are no unit vectors.
    pencil = model.assemble({"p": np.ones(1)})
    with ga.solve_eigenproblem(pencil, 3, target=0.1, left=False) as pairs:
        left = row_left_vectors(pencil, pairs.values, pairs.right)
        gram = pairs.inner(left, pencil.multiply_b(pairs.right))
        np.testing.assert_allclose(gram, np.eye(3), rtol=0, atol=1e-12)
        residual = pencil.multiply_a(left, hermitian=True)
        residual = residual - pencil.multiply_b(left, hermitian=True) * pairs.values.conj()
        assert np.abs(residual).max(initial=0.0) < 1e-11  # eps_tol
