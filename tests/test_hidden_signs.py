"""When a solve shows that a matrix is not definite, and when it shows nothing of the kind."""

import numpy as np
import pytest
from builders import matrix

import geneig_adjoint as ga
from geneig_adjoint.definiteness import contradicts_definiteness, has_negative_direction
from geneig_adjoint.eigenpairs import Completeness

N = 200
LINE = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
LEVELS, WAVES = np.linalg.eigh(LINE)
SHIFT = LEVELS[:2].mean()
# One negative direction, the longest wave: a first look of a few steps does not see it.
HIDDEN = LINE - SHIFT * np.eye(N)
RAMP = np.diag(np.linspace(1.0, 3.0, N)) - 1.9 * np.eye(N) + 0.3 * LINE
COUNTED = Completeness("inertia", 3, 3, (0.0, 1.0))
ONE_MORE = Completeness("inertia", 3, 2, (0.0, 1.0))


def assembled(comm, A, B):
    return ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True)


def operator(comm, A, B):
    """Return the same pencil as products: it has no inertia in either build."""
    model = ga.OperatorModel(
        len(A),
        lambda _, block: A @ block,
        lambda *_: {"p": np.zeros(1)},
        apply_b=lambda _, block: B @ block,
        comm=comm,
    )
    return model.assemble({"p": np.zeros(1)})


KINDS = {"assembled": assembled, "operator": operator}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def columns(*vectors):
    return np.asfortranarray(np.column_stack(vectors))


def mixed(square):
    """Return x of two waves with x^H B x = square |x| |B x|: the two levels are -+d."""
    # cos^2 - sin^2 of the positive and the negative wave
    angle = 0.5 * np.arccos(square)
    return np.cos(angle) * WAVES[:, 1] + np.sin(angle) * WAVES[:, 0]


@pytest.mark.parametrize("square", [-1.0, -0.1, -1e-3, -1e-6])
def test_a_vector_of_negative_square_shows_it(comm, kind, square):
    with kind(comm, RAMP, HIDDEN) as pencil:
        assert pencil.definite  # as it looks
        block = columns(WAVES[:, 9], mixed(square), WAVES[:, 20])
        assert contradicts_definiteness(pencil, block, COUNTED)


@pytest.mark.parametrize("square", [1.0, 1e-3, 0.0, -1e-12])
def test_positive_squares_and_rounding_show_nothing(comm, kind, square):
    with kind(comm, RAMP, HIDDEN) as pencil:
        block = columns(WAVES[:, 9], mixed(square), WAVES[:, 20])
        assert not contradicts_definiteness(pencil, block, COUNTED)


def test_more_pairs_than_were_counted_show_it_where_a_second_look_does(comm, kind):
    # x^H B x > 0 for all that was computed: what is negative lies elsewhere.
    with kind(comm, RAMP, HIDDEN) as pencil:
        assert contradicts_definiteness(pencil, columns(WAVES[:, 9]), ONE_MORE)


@pytest.mark.parametrize("record", [COUNTED, Completeness("second start", 3), ONE_MORE])
def test_a_definite_matrix_stays_one(comm, kind, record):
    # A count that is wrong for another reason is no proof: B has no negative direction.
    with kind(comm, RAMP, LINE) as pencil:
        assert not contradicts_definiteness(pencil, columns(WAVES[:, 9]), record)


def test_a_count_that_agrees_shows_nothing(comm, kind):
    with kind(comm, RAMP, HIDDEN) as pencil:
        assert not contradicts_definiteness(pencil, columns(WAVES[:, 9]), COUNTED)


def test_the_second_look_is_harder_than_the_first(comm, kind):
    with kind(comm, RAMP, HIDDEN) as pencil:
        assert pencil.B_positive
        assert has_negative_direction(pencil)
    with kind(comm, RAMP, LINE) as pencil:
        assert not has_negative_direction(pencil)


# -- errors of another kind --


@pytest.mark.parametrize("B", [HIDDEN, LINE], ids=["hidden", "definite"])
def test_a_mistake_in_the_options_says_nothing_about_the_matrices(comm, B):
    with assembled(comm, RAMP, B) as pencil:
        with pytest.raises(ga.OptionError, match="nonsense"):
            ga.solve_eigenproblem(pencil, 2, solver_parameters={"eps_type": "nonsense"})
        assert pencil.problem_type == "ghep"
        assert pencil.definite
        assert pencil.B_positive


def test_the_same_pencil_is_found_out_by_a_solve(comm):
    with assembled(comm, RAMP, HIDDEN) as pencil:
        with ga.solve_eigenproblem(pencil, 2, target=-60.0) as pairs:
            assert "B looked definite and is not" in " ".join(pairs.info.notes)
        assert pencil.problem_type == "ghiep"
