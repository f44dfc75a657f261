"""Sizes of the problems, and the same problems with other numbers of modes and parameters."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from peers.problems import diffusion, elasticity, membrane

SIZES: dict[str, dict[str, Callable]] = {
    "elasticity2d": {
        "tiny": lambda size: elasticity("elasticity2d", size, (20, 12)),
        "5k": lambda size: elasticity("elasticity2d", size, (64, 38)),
        "20k": lambda size: elasticity("elasticity2d", size, (128, 78)),
        "80k": lambda size: elasticity("elasticity2d", size, (256, 155)),
        "300k": lambda size: elasticity("elasticity2d", size, (500, 300)),
    },
    "elasticity3d": {
        "tiny": lambda size: elasticity("elasticity3d", size, (8, 4, 3)),
        "8k": lambda size: elasticity("elasticity3d", size, (24, 11, 8)),
        "28k": lambda size: elasticity("elasticity3d", size, (37, 17, 13)),
        "100k": lambda size: elasticity("elasticity3d", size, (57, 27, 20)),
    },
    "diffusion": {
        "tiny": lambda size: diffusion(size, 17),
        "20k": lambda size: diffusion(size, 101),
        "100k": lambda size: diffusion(size, 225),
        "200k": lambda size: diffusion(size, 317),
    },
    "membrane": {
        "tiny": lambda size: membrane(size, 24),
        "20k": lambda size: membrane(size, 142),
        "80k": lambda size: membrane(size, 284),
    },
}


def make(name, size, *, count=None, parameters=None):
    """Return a problem of `SIZES`, or of elasticity one with other numbers.

    Parameters
    ----------
    name, size : str
    count : int, optional
        Modes wanted, all of them in the objective.
    parameters : int, optional
        Of densities: fewer than elements make patches; k times as many split every element
        matrix into k layers with a density each.

    """
    problem = SIZES[name][size](size)
    if count is not None:
        weights = np.linspace(1.0, 2.75, count)
        objective = replace(problem.vector_objective, weights=weights)
        problem = replace(problem, count=count, vector_objective=objective)
    return problem if parameters is None else _with_parameters(problem, parameters)


def _with_parameters(problem, number):
    density = problem.p["density"]
    elements = len(density)
    layers = max(1, number // elements)
    places = np.arange(elements) * min(number, elements) // elements
    terms = []
    for layer in range(layers):
        ids = places + layer * elements
        terms += [replace(term, K0=term.K0 / layers, ids=ids) for term in problem.terms]
    values = np.zeros(terms[-1].ids.max() + 1)
    for layer in range(layers):
        values[places + layer * elements] = density
    return replace(problem, terms=terms, p={"density": values})
