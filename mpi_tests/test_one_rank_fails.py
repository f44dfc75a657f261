"""Models, studies and files that fail on the last rank only: all ranks say so."""

from functools import partial, wraps

import numpy as np
import pytest
from builders import chain, chain_parameters
from ranks import assert_from_the_last_rank, last, raised_everywhere
from study_files import MODEL, PYTHON, study_folder

import geneig_adjoint as ga
from geneig_adjoint import collective, reductions
from geneig_adjoint.cli import main

pytestmark = [pytest.mark.failure("exception on one rank", through="api"), pytest.mark.any_scalars]

LATE = {"derivative_products"}
N = 11
P = chain_parameters(N)


class Broken:
    """A model of a user of which one method fails, on the last rank."""

    def __init__(self, comm, method, error):
        self.model, self.comm = chain(N, comm), comm
        self.fails = method if last(comm) else None
        self.error = error

    def __getattr__(self, name):
        method = getattr(self.__dict__["model"], name)
        return wraps(method)(partial(self.failing, method)) if name == self.fails else method

    def failing(self, method, *arguments, **keywords):
        # Most methods begin by comparing arguments, where the others hear of an error.
        for late in [method] * (self.fails in LATE):
            late(*arguments, **keywords)
        raise self.error


def gradient(model, pairs):
    ga.gradient(model, P, pairs, ga.objectives.Eigenvalue(0))


def second(model, pairs):
    ga.hessian_vector_product(model, P, pairs, ga.objectives.Eigenvalue(0), P)


def columns(model, pairs):
    ga.derivative_products(model, P, pairs.right[:, 0], "k")


USES = {
    "contract": gradient,
    "tangent": lambda model, pairs: ga.jvp(model, P, pairs, P),
    "contract_tangent": second,
    "derivative_products": columns,
    "assemble": lambda model, _: ga.value_and_gradient(model, ga.objectives.Eigenvalue(0))(P),
}
ERRORS = [ArithmeticError("worn out"), SystemExit(3), KeyboardInterrupt("worn out")]


@pytest.fixture(scope="module")
def pairs(comm):
    """Pairs of a good model, which no failure spoils."""
    with chain(N, comm).assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as found:
        yield found


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", USES)
def test_method_of_a_model_that_fails(comm, pairs, method, error):
    model = Broken(comm, method, error)
    found = raised_everywhere(comm, type(error), str(error), USES[method], model, pairs)
    assert_from_the_last_rank(comm, found)
    gradient(model.model, pairs)


def test_nan_in_the_contraction_of_one_rank(comm, pairs):
    model = Broken(comm, "contract", None)

    def failing(method, *arguments):
        found = method(*arguments)
        return {**found, "m": np.where(np.arange(N + 1) % 4 == 2, np.nan, found["m"])}

    model.failing = failing
    match = r"contract must return finite numbers, got nan at entry 2 of 'm' and 2 more"
    error = raised_everywhere(comm, ga.InputError, match, gradient, model, pairs)
    assert_from_the_last_rank(comm, error)


# -- studies --


@pytest.fixture
def study(comm, tmp_path):
    """Write a study on rank 0; return its path on every rank."""

    def write(text=PYTHON, **modules):
        path = comm.bcast(tmp_path) / "study.toml"
        for folder in [path.parent] if comm.rank == 0 else []:
            study_folder(folder, text, **modules)
        comm.barrier()
        return path

    return write


LAST = "    if comm.rank == comm.size - 1:\n        raise KeyError('mine')\n"
OBJECTIVE = PYTHON + '[[objective]]\nname = "own"\npython = "model.py:own"\n'
OWN = MODEL + "\ndef own(model):\n    comm = model.comm\n" + LAST
STUDIES = {
    "build": (PYTHON, MODEL.replace("    n =", LAST + "    n =")),
    "file": (PYTHON, "from mpi4py import MPI\ncomm = MPI.COMM_WORLD\nif True:\n" + LAST + MODEL),
    "objective": (OBJECTIVE, OWN),
}


@pytest.mark.parametrize("case", STUDIES)
def test_code_of_a_study_that_fails(comm, study, capsys, case):
    text, model = STUDIES[case]
    path = study(text, model=model)
    assert main(["run", str(path)]) == 70
    assert comm.allreduce(capsys.readouterr().err.count("KeyError: 'mine'")) == 1
    assert not list((path.parent / "out").glob("result*"))
    comm.barrier()


def test_study_that_one_rank_does_not_see(comm, study, capsys):
    path = study()
    seen = path.with_name("none.toml") if last(comm) else path
    assert main(["run", str(seen)]) == 2
    assert comm.allreduce(capsys.readouterr().err.count("none.toml")) == 1
    assert not (path.parent / "out").exists()
    comm.barrier()


# -- what rank 0 does for all --


def test_result_of_the_first_rank(comm):
    assert collective.from_first_rank(comm, lambda: comm.rank + 5) == 5


def test_error_of_the_first_rank(comm):
    def compute():
        raise np.linalg.LinAlgError("no convergence")

    raised_everywhere(
        comm, np.linalg.LinAlgError, "no convergence", collective.from_first_rank, comm, compute
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_largest_number_is_the_same_on_all_ranks(comm, bad):
    local = np.array([bad if last(comm) else 1.0, comm.rank])
    found = reductions.largest_over_ranks(comm, local)
    assert len(set(comm.allgather(found.tobytes()))) == 1
    assert found[1] == comm.size - 1
