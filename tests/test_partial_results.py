"""A partial result is still a result: what exists is written, the rest has its reason."""

import pytest
from study_files import MODEL, PYTHON, P, chain_derivatives, result, study_folder

from geneig_adjoint import exit_codes
from geneig_adjoint.cli import main
from geneig_adjoint.errors import ConvergenceError, MissingEigenvaluesError
from geneig_adjoint.study import run
from geneig_adjoint.study.collect import collected

LOOSE = """
[adjoint]
strategy = "ksp"
[adjoint.options]
ksp_max_it = 1
pc_type = "none"
"""


def test_failed_adjoint_leaves_the_others(tmp_path, capsys):
    path = study_folder(tmp_path, PYTHON + LOOSE)
    assert main(["run", str(path)]) == 4
    content = result(tmp_path / "out")
    assert list(content["failures"]) == ["motion"]
    assert content["failures"]["motion"].startswith("ConvergenceError: the adjoint solve")
    assert list(content["gradients"]) == ["f1", "second"]
    assert list(content["objectives"]) == ["f1", "second", "motion"]
    assert content["objectives"]["second"] == pytest.approx(chain_derivatives(P, 1)[0], rel=1e-12)
    assert not (tmp_path / "out" / "checkpoint.h5").exists()
    assert collected([tmp_path / "out"])[0]["exit_code"] == exit_codes.CONVERGENCE
    shown = capsys.readouterr().out
    assert "motion: ConvergenceError: the adjoint solve" in shown
    assert "failed" in shown


def failing_solve(monkeypatch, keep, kind=ConvergenceError, **data):
    """Let the eigensolve fail with some good pairs."""
    before = run.solve_eigenproblem

    def solve(pencil, **arguments):
        pairs = before(pencil, **arguments)
        pairs.close()
        left = pairs.reordered(keep)
        raise kind("two were wanted", pairs=left, **data)

    monkeypatch.setattr(run, "solve_eigenproblem", solve)


def test_too_few_pairs_leave_the_objectives_of_the_others(tmp_path, monkeypatch, capsys):
    failing_solve(monkeypatch, [0], residual_norm=1e-15)
    assert main(["run", str(study_folder(tmp_path, PYTHON))]) == 4
    content = result(tmp_path / "out")
    lam = chain_derivatives(P, 0)[0]
    assert content["values"] == [[pytest.approx(lam, rel=1e-12), 0.0]]
    assert list(content["objectives"]) == list(content["gradients"]) == ["f1", "motion"]
    assert list(content["failures"]) == ["solve eigenproblem", "second"]
    assert content["failures"]["solve eigenproblem"] == "two were wanted"
    assert content["failures"]["second"].startswith("InputError: ")
    assert "note: two were wanted" in capsys.readouterr().err


UNKNOWN = {
    "refused": (ConvergenceError, {"residual_norm": 1e-3}),
    "missing": (MissingEigenvaluesError, {"found": 2, "expected": 3, "window": (0.0, 1.0)}),
}


@pytest.mark.parametrize(("kind", "data"), UNKNOWN.values(), ids=UNKNOWN)
def test_pairs_with_unknown_numbers_have_no_objectives(tmp_path, monkeypatch, kind, data):
    failing_solve(monkeypatch, [0, 1], kind, **data)
    assert main(["run", str(study_folder(tmp_path, PYTHON))]) == 4
    content = result(tmp_path / "out")
    assert len(content["values"]) == 2
    assert content["objectives"] == content["gradients"] == {}
    assert list(content["failures"]) == ["solve eigenproblem", "f1", "second", "motion"]
    assert "the numbers of the pairs are not known" in content["failures"]["f1"]


def test_solve_without_any_pair_writes_nothing(tmp_path, monkeypatch, capsys):
    def solve(*_, **__):
        raise ConvergenceError("none were found")

    monkeypatch.setattr(run, "solve_eigenproblem", solve)
    assert main(["run", str(study_folder(tmp_path, PYTHON))]) == 4
    assert not (tmp_path / "out" / "result.json").exists()
    assert capsys.readouterr().err.count("geneig-adjoint: none were found") == 1


# Krylov-Schur that may restart ten times only: some pairs are there, not all, from any start.
SHORT = """
[solver.options]
eps_max_it = 10
eps_ncv = 14
"""


def test_eigensolve_that_ends_early_gives_what_it_has(tmp_path, capsys):
    text = PYTHON.replace("count = 2", 'count = 8\nwhich = "largest_real"' + SHORT)
    path = study_folder(tmp_path, text, model=MODEL.replace('get("n", 8)', 'get("n", 60)'))
    code = main(["run", str(path)])
    said = capsys.readouterr()
    content = result(tmp_path / "out")
    assert code == 4, said.err
    assert 0 < len(content["values"]) < 8
    assert "the eigensolve must give 8 pairs" in content["failures"]["solve eigenproblem"]


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([6], 6), ([6, 4, 6], 4), ([4], 4), ([6, 70], 70)]
)
def test_the_exit_code_is_that_of_the_worst(codes, code):
    assert exit_codes.worst(codes) == code
