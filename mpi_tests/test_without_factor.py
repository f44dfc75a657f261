"""Without a factor on several ranks: the numbers of one rank with a factor, errors everywhere."""

import numpy as np
import pytest
from hexahedra import COUNT, block, far, motion, solved
from mpi4py import MPI
from ranks import differing, raised_everywhere, refused_if_different

import geneig_adjoint as ga
from geneig_adjoint.near_null_space import NearNullSpace

# eps_tol 1e-12 and gaps of a tenth; adjoints 1e-10, times ten.
RTOL = 1e-9


def derivatives(comm, model, p, pairs):
    weight = np.cos(0.1 * np.arange(*pairs.rows)) ** 2
    objectives = [
        ga.objectives.Eigenvalue(1),
        ga.objectives.QuadraticForm(weight, tuple(range(COUNT))),
    ]
    found = [item["density"] for item in ga.gradient(model, p, pairs, objectives)]
    p_dot = {"density": np.cos(np.arange(p["density"].size))}
    found.append(ga.jvp(model, p, pairs, p_dot).values.real)
    found.append(ga.hessian_vector_product(model, p, pairs, objectives[0], p_dot)["density"])
    return found


def alone():
    """Return values and derivatives of one rank that has a factor."""
    model, p, _ = block(MPI.COMM_SELF)
    with model.assemble(p) as pencil, solved(pencil, None) as pairs:
        return pairs.values, derivatives(MPI.COMM_SELF, model, p, pairs)


def test_ranks_without_a_factor_agree_with_one_rank_with_it(comm):
    model, p, modes = block(comm)
    with model.assemble(p) as pencil, solved(pencil, modes) as pairs:
        values, found = pairs.values, derivatives(comm, model, p, pairs)
        assert any("block Davidson" in note for note in pairs.info.notes)
        for array in (values, *found):
            assert len(set(comm.allgather(array.tobytes()))) == 1
    expected_values, expected = comm.bcast(alone() if comm.rank == 0 else None)
    assert np.allclose(values, expected_values, rtol=1e-11, atol=0)
    for one, other in zip(found, expected, strict=True):
        assert far(one, other) < RTOL


def test_inner_solves_and_ksp_agree_with_the_default(comm):
    model, p, modes = block(comm)
    options = {"eps_type": "krylovschur"}
    with (
        model.assemble(p) as pencil,
        solved(pencil, modes) as pairs,
        model.assemble(p) as other,
        solved(other, modes, solver_parameters=options) as krylov,
    ):
        assert np.allclose(pairs.values, krylov.values, rtol=1e-11, atol=0)
        one = ga.gradient(model, p, pairs, motion(pairs))["density"]
        two = ga.gradient(model, p, krylov, motion(krylov), strategy="ksp")["density"]
        assert far(one, two) < RTOL


CHANGES = {
    "absent": (lambda modes: None, "arguments of solve_eigenproblem must be the same"),
    "fewer": (lambda modes: NearNullSpace(modes.vectors[:, :5], 3), "same number of vectors on e"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_ranks_must_agree(comm, change):
    other, match = CHANGES[change]
    model, p, modes = block(comm)
    with model.assemble(p) as pencil:
        refused_if_different(
            comm,
            match,
            lambda: solved(pencil, differing(comm, modes, other(modes))).close(),
        )


def test_wrong_rows_of_the_last_rank_are_refused_everywhere(comm):
    model, p, modes = block(comm)
    cut = slice(0, None if comm.rank < comm.size - 1 else -3)
    with model.assemble(p) as pencil:
        raised_everywhere(
            comm, ga.InputError, "must hold this rank's", solved, pencil,
            NearNullSpace(modes.vectors[cut], 3),
        )  # fmt: skip


def test_rank_without_nodes(comm):
    """More ranks than layers of elements."""
    model, p, modes = block(comm, cells=(2, 3, 2))
    with (
        model.assemble(p) as A,
        model.assemble(p) as B,
        solved(A, None, 2) as direct,
        solved(B, modes, 2) as pairs,
    ):
        assert np.allclose(pairs.values, direct.values, rtol=1e-11, atol=0)
        found = [ga.gradient(model, p, one, motion(one))["density"] for one in (pairs, direct)]
        assert far(*found) < RTOL
