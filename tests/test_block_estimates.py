"""What blocked solves say about their errors, where each kind of error dominates."""

import numpy as np
import pytest
from test_block_krylov import dense_solution, right_sides, solved

from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.krylov_space import KrylovSpace

LOOSE = 1e-2
"""Tolerance above all errors made here: nothing is mended."""


def error_and_estimate(comm, kind, spoil):
    """Return the true and the estimated relative error of a solution spoilt by a function."""
    pencil, pairs = solved(kind, comm)
    with pencil, pairs:
        full, own = right_sides(comm, 3, 1, pairs.right)
        system = System(1, (1,), own, np.zeros((1, 1)))
        BlockKrylov(pairs, hermitian=True, rtol=1e-10).solve([system])
        solver = BlockKrylov(pairs, hermitian=True, rtol=LOOSE)
        spoil(solver)
        found = solver.solve([system])[0]
        v, _ = dense_solution(kind, pairs, system, full, transposed=True)
        difference = np.hstack([found.v - v[slice(*pairs.rows)], v[slice(*pairs.rows)]])
        error, size = np.sqrt(np.diag(pairs.inner(difference, pencil.multiply_b(difference))).real)
    return error / size, found.accuracy


def known_wrongly(solver):
    """Change the images of known directions: the error is along these."""
    solver.space.images = solver.space.images * (1 + 1e-5)


@pytest.mark.parametrize("kind", ["symmetric", "interior shift"])
def test_errors_along_the_space_are_estimated(comm, kind):
    error, estimate = error_and_estimate(comm, kind, known_wrongly)
    assert error > 1e-7
    assert error / 3 <= estimate <= 300 * error  # terms may cancel, or add up


def test_errors_across_the_space_are_estimated(comm, monkeypatch):
    """Rounding of the factor, enlarged: it has no direction."""
    solve = KrylovSpace.solve

    def rough(self, block):
        found = solve(self, block)
        noise = np.random.default_rng(7).normal(size=(self.pencil.n, found.shape[1]))
        noise = noise[slice(*self.pencil.rows)] * np.abs(found).max()
        return found + 1e-6 * noise

    error, estimate = error_and_estimate(
        comm, "symmetric", lambda _: monkeypatch.setattr(KrylovSpace, "solve", rough)
    )
    assert error > 1e-7
    assert error <= estimate <= 300 * error  # a statistical one, known to be generous
