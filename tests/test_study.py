"""What a study computes and writes, and what is refused on the way."""

import os

import h5py
import numpy as np
import pytest
from study_files import (
    DOUBLE,
    ELEMENTS,
    PYTHON,
    N,
    P,
    chain_derivatives,
    chain_mesh,
    chain_pencil,
    market_array,
    petsc_binary,
    result,
    run,
    study_folder,
    write_chain,
)

from geneig_adjoint.errors import StudyError
from geneig_adjoint.study.check import check_study
from geneig_adjoint.study.settings import read_study


def check_chain(outcome):
    """Compare with the dense closed form.

    Eigenvalues near 0.1 ... 1 are found to 1e-15 and vectors to 1e-12 of their length.
    """
    lam, gradient = chain_derivatives(P, 0)
    frequency = np.sqrt(lam) / (2 * np.pi)
    assert outcome.values["f1"] == pytest.approx(frequency, rel=1e-12)
    for name, part in gradient.items():
        slope = part / (8 * np.pi**2 * frequency)
        np.testing.assert_allclose(outcome.gradients["f1"][name], slope, rtol=1e-9, atol=1e-12)
    second, gradient = chain_derivatives(P, 1)
    assert outcome.values["second"] == pytest.approx(second, rel=1e-12)
    for name, part in gradient.items():
        np.testing.assert_allclose(outcome.gradients["second"][name], part, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("text", [ELEMENTS, PYTHON], ids=["elements", "python"])
def test_study_gives_the_closed_form(tmp_path, comm, capsys, text):
    outcome, _ = run(study_folder(tmp_path, text), comm)
    check_chain(outcome)
    assert set(outcome.gradients) == {"f1", "second", "motion"}
    assert capsys.readouterr().out.count("k ") >= 3  # one line of norms per objective


def written(folder, text):
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


# A and B are linear in k^2 and m: the derivatives at p = 0 belong to k^2 and m.
MATRICES = """
[model]
A = "matrices/A.mtx"
B = "matrices/B.bin"
[solver]
count = 2
[[objective]]
name = "first"
kind = "eigenvalue"
"""


def write_matrices(folder, scalar):
    (folder / "matrices").mkdir()
    market_array(folder / "matrices" / "A.mtx", chain_pencil(P)[0])
    petsc_binary(folder / "matrices" / "B.bin", chain_pencil(P)[1], scalar)
    text, zero = MATRICES, {"k": 0 * P["k"], "m": 0 * P["m"]}
    base = chain_pencil(zero)
    for side, (letter, name) in enumerate([("A", "k"), ("B", "m")]):
        for e in range(N + 1):
            unit = {**zero, name: np.eye(N + 1)[e]}
            file = f"matrices/d{letter}_{e}.mtx.gz"
            market_array(folder / file, chain_pencil(unit)[side] - base[side])
            text += f'[[derivative]]\nname = "{name}"\n{letter} = "{file}"\n'
    return written(folder, text)


def test_matrix_files_with_derivatives_give_the_closed_form(tmp_path, comm, scalar_build):
    scalar = {"real": "f8", "complex": "c16"}[scalar_build]
    outcome, folder = run(write_matrices(tmp_path, scalar), comm)
    lam, gradient = chain_derivatives(P, 0)
    assert outcome.values["first"] == pytest.approx(lam, rel=1e-12)
    # dA/d(k^2) = (dA/dk) / 2k
    expected = {"k": gradient["k"] / (2 * P["k"]), "m": gradient["m"]}
    for name, part in expected.items():
        np.testing.assert_allclose(outcome.gradients["first"][name], part, rtol=1e-9, atol=1e-12)
    assert result(folder)["gradients"]["first"]["k"]["size"] == N + 1


def test_paths_are_relative_to_the_study_file(tmp_path, comm, monkeypatch):
    path = study_folder(tmp_path / "study")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    check_chain(run(path, comm)[0])
    assert os.listdir(tmp_path / "elsewhere") == []
    check_chain(run(os.path.relpath(path), comm, "output.directory=../there")[0])
    assert (tmp_path / "there" / "result.json").exists()


def test_results_in_a_folder_with_any_name(tmp_path, comm):
    path = study_folder(tmp_path / "Prüfung №1", ELEMENTS.replace("f1", "größe"))
    outcome, folder = run(path, comm, "output.directory=Ergebnisse 結果/ω")
    assert result(folder)["objectives"]["größe"] == outcome.values["größe"]
    with h5py.File(folder / "result.h5") as file:
        np.testing.assert_array_equal(file["gradients/größe/k"], outcome.gradients["größe"]["k"])


@pytest.mark.failure("existing results", through="api")
def test_results_are_overwritten_only_when_told(tmp_path, comm):
    path = study_folder(tmp_path)
    _, folder = run(path, comm)
    old = (folder / "result.json").read_bytes()
    with pytest.raises(StudyError, match=r"must be free of results, got .*--overwrite"):
        run(path, comm)
    assert (folder / "result.json").read_bytes() == old
    run(path, comm, "output.overwrite=true", "solver.count=3")
    assert len(result(folder)["values"]) == 3


@pytest.mark.failure("unwritable output", through="api")
def test_file_in_place_of_the_output_folder_is_refused_before_any_work(tmp_path, comm):
    path = study_folder(tmp_path, ELEMENTS.replace("elements.h5", "missing.h5"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StudyError, match="must be writable, got no folder, or a link"):
        run(path, comm)


def test_results_that_cannot_be_moved_into_place_leave_nothing(tmp_path, comm):
    path = study_folder(tmp_path)
    (tmp_path / "out" / "result.h5" / "taken").mkdir(parents=True)
    with pytest.raises(StudyError, match=r"results must be writable, got .* make room"):
        run(path, comm)
    # What was computed is kept: there may be room when the run is resumed.
    assert sorted(os.listdir(tmp_path / "out")) == ["checkpoint.h5", "events.jsonl", "result.h5"]


@pytest.mark.failure("unwritable output", through="api")
def test_failure_while_writing_leaves_the_old_results(tmp_path, comm, monkeypatch):
    path = study_folder(tmp_path)
    write_chain(tmp_path / "elements.h5", chain_mesh())
    _, folder = run(path, comm)
    names = {"result.json", "result.h5", "modes.vtu"}
    assert set(os.listdir(folder)) == {*names, "events.jsonl"}
    old = {name: (folder / name).read_bytes() for name in names}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geneig_adjoint.study.results.VtuFile.cell_field", full)
    with pytest.raises(StudyError, match="got No space left on device"):
        run(path, comm, "output.overwrite=true", "solver.count=3")
    assert set(os.listdir(folder)) == {*names, "events.jsonl", "checkpoint.h5"}
    assert {name: (folder / name).read_bytes() for name in names} == old


def test_vectors_are_left_out_on_request(tmp_path, comm):
    _, folder = run(study_folder(tmp_path), comm, "output.vectors=false")
    with h5py.File(folder / "result.h5") as file:
        assert set(file) == {"values", "gradients", "parameters"}


@pytest.mark.failure("repeated eigenvalue", through="api")
def test_double_eigenvalue_fails_alone(tmp_path, comm):
    objectives = "".join(
        f'[[objective]]\nname = "e{j}"\nkind = "eigenvalue"\npair = {j}\n' for j in range(3)
    )
    text = '[model]\npython = "model.py:build"\n[solver]\ncount = 3\n' + objectives
    outcome, folder = run(study_folder(tmp_path, text, model=DOUBLE), comm)
    assert set(outcome.failures) == {"e1", "e2"}
    assert outcome.values == pytest.approx({"e0": 1.0, "e1": 2.0, "e2": 2.0})
    np.testing.assert_allclose(outcome.gradients["e0"]["k"], [1.0, 0.0, 0.0], atol=1e-14)
    assert set(outcome.gradients) == {"e0"}
    written_result = result(folder)
    assert set(written_result["gradients"]) == {"e0"}
    assert written_result["failures"]["e1"].startswith("DegenerateEigenvalueError: ")
    assert [1, 2] in written_result["clusters"]
    assert set(written_result["gradient_errors"]) == {"e0"}
    assert 0 < written_result["gradient_errors"]["e0"] < 1e-10
    assert written_result["completeness"]["method"] == "all"


def test_ready_objectives_of_vectors(tmp_path, comm):
    text = ELEMENTS + (
        '[[objective]]\nname = "own"\nkind = "mode_shape"\nreference = "shape.npy"\n'
        '[[objective]]\nname = "square"\nkind = "quadratic"\nrows = [0, 1]\nweights = [2, 3]\n'
        '[[objective]]\nname = "mass"\nkind = "quadratic"\nmatrix = "B.mtx"\npairs = [0, 1]\n'
        '[[objective]]\nname = "ks"\nkind = "ks"\nof = "eigenvalue"\nrho = 10.0\n'
        '[[objective]]\nname = "k"\nkind = "keff"\n'
    )
    path = study_folder(tmp_path, text)
    A, B = chain_pencil(P)
    values, vectors = np.linalg.eig(np.linalg.solve(B, A))
    lam = np.sort(values)[:2]
    x = vectors[:, np.argmin(values)]
    x = x / np.sqrt(x @ B @ x) * np.sign(x[np.argmax(abs(x))])
    np.save(tmp_path / "shape.npy", x)
    market_array(tmp_path / "B.mtx", B)
    outcome, _ = run(path, comm)
    expected = {
        "own": 1.0,
        "square": 2 * x[0] ** 2 + 3 * x[1] ** 2,
        "mass": 2.0,
        "ks": -np.log(np.exp(-10 * lam).sum()) / 10,
        "k": 1 / lam[0],
        "motion": x[0] - 0.5 * x[1],
    }
    # The dense vectors of this small pencil carry some 1e-14.
    assert {name: outcome.values[name] for name in expected} == pytest.approx(expected, rel=1e-11)


def test_check_passes_on_a_good_study(tmp_path, comm, capsys):
    reports = check_study(read_study(study_folder(tmp_path)), comm)
    assert {name: report.failures for name, report in reports.items()} == {
        "f1": (),
        "second": (),
        "motion": (),
    }
    table = capsys.readouterr().out
    assert table.count("verdict             passed") == 3
