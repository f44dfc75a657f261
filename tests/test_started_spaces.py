"""What adjoint spaces begin with: the eigensolver's basis as a whole, where it is one."""

import numpy as np
import pytest
from builders import matrix, whole
from test_block_krylov import KINDS, dense_solution, right_sides

import geneig_adjoint as ga
from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.krylov_space import KrylovSpace
from geneig_adjoint.started_spaces import begun


@pytest.fixture
def ways(monkeypatch):
    """Record which bases are begun with, and which are added to eigenvectors."""
    seen = []
    begin, add = KrylovSpace.begin_krylov_basis, KrylovSpace.add_krylov_basis

    def begun(self, vectors):
        seen.append(("begun", begin(self, vectors)))
        return seen[-1][1]

    def added(self, vectors):
        seen.append(("added", add(self, vectors)))
        return seen[-1][1]

    monkeypatch.setattr(KrylovSpace, "begin_krylov_basis", begun)
    monkeypatch.setattr(KrylovSpace, "add_krylov_basis", added)
    return seen


def with_basis(pairs, change):
    basis = change(pairs.factor.krylov_basis())
    object.__setattr__(pairs.factor, "krylov_basis", lambda: basis)


def check_solutions(comm, pairs):
    """Solve with the space of some pairs, and compare with dense matrices; return the space."""
    full, own = right_sides(comm, 5, 2, pairs.right)
    systems = [System(j, (j,), own, np.full((1, 2), 0.3)) for j in range(pairs.count)]
    solver = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
    for system, found in zip(systems, solver.solve(systems), strict=True):
        v, _ = dense_solution("symmetric", pairs, system, full, transposed=True)
        assert found.accuracy <= 1e-10
        # errors of the pairs, 1e-12, by condition numbers below 1e4
        assert np.linalg.norm(whole(pairs, found.v) - v) <= 1e-8 * np.linalg.norm(v)
    return solver.space


def deviation(space):
    gram = space.comm.allreduce(space.basis.conj().T @ space.weigh(space.basis))
    return np.abs(gram - np.eye(space.size)).max()


def unchecked(comm):
    """Return the pencil and pairs of one pass: a second start would leave its own basis."""
    A, B, _ = KINDS["symmetric"]
    pencil = ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True)
    return pencil, ga.solve_eigenproblem(pencil, 5, target=0.0, count_check="off")


def test_the_basis_of_the_eigensolver_is_the_first_part_of_the_space(comm, ways):
    pencil, pairs = unchecked(comm)
    with pencil, pairs:
        basis = pairs.factor.krylov_basis()
        space = check_solutions(comm, pairs)
        assert ways == [("begun", True)]
        assert deviation(space) <= 1e-12  # 60 vectors, a few roundings each
        first = space.basis[:, : basis.shape[1]]
        inside = first @ comm.allreduce(first.conj().T @ pencil.multiply_b(basis))
        assert np.abs(inside - basis).max(initial=0.0) <= 1e-10  # by its condition, below 1e4


@pytest.mark.parametrize("part", [1e-1, 2e-3])
def test_a_basis_far_from_orthonormal_is_made_so(comm, ways, part):
    """Its Gram matrix has eigenvalues of 5e-3 and 2e-6, where two factors are needed."""

    def oblique(basis):
        changed = basis.copy(order="F")
        changed[:, -3] = basis[:, -4] * np.sqrt(1 - part**2) + part * basis[:, -3]
        return changed

    pencil, pairs = unchecked(comm)
    with pencil, pairs:
        with_basis(pairs, oblique)
        space = check_solutions(comm, pairs)
        assert ways == [("begun", True)]
        assert deviation(space) <= 1e-12  # as above


def test_a_basis_of_dependent_vectors_is_left_to_the_slower_way(comm, ways):
    pencil, pairs = unchecked(comm)
    with pencil, pairs:
        with_basis(pairs, lambda basis: np.asfortranarray(basis[:, [0, *range(basis.shape[1])]]))
        check_solutions(comm, pairs)
        assert ways == [("begun", False), ("added", True)]


def test_a_basis_beside_the_eigenvectors_is_added_to_them(comm, ways):
    """As a search for missed pairs leaves it."""

    def beside(basis):
        x = pairs.right
        lengths = comm.allreduce(np.einsum("ij,ij->j", x.conj(), pencil.multiply_b(x)))
        along = comm.allreduce(x.conj().T @ pencil.multiply_b(basis)) / lengths[:, None]
        return np.asfortranarray((basis - x @ along)[:, pairs.count :])

    pencil, pairs = unchecked(comm)
    with pencil, pairs:
        with_basis(pairs, beside)
        factors = 1.0 / (pairs.values.real - pairs.factor.sigma.real)
        space, *known = begun(pairs.factor, pairs.right, factors, hermitian=False)
        for found, measured in zip(known, space.measured(pairs.right), strict=True):
            np.testing.assert_allclose(found, measured, rtol=1e-12, atol=1e-12)  # of length 1
        ways.clear()
        check_solutions(comm, pairs)
        assert ways[0][0] == "added"


def test_spaces_without_some_of_the_eigenvectors_are_not_taken(comm, ways, monkeypatch):
    """Whatever a basis looks like: the space must hold what is left out of solutions."""
    monkeypatch.setattr("geneig_adjoint.started_spaces.BESIDE", 0.0)
    pencil, pairs = unchecked(comm)
    with pencil, pairs:
        with_basis(pairs, lambda basis: np.asfortranarray(basis[:, pairs.count + 2 :]))
        check_solutions(comm, pairs)
        assert [way for way, _ in ways] == ["begun", "added"]
