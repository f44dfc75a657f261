"""Sweeps on several ranks: each sample for itself, one record, the same end everywhere."""

from pathlib import Path

import pytest
from sweeps import MODES, STIFFNESS, frequencies, statuses, sweep_folder

from geneig_adjoint.cli import main

pytestmark = pytest.mark.any_scalars

DONE = ("done", 0)


@pytest.fixture
def study(comm, tmp_path):
    """Write a study with a sweep on rank 0; return the study file on every rank."""

    def write(*arguments, **modules):
        folder = comm.bcast(tmp_path)
        for place in [folder] if comm.rank == 0 else []:
            sweep_folder(place, *arguments, **modules)
        comm.barrier()
        return folder / "study.toml"

    return write


def together(comm, *words):
    """Run the command line; return its exit code, which must be that of every rank."""
    code = main([str(word) for word in words])
    assert comm.allgather(code) == [code] * comm.size
    return code


def test_samples_give_the_same_on_any_number_of_ranks(comm, study):
    path = study(STIFFNESS)
    assert together(comm, "sweep", path) == 0
    found = frequencies(path.parent)
    assert statuses(path.parent) == [DONE] * 4
    # f1 grows with the square root of the law floor + k^2 of all springs
    ratios = [((0.01 + k**2) / 1.01) ** 0.5 for k in (1.0, 2.0, 4.0, 8.0)]
    assert [f / found[0] for f in found] == pytest.approx(ratios, rel=1e-10)
    comm.barrier()


@pytest.mark.parametrize("mode", ["raise", "exit"])
def test_error_on_all_ranks_is_that_of_one_sample(comm, study, mode):
    path = study(MODES.format(mode))
    assert together(comm, "sweep", path) == 70
    assert statuses(path.parent) == [DONE, ("failed", 70), DONE, DONE]
    comm.barrier()
    assert together(comm, "sweep", path, "--only", "0,2-3") == 0


def test_request_on_every_rank_stops_all_between_samples(comm, study):
    path = study(MODES.format("stop"))
    assert together(comm, "sweep", path) == 75
    assert len(statuses(path.parent)) == 2
    comm.barrier()
    assert together(comm, "sweep", path) == 0
    assert statuses(path.parent) == [DONE] * 4
    comm.barrier()


def test_changed_sweep_is_refused_on_all_ranks(comm, study, capsys):
    path = study(STIFFNESS)
    assert together(comm, "sweep", path, "--only", "0") == 0
    capsys.readouterr()
    assert together(comm, "sweep", path, "--set", "solver.count=3") == 2
    assert comm.allreduce(capsys.readouterr().err.count("geneig-adjoint: ")) == 1


def test_folder_belongs_to_rank_0(comm, study):
    path = study(STIFFNESS)
    assert together(comm, "sweep", path, "--only", "3") == 0
    comm.barrier()
    assert [one.name for one in Path(path.parent / "out").iterdir() if one.is_dir()] == [
        "sample_0003"
    ]
    comm.barrier()
