"""Searches for a better design: methods against dense matrices, files, stops and going on."""

import errno
import json

import numpy as np
import pytest
from searches import (
    BELOW,
    OWN,
    SEARCH,
    best_chain,
    best_design,
    frequency_and_slope,
    history,
    search_folder,
    stopping,
    summary,
)
from study_files import P, chain_derivatives, result
from sweeps import ONE

from geneig_adjoint.cli import main
from geneig_adjoint.study import evaluations
from geneig_adjoint.study import search as search_module


def optimize(path, *words):
    return main(["optimize", str(path), *words])


def setting(key, value):
    return ["--set", f"optimize.{key}={value}"]


@pytest.mark.parametrize("method", ["mma", "slsqp", "trust-constr"])
def test_methods_find_the_best_chain(tmp_path, capsys, method):
    """Both constraints are active; tolerances of the methods are relative to f1, about 1e-7."""
    path = search_folder(tmp_path, ONE + SEARCH + BELOW)
    assert optimize(path, *setting("method", method), *setting("max_iterations", 200)) == 0
    end = summary(tmp_path)
    assert end["best"]["objective"] == pytest.approx(best_chain(0.22), rel=2e-5)
    assert end["feasible"]
    assert end["best"]["constraints"]["mean(k) <= 1"] == pytest.approx(1.0, abs=1e-3)
    assert end["best"]["constraints"]["second <= 0.22"] == pytest.approx(0.22, rel=1e-4)
    design = best_design(tmp_path)
    assert frequency_and_slope(design)[0] == pytest.approx(end["best"]["objective"], rel=1e-12)
    found = result(tmp_path / "out")["objectives"]["f1"]
    assert found == pytest.approx(end["best"]["objective"], rel=1e-12)
    shown = capsys.readouterr().err
    assert f"ended after {end['iterations']} iterations" in shown
    assert shown.count("iteration  objective") == 1


@pytest.mark.parametrize("method", ["mma", "slsqp", "trust-constr"])
def test_limit_of_iterations_is_kept(tmp_path, method):
    path = search_folder(tmp_path, ONE + SEARCH + BELOW)
    assert optimize(path, *setting("method", method), *setting("max_iterations", 5)) == 0
    assert summary(tmp_path)["reason"] == "max_iterations"
    assert len(history(tmp_path)) == 5


def test_without_constraints_all_bounds_are_reached(tmp_path):
    """More stiffness is always better: every k ends at its upper bound."""
    text = ONE + SEARCH[: SEARCH.index("[[optimize")]
    assert optimize(search_folder(tmp_path, text), *setting("method", "l-bfgs-b")) == 0
    np.testing.assert_allclose(best_design(tmp_path), 3.0, rtol=1e-12)


def test_smallest_is_found_too_and_lower_bounds_hold(tmp_path):
    text = ONE + SEARCH.replace('"max"', '"min"').replace("max = 1.0", "min = 1.0")
    assert optimize(search_folder(tmp_path, text)) == 0
    end = summary(tmp_path)
    assert end["best"]["constraints"]["mean(k) >= 1"] == pytest.approx(1.0, abs=1e-4)
    assert end["best"]["objective"] < 0.9 * end["first"]["objective"]
    for row in history(tmp_path):
        mean = row["constraints"]["mean(k) >= 1"]
        assert row["violation"] == pytest.approx(1 - mean, abs=1e-12)


def test_sum_of_a_parameter_is_nine_times_its_mean(tmp_path):
    path = search_folder(tmp_path)
    assert optimize(path) == 0
    mean = summary(tmp_path)["best"]["objective"]
    path.write_text(path.read_text().replace("mean = ", "sum = ").replace("max = 1.0", "max = 9.0"))
    assert optimize(path, "--overwrite") == 0
    assert summary(tmp_path)["best"]["objective"] == pytest.approx(mean, rel=1e-6)


def test_history_has_a_row_per_iteration(tmp_path, capsys):
    path = search_folder(tmp_path, ONE + SEARCH + BELOW)
    assert optimize(path, *setting("method", "slsqp")) == 0
    rows = history(tmp_path)
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert set(rows[0]) == {
        "iteration", "objective", "objectives", "constraints", "violation", "change", "residual",
        "confidence", "best", "seconds",
    }  # fmt: skip
    assert rows[0]["change"] == 0
    assert rows[0]["confidence"] is None
    assert min(row["confidence"] for row in rows[1:]) > 0.6
    assert max(row["residual"] for row in rows) < 1e-10
    assert rows[0]["objective"] == pytest.approx(frequency_and_slope(P["k"])[0], rel=1e-12)
    best = [row for row in rows if row["best"]]
    satisfied = [row["violation"] <= 1e-5 for row in best]
    assert satisfied == sorted(satisfied)  # once feasible, always feasible
    found = [row["objective"] for row, good in zip(best, satisfied, strict=True) if good]
    assert found == sorted(found)
    assert len(best) < len(rows)
    assert summary(tmp_path)["best"] == best[-1]
    shown = [line.split() for line in capsys.readouterr().err.splitlines() if line[:9].strip()]
    lines = [line for line in shown if line[0].rstrip("*").isdigit()]
    assert [line[0].endswith("*") for line in lines] == [row["best"] for row in rows]


def test_search_goes_on_from_the_best_design(tmp_path):
    path = search_folder(tmp_path)
    assert optimize(path, "--resume", *setting("max_iterations", 4)) == 0
    assert summary(tmp_path)["reason"] == "max_iterations"
    first = history(tmp_path)
    assert len(first) == 4
    assert optimize(path, "--resume") == 0
    rows = history(tmp_path)
    assert rows[:4] == first
    assert rows[4]["iteration"] == 5
    best = max((row for row in first if row["violation"] < 1e-5), key=lambda row: row["objective"])
    assert rows[4]["objective"] == pytest.approx(best["objective"], rel=1e-12)
    assert summary(tmp_path)["best"]["objective"] == pytest.approx(best_chain(), rel=2e-5)


def test_request_to_stop_is_honoured_at_the_next_iteration(tmp_path, capsys):
    path = search_folder(tmp_path, OWN, model=stopping())
    assert optimize(path) == 75
    assert len(history(tmp_path)) == 3
    assert summary(tmp_path)["reason"] == "stopped"
    assert "stopped on request; --resume goes on" in capsys.readouterr().err
    assert not (tmp_path / "out" / "result.json").exists()
    assert optimize(path) == 2
    assert "give --resume to go on with a search, --overwrite to replace" in capsys.readouterr().err
    assert optimize(path, "--resume") == 0
    assert summary(tmp_path)["best"]["objective"] == pytest.approx(best_chain(0.22), rel=2e-5)


def test_line_behind_the_checkpoint_is_dropped(tmp_path):
    """A job may be killed between the two."""
    path = search_folder(tmp_path)
    assert optimize(path, *setting("max_iterations", 3)) == 0
    with (tmp_path / "out" / "history.jsonl").open("a") as stream:
        stream.write('{"iteration": 4, "obj')
    assert optimize(path, "--resume", *setting("max_iterations", 6)) == 0
    assert [row["iteration"] for row in history(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_another_study_does_not_go_on(tmp_path, capsys):
    path = search_folder(tmp_path)
    assert optimize(path, *setting("max_iterations", 3)) == 0
    assert optimize(path, "--resume", *setting("bounds.k", "[0.2, 3.0]")) == 2
    assert "can go on with the same study only" in capsys.readouterr().err
    few = setting("max_iterations", 2)
    assert optimize(path, "--overwrite", *setting("bounds.k", "[0.2, 3.0]"), *few) == 0


def test_broken_checkpoint_is_refused(tmp_path, capsys):
    path = search_folder(tmp_path)
    assert optimize(path, *setting("max_iterations", 2)) == 0
    (tmp_path / "out" / "design.h5").write_bytes(b"half of it")
    assert optimize(path, "--resume") == 2
    assert "must be a checkpoint of a search" in capsys.readouterr().err


def test_results_of_a_run_are_not_overwritten(tmp_path, capsys):
    path = search_folder(tmp_path)
    assert main(["run", str(path)]) == 0
    assert optimize(path) == 2
    assert "/result.json of an earlier job; give --resume" in capsys.readouterr().err


def test_constraints_that_cannot_hold_are_said(tmp_path, capsys):
    text = ONE + SEARCH + BELOW.replace("max = 0.22", "max = 0.001")
    assert optimize(search_folder(tmp_path, text), *setting("max_iterations", 8)) == 4
    assert not summary(tmp_path)["feasible"]
    assert "no design satisfied all constraints" in capsys.readouterr().err


def test_error_in_an_evaluation_keeps_what_was_found(tmp_path, capsys):
    path = search_folder(tmp_path, OWN, model=stopping('raise KeyError("mine")'))
    assert optimize(path) == 70
    assert capsys.readouterr().err.count("KeyError: 'mine'") == 1
    assert len(history(tmp_path)) == 2
    assert optimize(path, "--resume", *setting("max_iterations", 4)) == 0
    assert len(history(tmp_path)) == 4


@pytest.mark.parametrize("method", ["mma", "slsqp"])
def test_error_inside_a_method_comes_out(tmp_path, capsys, monkeypatch, method):
    def failing(*_):
        raise ZeroDivisionError("of the method")

    monkeypatch.setattr(search_module.Search, "constraints", failing)
    path = search_folder(tmp_path, ONE + SEARCH + BELOW)
    assert optimize(path, *setting("method", method)) == 70
    assert "ZeroDivisionError: of the method" in capsys.readouterr().err


def test_full_disk_is_said(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(search_module, "write_checkpoint", full)
    assert optimize(search_folder(tmp_path)) == 2
    assert "make room, then go on with --resume" in capsys.readouterr().err


def test_scaled_parameters_are_not_scaled_again(tmp_path, capsys):
    """The design is found with what [scale] made of it; the results at the end are of it."""
    path = search_folder(tmp_path)
    changes = ["--set", "scale.k=0.5", "--set", "scale.m=2.0", "--set", "parameters.k[0]=1.0"]
    assert optimize(path, *changes, *setting("max_iterations", 8)) == 0
    p = {"k": best_design(tmp_path), "m": 2.0 * P["m"]}
    values = [chain_derivatives(p, j)[0] for j in (0, 1)]
    assert [v for v, _ in result(tmp_path / "out")["values"]] == pytest.approx(values, rel=1e-10)
    f1 = summary(tmp_path)["best"]["objective"]
    assert (2 * np.pi * f1) ** 2 == pytest.approx(values[1], rel=1e-10)
    assert "note: modes have changed places in the search" in capsys.readouterr().err
    more = setting("max_iterations", summary(tmp_path)["iterations"] + 1)
    assert optimize(path, *changes, *more, "--resume") == 0
    assert history(tmp_path)[-1]["objective"] == pytest.approx(f1, rel=1e-10)


def test_lost_modes_are_followed_in_smaller_steps(tmp_path, capsys, monkeypatch):
    """From a soft chain with one stiff end, a step of MMA changes its modes too much."""
    path = search_folder(tmp_path)
    changes = ["--set", "scale.k=0.5", "--set", "scale.m=2.0", "--set", "parameters.k[0]=1.0"]
    monkeypatch.setattr(evaluations, "HALVINGS", 0)
    assert optimize(path, *changes) == 4
    assert "modes [0] must continue" in capsys.readouterr().err
    monkeypatch.undo()
    assert optimize(path, *changes, "--resume") == 0


def test_options_of_a_method_reach_it(tmp_path):
    path = search_folder(tmp_path)
    words = setting("method", "slsqp") + setting("options.maxiter", 1)
    assert optimize(path, *words) == 0
    assert "Iteration limit reached" in summary(tmp_path)["reason"]


def test_wrong_option_of_mma_is_an_error(tmp_path, capsys):
    path = search_folder(tmp_path)
    assert optimize(path, *setting("options.inner_maxeval", '"x"')) == 2
    assert "options of [optimize]" in capsys.readouterr().err


def test_history_is_one_object_per_line(tmp_path):
    assert optimize(search_folder(tmp_path), *setting("max_iterations", 2)) == 0
    lines = (tmp_path / "out" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]
