"""The command line as a user starts it: exit codes, messages and files under mpirun."""

import os
import re
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from study_files import (
    DOUBLE,
    ELEMENTS,
    MODEL,
    PYTHON,
    STEP,
    WRONG,
    N,
    P,
    chain_derivatives,
    chain_mesh,
    result,
    study_folder,
    write_chain,
)
from test_import import WITHOUT_STACK, python

import geneig_adjoint
from geneig_adjoint.cli import main

HERE = str(Path(__file__).parent)
KEYS = {
    "values", "residuals", "left_residuals", "condition", "clusters", "normalization", "notes",
    "completeness", "objectives", "gradients", "gradient_errors", "failures", "timings",
    "versions", "ranks", "run", "exit_code",
}  # fmt: skip
NUMBERS = r"[-+]?\d\.\d+e[-+]\d\d"


@pytest.fixture
def adjoint(mpirun, monkeypatch):
    """Run ``geneig-adjoint`` on two ranks."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)  # for the models of studies

    def run(*words, timeout=40):
        return mpirun(2, "geneig-adjoint", *map(str, words), timeout=timeout)

    return run


def messages(finished):
    """Return what geneig-adjoint said about its end."""
    return re.findall(r"^geneig-adjoint: .*", finished.stderr, flags=re.MULTILINE)


def test_run_writes_what_the_design_says(adjoint, tmp_path):
    path = study_folder(tmp_path)
    write_chain(tmp_path / "elements.h5", chain_mesh())
    options = ("--", "-ga_eps_monitor", "-unheard_of", "3")
    finished = adjoint("run", path, "--set", "solver.count=3", *options)
    assert finished.returncode == 0, finished.stderr
    assert messages(finished) == []
    content = result(tmp_path / "out")
    assert set(content) == KEYS
    lam, gradient = chain_derivatives(P, 0)
    second = chain_derivatives(P, 1)[0]
    assert content["values"][:2] == [[pytest.approx(v, rel=1e-12), 0.0] for v in (lam, second)]
    assert len(content["values"]) == len(content["residuals"]) == 3
    assert max(content["residuals"]) < 1e-10
    assert content["condition"] == [1.0, 1.0, 1.0]
    assert content["clusters"] == [[0], [1], [2]]
    assert content["failures"] == {}
    assert content["ranks"] == 2
    assert content["versions"]["geneig_adjoint"] == geneig_adjoint.__version__
    steps = {"build model", "assemble", "solve eigenproblem", "differentiate 3 objectives"}
    assert set(content["timings"]) == steps
    entry = content["gradients"]["second"]["m"]
    assert entry["path"] == "gradients/second/m"
    with h5py.File(tmp_path / "out" / "result.h5") as file:
        assert [file[name].shape for name in ("values", "right", "left")] == [(3,), (N, 3), (N, 3)]
        np.testing.assert_array_equal(file[entry["path"]], entry["entries"])
        np.testing.assert_array_equal(file["parameters/k"], P["k"])
        np.testing.assert_array_equal(file["values"], np.array(content["values"])[:, 0])
    frequency = np.sqrt(lam) / (2 * np.pi)
    assert content["objectives"]["f1"] == pytest.approx(frequency, rel=1e-12)
    slope = gradient["k"] / (8 * np.pi**2 * frequency)
    np.testing.assert_allclose(content["gradients"]["f1"]["k"]["entries"], slope, rtol=1e-9)
    check_output(finished)


def check_output(finished):
    """Plain progress on stderr, PETSc's own text and one table on stdout."""
    steps = ["build model", "assemble", "solve eigenproblem", "diff", "write results"]
    lines = [line for line in finished.stderr.splitlines() if line.startswith("[")]
    assert [bool(re.fullmatch(STEP, line)) for line in lines] == [True] * 5
    assert [name in line for name, line in zip(steps, lines, strict=True)] == [True] * 5
    assert "\x1b" not in finished.stderr
    # -ga_eps_monitor reached the solver
    assert "Eigenvalue approximations and residual norms for ga_ solve" in finished.stdout
    assert finished.stdout.count("pair  eigenvalue") == 1
    assert finished.stdout.count("results in") == 1


def test_gradients_of_more_than_1000_entries_are_in_the_hdf5_file_only(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    study_folder(tmp_path, PYTHON)
    for n in (999, 1000):
        words = ["--set", f"model.options.n={n}", "--set", f"output.directory=n{n}"]
        assert main(["run", str(tmp_path / "study.toml"), *words]) == 0
        content = result(tmp_path / f"n{n}")["gradients"]["f1"]["k"]
        assert content["size"] == n + 1
        assert ("entries" in content) == (n + 1 <= 1000)
        with h5py.File(tmp_path / f"n{n}" / "result.h5") as file:
            assert file[content["path"]].shape == (n + 1,)


SLOW = ("--set", "model.options.n=300", "--", "-ga_eps_max_it", "1", "-ga_eps_ncv", "3")
WHICH = ("--set", "solver.which=largest_real")
EXPECTED = {
    "study": (2, "run", ELEMENTS.replace("count", "cuont"), MODEL, (), "did you mean 'count'"),
    "file": (3, "run", ELEMENTS.replace("ts.h5", ".h5"), MODEL, (), "must be an element table"),
    "convergence": (4, "run", PYTHON, MODEL, (*WHICH, *SLOW), "the eigensolve must give 2 pairs"),
}


# Studies and tables are read before PETSc is asked for anything.
NO_PETSC = {"study": pytest.mark.any_scalars, "file": pytest.mark.any_scalars}


@pytest.mark.parametrize(
    ("code", "command", "text", "model", "words", "message"),
    [pytest.param(*case, id=name, marks=NO_PETSC.get(name, ())) for name, case in EXPECTED.items()],
)
def test_expected_error_has_its_code_and_one_message(
    adjoint, tmp_path, code, command, text, model, words, message
):
    finished = adjoint(command, study_folder(tmp_path, text, model=model), *words)
    assert finished.returncode == code, finished.stderr
    assert len(messages(finished)) == 1
    assert message in messages(finished)[0]
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.failure("wrong derivative", through="command")
def test_wrong_gradient_fails_the_check(adjoint, tmp_path):
    text = PYTHON.split('[[objective]]\nname = "second"')[0]
    finished = adjoint("check", study_folder(tmp_path, text, model=WRONG))
    assert finished.returncode == 5, finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout.count("verdict             FAILED") == 1
    assert "the derivative in 'k' must agree with differences" in finished.stdout
    assert "contract and tangent of the model contradict each other" in finished.stdout


def test_good_gradient_passes_the_check_with_a_readable_table(tmp_path, capsys):
    assert main(["check", str(study_folder(tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert shown.count("verdict             passed") == 3
    table = shown.split("\nf1\n--\n")[1].split("\nsecond\n")[0]
    assert re.search(r"^value +0\.\d+$", table, flags=re.MULTILINE)
    assert len(re.findall(rf"^ +{NUMBERS} +{NUMBERS} ", table, flags=re.MULTILINE)) == 5
    assert re.search(rf"^  k +{NUMBERS} +{NUMBERS} +\d\.\de-\d\d$", table, flags=re.MULTILINE)
    assert max(map(len, table.splitlines())) <= 100


THREE = '[model]\npython = "model.py:build"\n[solver]\ncount = 3\n' + "".join(
    f'[[objective]]\nname = "e{j}"\nkind = "eigenvalue"\npair = {j}\n' for j in range(3)
)


@pytest.mark.failure("repeated eigenvalue", through="command")
def test_missing_gradient_leaves_the_others(adjoint, tmp_path):
    finished = adjoint("run", study_folder(tmp_path, THREE, model=DOUBLE))
    assert finished.returncode == 6, finished.stderr
    assert "Traceback" not in finished.stderr
    content = result(tmp_path / "out")
    assert set(content["failures"]) == {"e1", "e2"}
    assert set(content["gradients"]) == {"e0"}
    assert set(content["objectives"]) == {"e0", "e1", "e2"}
    assert "does not exist, see below" in finished.stdout


def raising(condition, statement):
    return MODEL.replace("    n =", f"    if {condition}:\n        {statement}\n    n =")


ON_ONE = "comm.rank == 1"
# The others do not come: no need to wait for them long.
IMPATIENT = """
from geneig_adjoint import collective, endings
collective.PATIENCE = 0.5
endings.crowding = lambda: 1.0
"""
UNEXPECTED = {
    "one rank": (raising(ON_ONE, 'raise KeyError("mine")'), "KeyError: 'mine'"),
    "sys.exit": (IMPATIENT + raising(ON_ONE, "raise SystemExit(0)"), "SystemExit: 0"),
}


@pytest.mark.failure("exception on one rank", through="command")
@pytest.mark.parametrize(("model", "message"), UNEXPECTED.values(), ids=UNEXPECTED)
def test_exception_of_user_code_ends_the_job_with_one_traceback(adjoint, tmp_path, model, message):
    start = time.monotonic()
    finished = adjoint("run", study_folder(tmp_path, PYTHON, model=model))
    assert time.monotonic() - start < 20  # start-up, and 2 s of waiting for the other rank
    assert finished.returncode == 70, finished.stderr
    assert finished.stderr.count("Traceback") == 1
    assert message in finished.stderr


# The others are then in the objective's own reduction.
OBJECTIVE = """
def factory(model):
    def objective(pairs):
        if model.comm.rank == 1:
            raise KeyError("mine")
        return pairs.comm.allreduce(1.0), ga.EigenCotangent()
    return objective
"""


def test_exception_in_an_objective_on_one_rank_ends_the_job(adjoint, tmp_path):
    text = PYTHON + '[[objective]]\nname = "own"\npython = "model.py:factory"\n'
    path = study_folder(tmp_path, text, model=IMPATIENT + MODEL + OBJECTIVE)
    finished = adjoint("run", path, timeout=15)
    assert finished.returncode == 70, finished.stderr
    assert "KeyError: 'mine'" in finished.stderr


def test_exception_on_all_ranks_is_an_internal_error(tmp_path, capsys):
    model = raising("True", 'raise KeyError("mine")')
    assert main(["run", str(study_folder(tmp_path, PYTHON, model=model))]) == 70
    text = capsys.readouterr().err
    assert text.count("Traceback (most recent call last)") == 1
    assert "KeyError: 'mine'" in text
    assert "geneig-adjoint: internal error" in text


@pytest.mark.any_scalars
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "the following arguments are required: study"),
        (["rnu", "x.toml"], "invalid choice: 'rnu'"),
        (
            ["run", "x.toml", "--bogus"],
            "--bogus; options of PETSc and SLEPc come last, after --",
        ),
        ([], "the following arguments are required: command"),
        (["check", "x.toml", "--overwrite"], "unrecognized arguments: --overwrite"),
    ],
)
def test_usage_error_is_one_message_with_the_usage(capsys, words, message):
    assert main(words) == 2
    text = capsys.readouterr().err
    assert text.count("geneig-adjoint: ") == 1
    assert message in text
    assert "usage: geneig-adjoint" in text


@pytest.mark.parametrize(("words", "shown"), [(["--debug"], 1), ([], 0)])
def test_debug_shows_the_traceback_of_an_expected_error(tmp_path, capsys, words, shown):
    path = study_folder(tmp_path, ELEMENTS.replace("ts.h5", ".h5"))
    assert main(["run", str(path), *words]) == 3
    text = capsys.readouterr().err
    # The error itself; tracebacks of its causes may stand before it.
    assert text.count("\ngeneig_adjoint.errors.InputError: ") == shown
    assert ("Traceback (most recent call last)" in text) == bool(shown)
    assert text.count("geneig-adjoint: ") == 1


def test_overwrite_replaces_results(tmp_path, capsys):
    path = str(study_folder(tmp_path))
    assert main(["run", path]) == 0
    assert main(["run", path]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert main(["run", path, "--overwrite", "--set", "solver.count=3"]) == 0
    assert len(result(tmp_path / "out")["values"]) == 3


@pytest.mark.failure("missing package", through="command")
def test_missing_stack_is_one_message_with_the_remedy():
    start = "import sys; from geneig_adjoint.cli import main; sys.exit(main(['run', 'x.toml']))"
    finished = python(WITHOUT_STACK, start)
    assert finished.returncode == 2
    assert finished.stderr.count("geneig-adjoint: ") == 1
    assert "install python3-petsc4py" in finished.stderr
