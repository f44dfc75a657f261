"""Searches on several ranks: the method runs on rank 0, all evaluate, all end alike."""

import numpy as np
import pytest
from searches import (
    BELOW,
    OWN,
    SEARCH,
    best_chain,
    best_design,
    history,
    search_folder,
    stopping,
    summary,
)
from study_files import MODEL
from sweeps import ONE

import geneig_adjoint as ga
from geneig_adjoint.cli import main


@pytest.fixture
def study(comm, tmp_path):
    """Write a study with a search on rank 0; return the study file on every rank."""

    def write(text=ONE + SEARCH, **modules):
        folder = comm.bcast(tmp_path)
        for place in [folder] if comm.rank == 0 else []:
            search_folder(place, text, **modules)
        comm.barrier()
        return folder / "study.toml"

    return write


def optimize(comm, path, *words):
    code = main(["optimize", str(path), *words])
    assert comm.allgather(code) == [code] * comm.size
    comm.barrier()
    return code


@pytest.mark.any_scalars
def test_best_chain_is_that_of_one_rank(comm, study):
    path = study(ONE + SEARCH + BELOW)
    assert optimize(comm, path) == 0
    best = summary(path.parent)["best"]["objective"]
    assert best == pytest.approx(best_chain(0.22), rel=2e-5)
    comm.barrier()


DISTRIBUTED = MODEL.replace("chain_parameters\n", "chain_parameters, distributed\n").replace(
    "chain_parameters(n)", "{k: distributed(v, comm) for k, v in chain_parameters(n).items()}"
)


def test_distributed_parameters_are_searched_too(comm, study):
    path = study(ONE + SEARCH, model=DISTRIBUTED)
    assert optimize(comm, path) == 0
    assert summary(path.parent)["best"]["objective"] == pytest.approx(best_chain(), rel=2e-5)
    design = best_design(path.parent)
    assert design.shape == (9,)
    assert design.mean() == pytest.approx(1.0, abs=1e-4)
    comm.barrier()


@pytest.mark.any_scalars
@pytest.mark.parametrize(
    ("action", "code", "rows"),
    [("os.kill(os.getpid(), signal.SIGUSR1)", 75, 3), ('raise KeyError("mine")', 70, 2)],
    ids=["stop", "error"],
)
def test_what_meets_one_rank_ends_all_and_is_resumed(comm, study, action, code, rows):
    path = study(OWN, model=stopping(action))
    assert optimize(comm, path) == code
    assert len(history(path.parent)) == rows
    comm.barrier()
    assert optimize(comm, path, "--resume") == 0
    assert summary(path.parent)["best"]["objective"] == pytest.approx(best_chain(0.22), rel=2e-5)
    comm.barrier()


@pytest.mark.any_scalars
def test_refused_on_all_ranks_with_one_message(comm, study, capsys):
    path = study()
    assert optimize(comm, path, "--set", "optimize.max_iterations=2") == 0
    capsys.readouterr()
    assert optimize(comm, path) == 2
    assert comm.allreduce(capsys.readouterr().err.count("geneig-adjoint: ")) == 1


def test_places_are_found_again_on_any_number_of_ranks(comm):
    from tracked_pairs import crossing

    from geneig_adjoint.tracking import Placed

    model, at = crossing(comm)
    with model, ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=2) as f:
        f.start_from(Placed(np.array([2.5, 2.0])))
        value, gradient = f(at(1.0))
    assert value == pytest.approx(2.5, rel=1e-12)
    np.testing.assert_allclose(gradient["k"], [1.0, 0.0, 0.0], atol=1e-12)
