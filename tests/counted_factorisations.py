"""How often PETSc analyses and factors."""

import itertools

import numpy as np
from petsc4py import PETSc

STAGES = ("assemble", "eigensolve", "left", "adjoint", "contract")


def factorisation_counter():
    """Return a function that counts symbolic and numeric factorisations since its last call."""
    PETSc.Log.begin()
    logs = [PETSc.Log.Stage(name) for name in ("Main Stage", *STAGES)]
    stages = [stage.id for stage in logs]
    events = [
        [PETSc.Log.Event(f"{name}{part}") for name in names]
        for names, part in (
            (("MatLUFactor", "MatCholFctr"), "Sym"),
            (("MatLUFactor", "MatCholFctr"), "Num"),
        )
    ]
    for stage, event in itertools.product(logs, itertools.chain(*events)):
        _end(stage, event)

    def totals():
        return np.array(
            [sum(e.getPerfInfo(s)["count"] for e in kind for s in stages) for kind in events]
        )

    last = [totals()]

    def since():
        last.append(totals())
        return tuple(int(count) for count in last[-1] - last[-2])

    return since


def _end(stage, event):
    """End an event that errors have left open: PETSc takes all later ones for parts of it."""

    def counts():
        before = event.getPerfInfo(stage.id)["count"]
        event.begin()
        event.end()
        return event.getPerfInfo(stage.id)["count"] > before

    stage.push()
    while not counts():
        event.end()
    stage.pop()
