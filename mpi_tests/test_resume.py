"""A run that is stopped on some ranks and goes on on others ends as if nothing had happened."""

from pathlib import Path

import pytest
from resumable_studies import OWN, STUDIES, assert_alike, outcome_of, stop_at
from study_files import result, study_folder

from geneig_adjoint.errors import StoppedError
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

BUILD, ASSEMBLE, SOLVE, ADJOINTS, FIRST_CONTRACTION = range(5)


@pytest.fixture
def study(comm, tmp_path):
    """Write a study; return a function that runs it on the first ranks."""
    path = comm.bcast(tmp_path)

    def write(name):
        text, model = STUDIES[name]
        for folder in [path] if comm.rank == 0 else []:
            study_folder(folder, text, model=model, own=OWN)
        comm.barrier()
        return lambda *changes: read_study(path / "study.toml", changes)

    return write


def on_ranks(comm, count, study, **options):
    """Run a study on the first ranks; return the error's text everywhere, "" if it ended."""
    part = comm.Split(int(comm.rank < count), comm.rank)
    text = ""
    if comm.rank < count:
        try:
            run_study(study, part, **options)
        except StoppedError as error:
            text = str(error)
    part.Free()
    return comm.bcast(text, root=0)


@pytest.mark.parametrize("name", STUDIES)
def test_work_goes_on_on_other_ranks(comm, study, name, monkeypatch):
    with_changes = study(name)
    fewer = max(1, comm.size - 1)
    assert on_ranks(comm, comm.size, with_changes("output.directory=whole")) == ""
    stop_at(monkeypatch, SOLVE)
    assert "stopped on request" in on_ranks(comm, fewer, with_changes())
    stop_at(monkeypatch, FIRST_CONTRACTION)
    assert "with --resume to go on" in on_ranks(comm, comm.size, with_changes(), resume=True)
    stop_at(monkeypatch, None)
    assert on_ranks(comm, 1, with_changes(), resume=True) == ""
    folder = with_changes().directory
    assert_alike(outcome_of(folder), outcome_of(Path(folder).parent / "whole"))
    comm.barrier()
    assert any("resumed from" in note for note in result(folder)["notes"])
    assert not (folder / "checkpoint.h5").exists()
    comm.barrier()
