"""A run that is stopped on some ranks and goes on on others ends as if nothing had happened."""

import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from ranks import raised_everywhere
from resumable_studies import OWN, STUDIES, assert_alike, outcome_of, stop_at
from study_files import result, study_folder

from geneig_adjoint import pencil
from geneig_adjoint.errors import InputError, StoppedError
from geneig_adjoint.study.checkpoint_file import CheckpointReader, CheckpointWriter, read_rows
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study
from geneig_adjoint.study.signals import StopRequest

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


@pytest.mark.parametrize("name", ["distributed", "nonsymmetric", "quadratic"])
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


def test_gradients_stay_on_the_ranks_that_have_the_parameters(comm, study, monkeypatch):
    with_changes = study("distributed")
    stop_at(monkeypatch, FIRST_CONTRACTION)
    assert "stopped on request" in on_ranks(comm, comm.size, with_changes())
    stop_at(monkeypatch, None)
    outcome = run_study(with_changes(), comm, resume=True)  # read again, and found now
    folder = with_changes().directory
    with h5py.File(folder / "result.h5") as file:
        for name, parts in outcome.gradients.items():
            for parameter, part in parts.items():
                written = file[f"gradients/{name}/{parameter}"][()]
                np.testing.assert_array_equal(part.local, written[slice(*part.rows)])
                assert comm.allreduce(len(part.local)) == len(part) == len(written)
                assert part.norm == pytest.approx(np.linalg.norm(written), rel=1e-14)
                entries = result(folder)["gradients"][name][parameter]["entries"]
                assert entries == written.tolist()
    comm.barrier()


def test_nothing_is_measured_by_one_rank_alone_at_the_end(comm, study, monkeypatch):
    with_changes = study("symmetric")
    stop_at(monkeypatch, FIRST_CONTRACTION)
    assert "stopped on request" in on_ranks(comm, comm.size, with_changes())
    stop_at(monkeypatch, None)
    measured, measure = [], pencil.hermitian_defect
    monkeypatch.setattr(
        pencil, "hermitian_defect", lambda mat: measured.append(mat) or measure(mat)
    )
    assert on_ranks(comm, comm.size, with_changes(), resume=True) == ""
    assert len(set(comm.allgather(len(measured)))) == 1


def test_signal_of_the_last_rank_is_agreed_on(comm):
    with StopRequest(comm) as request:
        assert request.agreed() is None
        for number in [signal.SIGUSR1] if comm.rank == comm.size - 1 else []:
            os.kill(os.getpid(), number)
        assert request.agreed() == "SIGUSR1"


def damage(comm, path):
    """Change one byte of a file."""
    for place in [path.stat().st_size // 2] if comm.rank == 0 else []:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
    comm.barrier()


def test_damage_is_one_error_on_all_ranks(comm, study, monkeypatch):
    with_changes = study("symmetric")
    stop_at(monkeypatch, ADJOINTS)
    assert on_ranks(comm, comm.size, with_changes()) != ""
    damage(comm, with_changes().directory / "checkpoint.h5")
    match = "got another checksum"
    raised_everywhere(comm, InputError, match, run_study, with_changes(), comm, resume=True)
    comm.barrier()


def test_full_disk_is_noted_once_and_the_run_goes_on(comm, study, monkeypatch, capsys):
    with_changes = study("symmetric")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointWriter, "_fill", full)
    assert on_ranks(comm, comm.size, with_changes()) == ""
    said = capsys.readouterr().err.count("checkpoint.h5 cannot be written, the run goes on")
    assert comm.allreduce(said) > 0
    assert comm.allreduce(said) == comm.bcast(said, root=0)  # rank 0 alone speaks
    comm.barrier()
    names = sorted(path.name for path in with_changes().directory.iterdir())
    assert names == ["events.jsonl", "result.h5", "result.json"]
    comm.barrier()


def test_rows_of_any_split_are_read_as_they_were_written(comm, tmp_path):
    """More ranks than rows, complex and real blocks, no vectors at all."""
    path = comm.bcast(tmp_path) / "rows.h5"
    n = 2
    bounds = np.minimum(np.arange(comm.size + 1), n)
    bounds[-1] = n
    rows = (int(bounds[comm.rank]), int(bounds[comm.rank + 1]))
    whole = np.arange(6.0).reshape(n, 3) + 1j
    blocks = {"a": whole, "b": whole.real, "c": whole[:, :0]}
    writer = CheckpointWriter(comm, path)
    for name, block in blocks.items():
        writer.rows(name, rows, block[slice(*rows)])
    assert writer.commit() is None
    readers = [CheckpointReader(path)] if comm.rank == 0 else [None]
    for name, block in blocks.items():
        found = read_rows(comm, readers[0], name, (0, n) if comm.rank == 0 else (n, n))
        np.testing.assert_array_equal(found, block[: n if comm.rank == 0 else 0])
        assert found.dtype == block.dtype
    for reader in readers[:1] if comm.rank == 0 else []:
        reader.close()
    comm.barrier()
