"""The same pairs on any number of ranks, and non-convergence on all of them."""

import numpy as np
import pytest
from builders import generalized, mass, matrix, nonsymmetric, rotation, stiffness, whole
from mpi4py import MPI
from slepc4py import SLEPc

import geneig_adjoint as ga

WAYS = {
    "target": {"target": 0.3},
    "largest_real": {"which": "largest_real"},
    "largest_magnitude": {"which": "largest_magnitude"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("n", [2, 3, 12])
def test_pairs_do_not_depend_on_the_ranks(comm, kind, n, way):
    found = []
    for where in (comm, MPI.COMM_SELF):
        with generalized(n, where, kind) as pencil:
            pairs = ga.solve_eigenproblem(pencil, 2, **WAYS[way])
            rows = pairs.phase_rows
            found.append((pairs.values, whole(pairs, pairs.right), whole(pairs, pairs.left), rows))
            pairs.close()
    for parallel, serial in zip(*found, strict=True):
        # eps_tol 1e-12 over the gaps; phase and length are fixed alike
        assert np.allclose(parallel, serial, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ["nonsymmetric", "singular_B"])
def test_left_vectors(comm, kind):
    with generalized(12, comm, kind) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 4, target=0.3)
        A = nonsymmetric(12)
        B = {"nonsymmetric": mass(12) + 0.1 * np.eye(12, k=2)}.get(
            kind, np.diag(np.r_[np.ones(10), 0.0, 0.0])
        )
        y, x = whole(pairs, pairs.left), whole(pairs, pairs.right)
        assert np.allclose(y.conj().T @ A, pairs.values[:, None] * (y.conj().T @ B), atol=1e-9)
        assert np.allclose(y.conj().T @ B @ x, np.eye(pairs.count), atol=1e-9)


def test_left_vectors_by_the_bordered_system(comm):
    with generalized(12, comm, "nonsymmetric") as pencil:
        eps = SLEPc.EPS().create(comm)
        eps.setOperators(pencil.A, pencil.B)
        eps.setDimensions(nev=2)
        eps.setTolerances(tol=1e-13)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_REAL)
        st = eps.getST()
        st.setShift(0.5)
        st.getKSP().setType("preonly")
        st.getKSP().getPC().setType("lu")
        st.getKSP().getPC().setFactorSolverType("mumps")
        eps.solve()
        pairs = ga.Eigenpairs.from_eps(eps, pencil, count=2)
        assert any("transposed bordered system" in note for note in pairs.info.notes)
        y = whole(pairs, pairs.left)
        B = mass(12) + 0.1 * np.eye(12, k=2)
        residual = y.conj().T @ nonsymmetric(12) - pairs.values[:, None] * (y.conj().T @ B)
        assert np.abs(residual).max() < 1e-8  # eps_tol times ||A|| and the condition numbers
        eps.destroy()


def test_gradient_through_an_eps_of_the_user(comm):
    with generalized(12, comm, "nonsymmetric") as pencil:
        model = ga.MatrixModel(pencil.A, pencil.B, {"p": [(pencil.A, None)]})
        eps = SLEPc.EPS().create(comm)
        eps.setOperators(pencil.A, pencil.B)
        eps.setDimensions(nev=1)
        eps.setTolerances(tol=1e-13)
        eps.setTarget(0.3)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
        eps.getST().setType("sinvert")
        eps.solve()
        pairs = ga.Eigenpairs.from_eps(eps, pencil, count=1)
        gradient = ga.gradient(model, {"p": np.zeros(1)}, pairs, ga.objectives.Eigenvalue(0))
        # d lam(alpha A) / d alpha = lam
        assert np.isclose(gradient["p"][0], pairs.values[0].real, rtol=1e-9)
        eps.destroy()


def test_shift_on_an_eigenvalue(comm):
    pencil = ga.Pencil(matrix(np.diag(np.arange(1.0, 9.0)), comm))
    pairs = ga.solve_eigenproblem(pencil, 3, target=4.0)
    assert np.allclose(pairs.values, [4, 5, 3], rtol=1e-10)
    assert "the shift was moved from" in " ".join(pairs.info.notes)


def test_conjugates_and_order(comm):
    pairs = ga.solve_eigenproblem(
        ga.Pencil(matrix(rotation(6), comm)), 4, which="largest_magnitude"
    )
    assert np.allclose(pairs.values, [3 + 3j, 3 - 3j, 2 + 2j, 2 - 2j], rtol=1e-10)


def test_partial_result_on_every_rank(comm):
    pencil = ga.Pencil(matrix(stiffness(200), comm))
    options = {"eps_max_it": 1, "eps_ncv": 25}
    with pytest.raises(ga.ConvergenceError, match=r"must give 20 pairs") as caught:
        ga.solve_eigenproblem(pencil, 20, target=1.0, solver_parameters=options)
    # the pairs are this rank's part, not a copy of another rank's
    assert caught.value.pairs.count >= 1
    assert caught.value.pairs.right.shape[0] == pencil.n_local
    norms = caught.value.pairs.inner(caught.value.pairs.right, caught.value.pairs.right)
    assert np.allclose(np.diag(norms), 1.0, rtol=1e-13)


INTERVALS = {
    "real": lambda pencil: ga.solve_eigenproblem(pencil, interval=(0.5, 3.0)).count,
    "complex": lambda pencil: ga.solve_eigenproblem(pencil, 6, target=1.7).count // 2,
}


def test_interval(comm, scalar_build):
    with generalized(8, comm, "symmetric") as pencil:
        assert INTERVALS[scalar_build](pencil) == 3
