"""Table [optimize]: what is refused before anything is solved."""

import importlib

import numpy as np
import pytest
from searches import BELOW, SEARCH, search_folder
from sweeps import ONE

from geneig_adjoint.cli import main
from geneig_adjoint.errors import MissingPackageError, StudyError
from geneig_adjoint.study import optimizers
from geneig_adjoint.study.design import goal_of
from geneig_adjoint.study.settings import read_study

TEXT = ONE + SEARCH + BELOW
REFUSED = {
    "no table": (ONE, "objective of [optimize] must be one of f1, got None"),
    "objective": (
        TEXT.replace('"f1"\nsense', '"f2"\nsense'),
        "must be one of f1, second, got 'f2'",
    ),
    "sense": (TEXT.replace('"max"', '"best"'), "sense of [optimize] must be one of min, max"),
    "method": (TEXT.replace('"mma"', '"newton"'), "must be one of mma, slsqp, l-bfgs-b, trust"),
    "key": (TEXT.replace("tolerance", "tolerence"), "key 'tolerence' of [optimize]"),
    "no iterations": (TEXT.replace("= 60", "= 0"), "must be positive, got 0 and 1e-07"),
    "tolerance": (TEXT.replace("1e-7", "0"), "must be positive, got 60 and 0.0"),
    "bound of none": (
        TEXT.replace("k = [0.1", "q = [0.1"),
        "must name parameters among k, got 'q'",
    ),
    "parameter": (TEXT.replace('["k"]', '["q"]'), "must name parameters among k, m, got 'q'"),
    "bounds": (TEXT.replace("[0.1, 3.0]", "[0.1]"), "'k' of bounds of [optimize] must be two num"),
    "order": (TEXT.replace("[0.1, 3.0]", "[3.0, 0.1]"), "must be [low, high] with low < high"),
    "start": (TEXT.replace("[0.1, 3.0]", "[0.1, 0.2]"), "must start within the bounds, got"),
    "constraint": (TEXT.replace("mean =", "maen ="), "key 'maen' of [[optimize.constraints]]"),
    "two": (TEXT.replace("mean =", 'sum = "k"\nmean ='), "must have one of objective, mean, sum"),
    "no bound": (TEXT.replace("\nmax = 1.0", ""), "and min or max, got {'mean': 'k'}"),
    "mean of": (
        TEXT.replace('mean = "k"', 'mean = "m"'),
        "a constraint must name parameters among k",
    ),
    "value of": (
        TEXT.replace('"second"\nmax', '"f3"\nmax'),
        "of a constraint must be one of f1, sec",
    ),
    "l-bfgs-b": (TEXT.replace('"mma"', '"l-bfgs-b"'), "has no constraints but bounds, got mean(k)"),
    "options": (TEXT.replace('method = "mma"', "options = {x = true}"), "must be numbers for mma"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_search_that_cannot_be_done_is_refused(tmp_path, capsys, text, message):
    assert main(["optimize", str(search_folder(tmp_path, text))]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "design.h5").exists()


def test_folder_that_is_a_file_is_refused(tmp_path, capsys):
    path = search_folder(tmp_path)
    (tmp_path / "out").write_text("mine")
    assert main(["optimize", str(path)]) == 2
    assert "the output folder must be writable" in capsys.readouterr().err


def test_large_problems_are_not_for_slsqp():
    task = optimizers.Task(*[None] * 9)
    with pytest.raises(
        StudyError, match='must have at most 5000 variables, got 5001; choose "mma"'
    ):
        optimizers.minimize("slsqp", task, np.zeros(5001))


def test_missing_package_has_a_remedy(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'geneig-adjoint\[optimize\]'"):
        optimizers._nlopt()


def test_both_sides_of_a_constraint(tmp_path):
    text = ONE + SEARCH.replace("max = 1.0", "max = 1.0\nmin = -0.5")
    goal = goal_of(read_study(search_folder(tmp_path, text)))
    assert [(c.label, c.sign, c.scale) for c in goal.constraints] == [
        ("mean(k) <= 1", 1.0, 1.0),
        ("mean(k) >= -0.5", -1.0, 0.5),
    ]
    assert goal.objectives == ["f1"]
