"""Gradients to compare with: sharper tolerances, one factored bordered matrix per pair."""

import numpy as np

import geneig_adjoint as ga
from peers import ours
from peers.ours import comm, over_ranks  # noqa: F401  (as every peer's module)

SHARP = {"solver": {"eps_tol": 1e-14}, "count_check": "off"}
STEP = 1e-4


def prepare(problem):
    """Return the model; it is assembled three times."""
    return ours.element_model(problem)


def gradients(problem, model, meter):
    """Return gradients, and under "check" how far a central difference is from them."""
    adjoint = {"strategy": "direct", "rtol": 1e-11}
    found = ours.gradients(
        problem, (model, model.assemble(problem.p)), meter, adjoint=adjoint, **SHARP
    )
    with meter.phase("differences"):
        direction = _direction(problem)
        ends = [_values(problem, model, direction, sign * STEP) for sign in (1, -1)]
    found["check"] = {}
    for name, objective in ends[0].items():
        slope = (objective - ends[1][name]) / (2 * STEP)
        parts = np.array([found[name][key] @ moves for key, moves in direction.items()])
        # The parts of several parameters may cancel.
        found["check"][name] = np.array(abs(slope - parts.sum()) / np.abs(parts).sum())
    return found


def _direction(problem):
    """Return a smooth relative change of every parameter.

    It splits the copies of the membrane; the sum over them is differentiable all the same.
    """
    return {
        name: values * (1.0 + 0.5 * np.cos(0.37 * i + np.arange(len(values)) * 5.0 / len(values)))
        for i, (name, values) in enumerate(problem.p.items())
    }


def _values(problem, model, direction, step):
    """Return both objectives a step away."""
    p = {name: values + step * direction[name] for name, values in problem.p.items()}
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(
            pencil,
            problem.count,
            target=0.0,
            count_check="off",
            solver_parameters={"eps_tol": 1e-13},
        ) as pairs,
    ):
        return {name: objective(pairs)[0] for name, objective in ours.objectives(problem).items()}
