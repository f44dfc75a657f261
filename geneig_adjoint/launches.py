"""How a process was started: by a launcher whose MPI this one does not share?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cache

# Set by launchers for every process they start.  Not SLURM_NTASKS: a batch script has it too, whose
# serial programs are alone by right.
SIZES = {
    "OMPI_COMM_WORLD_SIZE": "Open MPI's mpirun",
    "PMI_SIZE": "an mpirun or srun with PMI (MPICH, Intel MPI)",
    "MV2_COMM_WORLD_SIZE": "MVAPICH's mpirun",
    "SLURM_STEP_NUM_TASKS": "srun",
}
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


def launched(environ: Mapping[str, str]) -> tuple[int, str, str]:
    """Return how many processes a launcher has started, its name and its variable.

    Not collective. (1, "", "") where no launcher is known to have started several.
    """
    for variable, launcher in SIZES.items():
        text = environ.get(variable, "")
        if text.isdecimal() and int(text) > 1:
            return int(text), launcher, variable
    return 1, "", ""


def launched_rank(environ: Mapping[str, str]) -> int:
    """Return which of the processes of a launcher this is; 0 if none is known."""
    if launched(environ)[0] == 1:
        return 0
    found = [environ[name] for name in RANKS if environ.get(name, "").isdecimal()]
    return int(found[0]) if found else 0


def alone_by_mistake(environ: Mapping[str, str], world_size: int) -> str | None:
    """Return the message for a process that MPI believes to be alone, but is not.

    Not collective. None where everything is as it should be.
    """
    count, launcher, variable = launched(environ)
    if world_size > 1 or count == 1:
        return None
    return (
        f"all {count} processes must be one MPI job, got a world of 1 process in each: "
        f"{launcher} started them ({variable}={count}) and mpi4py uses another MPI; start with "
        "the mpirun of mpi4py's MPI (`geneig-adjoint doctor` names both), or unset "
        f"{variable} if a single process is meant"
    )


@cache
def warn_if_alone(world_size: int) -> None:
    """Warn once in a process that MPI believes to be alone, but is not.  (Not collective.)"""
    wrong = alone_by_mistake(os.environ, world_size)
    if wrong is not None:
        warnings.warn(wrong, RuntimeWarning, stacklevel=2)
