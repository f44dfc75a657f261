"""Which calls of a loop look for missed pairs."""

import pytest
from builders import chain, chain_parameters

import geneig_adjoint as ga
from geneig_adjoint import chain as loop

N = 6
P = chain_parameters(N)


@pytest.fixture
def solves(monkeypatch):
    """Record every count_check; raise what the list of errors holds, in its order."""
    seen, errors, solve = [], [], loop.solve_eigenproblem

    def recorded(pencil, **settings):
        seen.append(settings["count_check"])
        for error in errors[:1]:
            del errors[0]
            raise error
        return solve(pencil, **settings)

    monkeypatch.setattr(loop, "solve_eigenproblem", recorded)
    return seen, errors


def test_every_third_call_is_counted(comm, solves):
    seen, _ = solves
    with ga.value_and_gradient(
        chain(N, comm), ga.objectives.Eigenvalue(0), count_check="every:3"
    ) as f:
        for _ in range(5):
            f(P)
    assert seen == ["inertia", "off", "off", "inertia", "off"]


def test_call_after_a_failed_count_is_counted(comm, solves):
    seen, errors = solves
    text = "pairs must all be found, got 1 of 2; look again"
    errors.append(ga.MissingEigenvaluesError(text, found=1, expected=2, window=(0.0, 1.0)))
    with ga.value_and_gradient(chain(N, comm), ga.objectives.Eigenvalue(0)) as f:
        with pytest.raises(ga.MissingEigenvaluesError, match="got 1 of 2"):
            f(P)
        f(P)
        f(P)
    assert seen == ["inertia", "inertia", "off"]


def test_first_call_after_closing_is_counted(comm, solves):
    seen, _ = solves
    f = ga.value_and_gradient(chain(N, comm), ga.objectives.Eigenvalue(0))
    for _ in range(2):
        f(P)
        f(P)
        f.close()
    assert seen == ["inertia", "off"] * 2
