"""All checks, in the order in which lacks are mended."""

from __future__ import annotations

from geneig_adjoint.machine import parallel, resources, stack
from geneig_adjoint.machine.findings import Check, Finding, safely

CHECKS: tuple[Check, ...] = (
    stack.check_python,
    stack.check_numpy,
    parallel.check_mpi4py,
    parallel.check_mpirun,
    parallel.check_launch,
    stack.check_selection,
    stack.check_petsc,
    stack.check_slepc,
    stack.check_h5py,
    resources.check_optional,
    resources.check_variables,
    parallel.check_threads,
    resources.check_memory,
    resources.check_disk,
    resources.check_limits,
    resources.check_encoding,
)


def examine() -> list[Finding]:
    """Return what all checks find; one that fails is a finding itself."""
    return [finding for check in CHECKS for finding in safely(check)]
