"""What a machine or a build of PETSc cannot do is said at first use, in one line."""

import warnings

import numpy as np
import pytest
from builders import K0, chain, chain_parameters
from study_files import study_folder

import geneig_adjoint as ga
from geneig_adjoint import assembly, builds, launches
from geneig_adjoint.builds import index_error, missing_factor_error
from geneig_adjoint.cli import main
from geneig_adjoint.errors import MissingPackageError

ALONE = {
    "Open MPI": ({"OMPI_COMM_WORLD_SIZE": "4"}, "all 4 processes.*Open MPI's mpirun started them"),
    "MPICH": ({"PMI_SIZE": "2"}, "all 2 processes must be one MPI job.*PMI_SIZE=2"),
    "srun": ({"SLURM_STEP_NUM_TASKS": "8"}, "srun started them"),
}
WELL = {
    "one": {"OMPI_COMM_WORLD_SIZE": "1"},
    "batch script": {"SLURM_NTASKS": "8"},
    "nonsense": {"PMI_SIZE": "two"},
    "nothing": {},
}


@pytest.mark.failure("environment", through="api")
@pytest.mark.failure("environment", through="command")
@pytest.mark.parametrize(("environ", "message"), ALONE.values(), ids=ALONE)
def test_process_that_believes_it_is_alone(monkeypatch, capsys, environ, message):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    launches.warn_if_alone.cache_clear()
    with pytest.warns(RuntimeWarning, match=message):
        launches.warn_if_alone(1)
    launches.warn_if_alone(1)  # once only
    launches.warn_if_alone(2)
    launches.warn_if_alone.cache_clear()
    # The command line refuses: each process would write the same files.
    assert main(["run", "no_such.toml"]) == 2
    assert "all " in capsys.readouterr().err
    assert launches.alone_by_mistake(environ, 2) is None


@pytest.mark.parametrize("environ", WELL.values(), ids=WELL)
def test_process_that_is_alone_by_right(environ):
    assert launches.alone_by_mistake(environ, 1) is None


def test_first_pencil_warns(monkeypatch, comm):
    monkeypatch.setenv("PMI_SIZE", "3")
    launches.warn_if_alone.cache_clear()
    model, p = chain(4, comm), chain_parameters(4)
    with pytest.warns(RuntimeWarning, match="got a world of 1 process in each"):
        model.assemble(p).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.assemble(p).close()
    launches.warn_if_alone.cache_clear()


def test_rank_of_a_launcher():
    environ = {"PMI_SIZE": "3", "PMI_RANK": "2"}
    assert launches.launched_rank(environ) == 2
    assert launches.launched_rank({"PMI_RANK": "2"}) == 0
    assert launches.launched_rank({"PMI_SIZE": "3"}) == 0


def test_usage_error_comes_first(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["run"]) == 2
    assert "the following arguments are required: study" in capsys.readouterr().err


@pytest.mark.skipif(builds.LARGEST_INDEX > 2**31, reason="this build has 64-bit indices")
def test_more_rows_than_a_build_can_number(comm):
    block = ga.ElementBlock("A", np.array([[0]]), ga.ScaledKernel(np.ones((1, 1))), {"k": [0]})
    message = r"counts to 2,147,483,647, got 2,147,483,648 rows; use a PETSc configured with --with"
    with pytest.raises(ga.InputError, match=message):
        ga.ElementModel(2**31, [block], comm=comm)


def test_more_entries_than_a_build_can_number(comm, monkeypatch):
    monkeypatch.setattr(builds, "LARGEST_INDEX", 10)
    dofs = np.arange(6)[:, None] + [0, 1]
    block = ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"k": np.arange(6)})
    with pytest.raises(ga.InputError, match="got 19 nonzero entries on one rank"):
        ga.ElementModel(7, [block], comm=comm)


def test_index_errors_begin_beyond_the_largest():
    assert index_error(builds.LARGEST_INDEX, "rows") is None
    assert index_error(builds.LARGEST_INDEX + 1, "rows") is not None
    assert assembly.index_error is index_error


@pytest.mark.failure("environment", through="api")
def test_package_that_petsc_was_built_without(comm):
    """A factor of a package that no build here has: the eigensolver's, then a bordered system's."""
    model, p = chain(8, comm), chain_parameters(8)
    message = (
        r"PETSc must have been built with strumpack, which is to factor a matrix \((lu|cholesky)\)"
        ", got a build without; configure PETSc with --download-strumpack, or choose another"
    )
    with model.assemble(p) as pencil:
        options = {"st_pc_factor_mat_solver_type": "strumpack"}
        with pytest.raises(MissingPackageError, match=message):
            ga.solve_eigenproblem(pencil, solver_parameters=options)
        options = {"pc_factor_mat_solver_type": "strumpack"}
        objective = ga.objectives.LinearOutput(np.arange(8.0))
        direct = {"strategy": "direct", "solver_parameters": options}
        with ga.solve_eigenproblem(pencil) as pairs:  # noqa: SIM117  (what is expected to raise)
            with pytest.raises(MissingPackageError, match=message):
                ga.gradient(model, p, pairs, objective, **direct)


def test_remedy_calls_a_package_as_petsc_does():
    message = str(missing_factor_error("cholmod", "cholesky"))
    assert "built with cholmod, " in message
    assert "configure PETSc with --download-suitesparse, or" in message


@pytest.mark.failure("environment", through="command")
def test_missing_package_has_its_exit_code(tmp_path, capsys):
    path = str(study_folder(tmp_path))
    words = ["--set", "solver.options.st_pc_factor_mat_solver_type=strumpack"]
    assert main(["run", path, *words]) == 2
    assert "geneig-adjoint doctor` lists what there is" in capsys.readouterr().err
