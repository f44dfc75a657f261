"""Studies of quadratic models: pairs, vectors and gradients are those of x, not of [x; z]."""

import h5py
import numpy as np
import pytest
from damped_bars import bar_values
from study_files import DAMPED, DAMPED_MODEL, N, result, study_folder

from geneig_adjoint.study.check import check_study
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

COPIES = """
import numpy as np
import geneig_adjoint as ga

def build(comm, options):
    own = np.arange(2)[comm.rank::comm.size]
    kernel = ga.ScaledKernel(np.ones((1, 1)))
    blocks = [ga.ElementBlock(name, own[:, None], kernel, {name: own}) for name in "KCM"]
    p = {"K": np.array([4.0, 4.0]), "C": np.array([0.2, 0.2]), "M": np.ones(2)}
    return ga.QuadraticElementModel(2, blocks, comm=comm), p
"""


def test_study_writes_pairs_of_the_quadratic_problem(tmp_path, comm):
    study = read_study(study_folder(tmp_path, DAMPED, model=DAMPED_MODEL))
    outcome = run_study(study, comm)
    # lam^2 + c lam + mu = 0 with mu = 3 mu_1 / 2, c = 0.4, m = 2; the solver's 1e-12.
    c, m, mu = 0.4, 2.0, 1.5 * bar_values(N + 1, 1)
    assert outcome.values["decay"] == pytest.approx(c / (2 * m), rel=1e-9)
    assert outcome.values["f"] == pytest.approx(np.sqrt(mu) / (2 * np.pi), rel=1e-9)
    np.testing.assert_allclose(outcome.gradients["decay"]["c"], 1 / (2 * m), rtol=1e-8)
    np.testing.assert_allclose(outcome.gradients["decay"]["m"], -c / (2 * m**2), rtol=1e-8)
    np.testing.assert_allclose(outcome.gradients["f"]["k"], outcome.values["f"] / 6, rtol=1e-8)
    with h5py.File(study.directory / "result.h5") as file:
        right, left = file["right"][:], file["left"][:]
    mode = np.sin(np.pi * np.arange(1, N + 1) / (N + 1))
    assert right.shape == left.shape == (N, 2)
    for block in (right, left):
        np.testing.assert_allclose(np.abs(mode @ block) / np.linalg.norm(mode),
                                   np.linalg.norm(block, axis=0), rtol=1e-8)  # fmt: skip
    found = result(study.directory)
    assert found["objectives"]["end"] == pytest.approx(np.abs(right[N - 1, 0]) ** 2, rel=1e-9)
    assert max(found["residuals"]) < 1e-10
    assert (study.directory / "modes.vtu").exists()


def test_check_of_a_quadratic_study(tmp_path, comm):
    # No parameter changes the mode that "end" looks at: its derivatives are zero.
    reports = check_study(read_study(study_folder(tmp_path, DAMPED, model=DAMPED_MODEL)), comm)
    assert sorted(reports) == ["decay", "end", "f"]
    assert all(report.passed for report in reports.values())


def test_values_without_gradients_are_written_for_quadratic_models(tmp_path, comm):
    text = DAMPED.replace("count = 2", "count = 4").replace(f"[{N - 1}]", "[1]")
    study = read_study(study_folder(tmp_path, text, model=COPIES))
    outcome = run_study(study, comm)
    assert sorted(outcome.failures) == ["decay", "end", "f"]
    assert outcome.values["decay"] == pytest.approx(0.1, rel=1e-9)
