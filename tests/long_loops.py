"""Every kind of solve, adjoint and study, for loops of hundreds of rounds; run like `loops`.

The kinds of `loops` are few enough for the normal tests; these come on top of them.
"""

import atexit
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from builders import C0, K0, chain, chain_parameters
from damped_bars import damped_bar
from loops import LOOPS, N, main, weight
from petsc4py import PETSc
from resumable_studies import OWN, STUDIES
from study_files import study_folder

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.errors import StoppedError
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study
from geneig_adjoint.study.signals import StopRequest

PACKAGE = "st_pc_factor_mat_solver_type"
BLOCKS = {"st_ksp_type": "gmres", "st_pc_type": "bjacobi"}


def around_zero(*, base=K0, strategy=None, **solver_parameters):
    """Return a loop of a solve and two adjoints."""

    def loop(comm):
        model, p = chain(N, comm, base=base), chain_parameters(N)

        def once(_):
            with (
                model.assemble(p) as pencil,
                ga.solve_eigenproblem(
                    pencil, 2, target=0.0, solver_parameters=solver_parameters
                ) as pairs,
            ):
                outputs = [obj.LinearOutput(weight(pairs.rows), 1), obj.Eigenvalue(0)]
                ga.gradient(model, p, pairs, outputs, strategy=strategy)

        return once

    return loop


def without_factors(comm):
    """Davidson's method with multigrid, and adjoints by deflated conjugate gradients."""
    model, p = chain(N, comm), chain_parameters(N)

    def once(_):
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(
                pencil, 2, near_null_space=ga.NearNullSpace(np.ones((pencil.n_local, 1)))
            ) as pairs,
        ):
            outputs = [obj.LinearOutput(weight(pairs.rows), 1), obj.Eigenvalue(0)]
            ga.gradient(model, p, pairs, outputs, strategy="deflated-cg")

    return once


def quadratic(comm):
    model = damped_bar(N, comm)
    p = {name: np.array([value]) for name, value in (("k", 3.0), ("c", 0.4), ("m", 2.0))}

    def once(_):
        with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2, target=0.0) as pairs:
            ga.gradient(
                model, p, pairs, [obj.Eigenvalue(0), obj.QuadraticForm(weight(pairs.rows), (0, 1))]
            )

    return once


def stopped_and_resumed(name):
    """Return a loop of a study: stopped with a checkpoint, resumed from it, written."""

    def loop(comm):
        folder = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else ""))
        text, model = STUDIES[name]
        if comm.rank == 0:
            atexit.register(shutil.rmtree, folder)
            study_folder(folder, text, model=model, own=OWN)
        comm.barrier()
        study = read_study(folder / "study.toml", ["output.overwrite=true"])
        visits = iter(())

        def at_fourth(_):
            return "SIGUSR1" if next(visits, None) == 4 else None

        def once(_):
            nonlocal visits
            with mock.patch.object(StopRequest, "agreed", at_fourth):
                visits = iter(range(5))
                try:
                    run_study(study, comm)
                except StoppedError:
                    run_study(study, comm, resume=True)
                    return
            raise AssertionError("not stopped")

        return once

    return loop


# CHOLMOD is for real matrices.
SPD = {PACKAGE: "cholmod"} if issubclass(PETSc.ScalarType, float) else {PACKAGE: "mumps"}
LONG_LOOPS = {
    **LOOPS,
    "symmetric, CHOLMOD": around_zero(**SPD),
    "symmetric, MUMPS": around_zero(**{PACKAGE: "mumps"}),
    "nonsymmetric, MUMPS": around_zero(base=K0 + 1e-3 * C0),
    "bordered adjoint": around_zero(strategy="direct", **SPD),
    "without factors": without_factors,
    "KSP per adjoint": around_zero(base=K0 + 1e-3 * C0, strategy="ksp"),
    "iterative": around_zero(**BLOCKS),
    "quadratic": quadratic,
    "study with checkpoint": stopped_and_resumed("symmetric"),
    "quadratic study with checkpoint": stopped_and_resumed("quadratic"),
}

if __name__ == "__main__":
    main(LONG_LOOPS)
