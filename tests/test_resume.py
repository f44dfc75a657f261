"""Runs that are stopped and go on: the same results, nothing done twice, nothing lost unasked."""

import shutil

import numpy as np
import pytest
from resumable_studies import OWN, STUDIES, assert_alike, outcome_of, stop_at
from study_files import MODEL, PYTHON, result, study_folder, write_chain

from geneig_adjoint import _petsc
from geneig_adjoint.errors import InputError, StoppedError, StudyError
from geneig_adjoint.study import checkpoint, checkpoint_file, run
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

# Boundaries of an uninterrupted run.
BUILD, ASSEMBLE, SOLVE, ADJOINTS, FIRST, SECOND = range(6)


@pytest.fixture
def folder(tmp_path):
    """A study with results of an uninterrupted run in ``whole``."""

    def write(name="symmetric", **modules):
        text, model = STUDIES[name]
        return study_folder(tmp_path, text, **{"model": model, "own": OWN, **modules})

    return write


@pytest.fixture
def stopped(folder, comm, monkeypatch):
    """Run a study until a boundary; return its file."""

    def until(place, name="symmetric", *changes, **modules):
        path = folder(name, **modules)
        stop_at(monkeypatch, place)
        with pytest.raises(StoppedError, match=r"stopped on request \(SIGUSR1\)"):
            run_study(read_study(path, changes), comm)
        stop_at(monkeypatch, None)
        return path

    return until


@pytest.fixture
def solves(monkeypatch):
    """Count eigensolves and factors made once more."""
    counts = {"_solved": 0, "refactored": 0}

    def counted(name, function):
        def call(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(run, name, call)

    for name in counts:
        counted(name, getattr(run, name))
    return counts


@pytest.fixture(scope="module")
def whole(comm, tmp_path_factory):
    """Run every study once without a stop; return the output folders."""
    found = {}
    for name, (text, model) in STUDIES.items():
        path = study_folder(tmp_path_factory.mktemp("whole"), text, model=model, own=OWN)
        run_study(read_study(path), comm)
        found[name] = path.parent / "out"
    return found


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("place", [ASSEMBLE, SOLVE, ADJOINTS, SECOND])
def test_result_is_that_of_an_uninterrupted_run(stopped, whole, comm, name, place):
    path = stopped(place, name)
    run_study(read_study(path), comm, resume=True)
    assert_alike(outcome_of(path.parent / "out"), outcome_of(whole[name]))
    assert not (path.parent / "out" / "checkpoint.h5").exists()
    assert list(result(path.parent / "out")["gradients"]) == list(result(whole[name])["gradients"])


@pytest.mark.parametrize(
    ("place", "expected"),
    [(BUILD, (1, 0)), (SOLVE, (0, 1)), (ADJOINTS, (0, 0)), (FIRST, (0, 0))],
)
def test_nothing_is_done_twice(stopped, comm, solves, place, expected):
    path = stopped(place)
    solves.update(_solved=0, refactored=0)
    run_study(read_study(path), comm, resume=True)
    assert (solves["_solved"], solves["refactored"]) == expected


def test_finished_objectives_are_not_contracted_again(stopped, comm, monkeypatch):
    path = stopped(FIRST)
    called = []
    before = run.Differentiation._contract
    monkeypatch.setattr(
        run.Differentiation,
        "_contract",
        lambda self, work, names: called.extend(names) or before(self, work, names),
    )
    run_study(read_study(path), comm, resume=True)
    assert called == ["second", "motion"]


def test_an_unfinished_run_is_not_lost_by_accident(stopped, comm, solves):
    path = stopped(SOLVE)
    kept = path.parent / "out" / "checkpoint.h5"
    old = kept.read_bytes()
    for changes in [], ["output.overwrite=true"]:
        with pytest.raises(StudyError, match=r"must not be lost .*of this study; .* or remove"):
            run_study(read_study(path, changes), comm)
    assert kept.read_bytes() == old
    kept.unlink()
    solves.update(_solved=0)
    run_study(read_study(path, ["output.overwrite=true"]), comm)
    assert solves["_solved"] == 1
    assert not kept.exists()


def test_without_a_checkpoint_a_resumed_run_starts(folder, comm):
    path = folder()
    run_study(read_study(path), comm, resume=True)
    assert "f1" in result(path.parent / "out")["objectives"]
    with pytest.raises(StudyError, match="must be free of results"):
        run_study(read_study(path), comm, resume=True)


def test_kill_after_the_results_costs_nothing(stopped, comm, tmp_path):
    path = stopped(SECOND)
    kept = path.parent / "out" / "checkpoint.h5"
    shutil.copy(kept, tmp_path / "copy.h5")
    run_study(read_study(path), comm, resume=True)
    first = outcome_of(path.parent / "out")
    shutil.copy(tmp_path / "copy.h5", kept)  # as if it had not been removed any more
    run_study(read_study(path), comm, resume=True)
    assert_alike(outcome_of(path.parent / "out"), first)
    assert not kept.exists()


CHANGED = {
    "solver": (["solver.count=3"], {}, r"\[solver\]"),
    "adjoint": (["adjoint.rtol=1e-9"], {}, r"\[adjoint\]"),
    "options": (["model.options.n=9"], {}, r"\[model\]"),
    "source": ([], {"model": MODEL + "\n"}, r"\[model\]"),
}


@pytest.mark.parametrize(("changes", "modules", "table"), CHANGED.values(), ids=CHANGED)
def test_changed_study_is_refused(stopped, comm, changes, modules, table):
    path = stopped(SOLVE)
    for name, source in modules.items():
        (path.parent / f"{name}.py").write_text(source)
    with pytest.raises(
        StudyError, match=f"only the same study .* changes in {table} .*--overwrite"
    ):
        run_study(read_study(path, changes), comm, resume=True)
    assert (path.parent / "out" / "checkpoint.h5").exists()


def test_changed_module_that_the_model_imports_is_refused(stopped, comm):
    model, name = f"import own_of_the_model\n{MODEL}", "own_of_the_model"
    path = stopped(SOLVE, "symmetric", model=model, **{name: "STIFFNESS = 1\n"})
    (path.parent / f"{name}.py").write_text("STIFFNESS = 2\n")
    with pytest.raises(StudyError, match=r"changes in \[model\] .*import"):
        run_study(read_study(path), comm, resume=True)


def test_changed_objectives_and_their_files_are_refused(tmp_path, comm, monkeypatch):
    shape = '[[objective]]\nname = "shape"\nkind = "mode_shape"\nreference = "shape.npy"\n'
    path = study_folder(tmp_path, PYTHON + shape)
    np.save(tmp_path / "shape.npy", np.arange(8.0))
    stop_at(monkeypatch, ADJOINTS)
    with pytest.raises(StoppedError):
        run_study(read_study(path), comm)
    stop_at(monkeypatch, None)
    np.save(tmp_path / "shape.npy", np.arange(8.0) + 1)
    with pytest.raises(StudyError, match=r"changes in \[\[objective\]\]"):
        run_study(read_study(path), comm, resume=True)


def test_changed_element_table_is_refused(tmp_path, comm, monkeypatch):
    path = study_folder(tmp_path)
    stop_at(monkeypatch, SOLVE)
    with pytest.raises(StoppedError):
        run_study(read_study(path), comm)
    stop_at(monkeypatch, None)
    write_chain(tmp_path / "elements.h5").touch()
    with (tmp_path / "elements.h5").open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(StudyError, match=r"changes in \[model\]"):
        run_study(read_study(path), comm, resume=True)


def test_the_output_table_may_change(stopped, comm):
    path = stopped(SOLVE)
    run_study(read_study(path, ["output.vectors=false"]), comm, resume=True)
    assert result(path.parent / "out")["failures"] == {}


IMPORTING = MODEL.replace(
    "import numpy", "from factors_of_test import FACTOR\nimport numpy"
).replace("chain_parameters(n)\n", "{k: FACTOR * v for k, v in chain_parameters(n).items()}\n")


@pytest.fixture
def changed_import(stopped, monkeypatch, tmp_path):
    """A stopped study whose model takes a number from a module that has changed since."""
    module = type(np)("factors_of_test")
    module.FACTOR = 1.0
    monkeypatch.setitem(__import__("sys").modules, "factors_of_test", module)
    path = stopped(SOLVE, model=IMPORTING)
    # As in a new process.
    for name in [name for name in __import__("sys").modules if "study_model" in name]:
        monkeypatch.delitem(__import__("sys").modules, name)
    module.FACTOR = 1.0 + 1e-7
    return path


def test_change_in_an_imported_module_is_found(changed_import, comm):
    with pytest.raises(StudyError, match=r"got other matrices, parameters or derivatives"):
        run_study(read_study(changed_import), comm, resume=True)


def test_pairs_of_other_matrices_are_never_used(changed_import, comm, monkeypatch):
    monkeypatch.setattr(checkpoint, "same_probes", lambda *_: True)
    with pytest.raises(InputError, match="right vectors of the checkpoint must be those of these"):
        run_study(read_study(changed_import), comm, resume=True)


def test_other_scalars_are_refused(stopped, comm, monkeypatch):
    path = stopped(SOLVE)
    monkeypatch.setattr(_petsc, "SCALAR_NAME", "other")
    with pytest.raises(
        StudyError, match=r"with the scalars it was started with, .* got PETSc's other"
    ):
        run_study(read_study(path), comm, resume=True)


def damaged(content):
    """Return what may become of a file."""
    size = len(content)
    yield content[: size // 2]
    yield content[:-1]
    yield content[:600]
    for place in (checkpoint_file.HEADER + 3, size // 2, size - 2, 40):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_damaged_checkpoint_is_never_used(stopped, comm):
    path = stopped(ADJOINTS)
    kept = path.parent / "out" / "checkpoint.h5"
    for content in list(damaged(kept.read_bytes())):
        kept.write_bytes(content)
        with pytest.raises(
            InputError, match=r"got another checksum: .* start over with --overwrite"
        ):
            run_study(read_study(path), comm, resume=True)


def test_something_else_in_its_place_is_no_checkpoint(stopped, comm):
    path = stopped(SOLVE)
    (path.parent / "out" / "checkpoint.h5").write_bytes(b"")
    with pytest.raises(InputError, match="must be a checkpoint that this version can read"):
        run_study(read_study(path), comm, resume=True)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(folder, comm, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file.CheckpointWriter, "_seal", full)
    path = folder()
    run_study(read_study(path), comm)
    assert "cannot be written, the run goes on: No space left on device" in capsys.readouterr().err
    names = {file.name for file in (path.parent / "out").iterdir()}
    assert names == {"events.jsonl", "result.h5", "result.json"}


def test_without_checkpoints_nothing_is_kept(folder, comm, monkeypatch):
    path = folder()
    stop_at(monkeypatch, SOLVE)
    with pytest.raises(StoppedError, match="nothing could be kept"):
        run_study(read_study(path, ["output.checkpoint=false"]), comm)
    assert not (path.parent / "out" / "checkpoint.h5").exists()


def test_a_checkpoint_costs_no_more_time_than_it_saves(folder, comm, monkeypatch):
    saved = []
    before = checkpoint_file.CheckpointWriter.commit

    def slow(self):
        saved.append(before(self))
        checkpoint.time.sleep(0.5)

    monkeypatch.setattr(checkpoint_file.CheckpointWriter, "commit", slow)
    run_study(read_study(folder()), comm)
    assert len(saved) == 1  # after the eigensolve; the rest takes much less than half a second
