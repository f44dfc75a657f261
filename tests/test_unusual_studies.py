"""The smallest studies, counts that are not possible, and names in any alphabet."""

import h5py
import numpy as np
import pytest
from builders import K0, M0
from study_files import ELEMENTS, MODEL, PYTHON, result, study_folder, write_chain

import geneig_adjoint as ga
from geneig_adjoint.cli import main
from geneig_adjoint.io import write_elements

ONE = """
[model]
elements = "one.h5"
[solver]
count = 1
[[objective]]
name = "value"
kind = "eigenvalue"
"""


def one_element(folder):
    """Write a study of one element with one free row: lam = 3 k / m."""
    path = study_folder(folder, ONE)
    dofs, ids = np.array([[-1, 0]]), np.array([0])
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"k": ids}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": ids}),
    ]
    p = {"k": np.array([2.0]), "m": np.array([3.0])}
    write_elements(folder / "one.h5", 1, blocks, p)
    return path


@pytest.mark.failure("small problems", through="command")
def test_study_of_one_element_and_one_row(tmp_path):
    assert main(["run", str(one_element(tmp_path))]) == 0
    found = result(tmp_path / "out")
    assert found["objectives"]["value"] == pytest.approx(2.0, rel=1e-13)
    slopes = {name: part["entries"] for name, part in found["gradients"]["value"].items()}
    assert slopes["k"] == pytest.approx([1.0], rel=1e-13)
    assert slopes["m"] == pytest.approx([-2.0 / 3.0], rel=1e-13)


@pytest.mark.failure("small problems", through="command")
@pytest.mark.parametrize("count", [0, -1, 2, 100])
def test_count_that_is_not_possible_ends_a_study(tmp_path, capsys, count):
    words = ["run", str(one_element(tmp_path)), "--set", f"solver.count={count}"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "count must" in said
    assert f"got {count}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("text", [ELEMENTS, PYTHON], ids=["table", "model"])
def test_all_names_may_be_in_any_alphabet(tmp_path, capsys, text):
    folder = tmp_path / "Prüfstand 東京" / "№ 1"
    text = text.replace("elements.h5", "элементы.h5").replace("model.py", "modèle.py")
    study = study_folder(folder, text.replace('"f1"', '"größe"'), modèle=MODEL)
    write_chain(folder / "элементы.h5")
    study = study.rename(folder / "Studie ω.toml")
    out = "output.directory=Ergebnisse 結果"
    assert main(["run", str(study), "--set", out]) == 0
    assert main(["run", str(study), "--set", out, "--overwrite"]) == 0
    out = folder / "Ergebnisse 結果"
    assert main(["collect", str(out), "-o", str(folder / "Tabelle ü.h5")]) == 0
    with h5py.File(folder / "Tabelle ü.h5") as file:
        assert file["table/objective.größe"][0] == result(out)["objectives"]["größe"]
    assert str(out) in capsys.readouterr().out
