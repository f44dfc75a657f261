"""What the tests of `geneig-adjoint doctor` do with findings."""

from geneig_adjoint.machine import parallel, stack


def only(findings):
    (found,) = findings
    return found


def bad(findings):
    return [one for one in findings if one.verdict != "ok"]


def forget():
    """Look at imports again."""
    stack.petsc.cache_clear()
    parallel.mpi.cache_clear()
