"""How often PETSc analyses and factors."""

import numpy as np
from petsc4py import PETSc

STAGES = ("assemble", "eigensolve", "left", "adjoint", "contract")


def factorisation_counter():
    """Return a function that counts symbolic and numeric factorisations since its last call."""
    PETSc.Log.begin()
    stages = [0, *(PETSc.Log.Stage(name).id for name in STAGES)]
    events = [
        [PETSc.Log.Event(f"{name}{part}") for name in names]
        for names, part in (
            (("MatLUFactor", "MatCholFctr"), "Sym"),
            (("MatLUFactor", "MatCholFctr"), "Num"),
        )
    ]

    def totals():
        return np.array(
            [sum(e.getPerfInfo(s)["count"] for e in kind for s in stages) for kind in events]
        )

    last = [totals()]

    def since():
        last.append(totals())
        return tuple(int(count) for count in last[-1] - last[-2])

    return since
