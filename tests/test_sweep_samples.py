"""Table [sweep]: which samples it means, and what is refused before anything runs."""

import math

import numpy as np
import pytest
from sweeps import ONE

from geneig_adjoint.errors import InputError, StudyError
from geneig_adjoint.study.samples import samples_of
from geneig_adjoint.study.settings import read_study


@pytest.fixture
def samples(tmp_path):
    """Return the entries of all samples of a text."""

    def read(text, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
        path = tmp_path / "study.toml"
        path.write_text(ONE + text, encoding="utf-8")
        return samples_of(read_study(path))

    return read


def entries(found):
    return [sample.entries for sample in found]


def test_grid_is_every_combination_and_the_last_changes_fastest(samples):
    found = samples('[sweep.grid]\n"solver.target" = [0.0, 1.0]\nmodel.options.n = [8, 9, 10]\n')
    assert [tuple(e.values()) for e in entries(found)] == [
        (t, n) for t in (0.0, 1.0) for n in (8, 9, 10)
    ]
    assert [sample.number for sample in found] == list(range(6))
    last = found[5].study
    assert last.solver["target"] == 1.0
    assert last.model["options"] == {"n": 10}
    assert last.directory.name == "sample_0005"
    assert last.directory.parent.name == "out"


def test_values_of_a_grid_may_be_lists(samples):
    found = samples('[sweep.grid]\n"solver.interval" = [[0.0, 1.0], [1.0, 2.0]]\n')
    assert found[1].study.solver["interval"] == [1.0, 2.0]


def test_list_names_points(samples):
    text = '[[sweep.list]]\n"parameters.k" = 2.0\n[[sweep.list]]\nscale.m = 0.5\nsolver.count = 3\n'
    found = samples(text)
    assert entries(found) == [{"parameters.k": 2.0}, {"scale.m": 0.5, "solver.count": 3}]
    assert found[0].study.parameters == {"k": 2.0}
    assert found[1].study.scale == {"m": 0.5}
    assert found[1].study.solver["count"] == 3
    assert found[0].study.solver["count"] == 2


def test_csv_names_entries_in_its_first_line(samples):
    table = '\ufeffparameters.k[3], solver.which\n2.5, smallest_real\n\n1e3, "largest_real"\n'
    found = samples('[sweep]\ncsv = "points.csv"\n', points=table)
    assert entries(found) == [
        {"parameters.k[3]": 2.5, "solver.which": "smallest_real"},
        {"parameters.k[3]": 1e3, "solver.which": "largest_real"},
    ]


CUBE = """
[sweep.latin_hypercube]
count = 8
seed = {seed}
[sweep.latin_hypercube.bounds]
"parameters.k" = [1.0, 5.0]
"scale.m" = {{ low = 0.01, high = 100.0, log = true }}
"model.options.n" = {{ low = 3, high = 6, integer = true }}
"""


def test_latin_hypercube_has_one_point_per_cell(samples):
    found = entries(samples(CUBE.format(seed=1)))
    columns = {name: np.array([point[name] for point in found]) for name in found[0]}
    np.testing.assert_allclose(
        np.sort(columns["parameters.k"]), 1 + 4 * (np.arange(8) + 0.5) / 8, rtol=1e-14
    )
    np.testing.assert_allclose(
        np.sort(np.log10(columns["scale.m"])), -2 + 4 * (np.arange(8) + 0.5) / 8, rtol=1e-12
    )
    assert sorted(columns["model.options.n"]) == [3, 3, 4, 4, 5, 5, 6, 6]
    assert {type(point["model.options.n"]) for point in found} == {int}


def test_latin_hypercube_depends_on_its_seed_alone(samples):
    first, again, other = (entries(samples(CUBE.format(seed=seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_whole_numbers_on_a_logarithmic_scale(samples):
    text = CUBE.format(seed=3).replace("integer = true", "integer = true, log = true")
    found = sorted(point["model.options.n"] for point in entries(samples(text)))
    expected = [round(3 * 2 ** ((j + 0.5) / 8)) for j in range(8)]
    assert found == expected
    assert math.isclose(found[0], 3)


def cube(change, to):
    return CUBE.format(seed=1).replace(change, to)


REFUSED = {
    "nothing": ("[sweep]\n", "exactly one of grid, list, csv, latin_hypercube, got none"),
    "two": ('[sweep]\ncsv = "a"\n[sweep.grid]\n"solver.count" = [1]', "got grid and csv"),
    "unknown": ("[sweep]\ngird = 3", r"key 'gird' of \[sweep\].*did you mean 'grid'"),
    "no values": ('[sweep.grid]\n"solver.count" = 3', "a list of values per entry, got 3"),
    "empty values": ('[sweep.grid]\n"solver.count" = []', r"got \[\] for 'solver.count'"),
    "empty list": ("[sweep]\nlist = []", "list of .sweep. must give samples, got none"),
    "output": ('[sweep.grid]\n"output.directory" = ["a"]', "can vary .*got 'output.directory'"),
    "table": ("[sweep.grid]\nsolver = [1]", "can vary entries of model.*got 'solver'"),
    "wrong entry": (
        '[sweep.grid]\n"solver.cuont" = [1, 2]',
        "sample 0 of the sweep: key 'cuont' .*did you mean 'count'",
    ),
    "wrong value": (
        '[sweep.grid]\n"solver.count" = [1, "x"]',
        "sample 1 of the sweep: 'count' of .solver. must be a whole number, got 'x'",
    ),
    "no table": (
        '[sweep.grid]\n"model.python.x" = [1]\n',
        "an entry must name a table, got 'model.python.x' where 'python' is none",
    ),
    "no bounds": (cube('"parameters.k"', '"x"').split("[sweep.latin_hypercube.b")[0], "must have"),
    "bounds": (cube("[1.0, 5.0]", "[1.0]"), r"must be \[low, high\] or .*got \[1.0\]"),
    "order": (cube("[1.0, 5.0]", "[5.0, 1.0]"), "low < high.*got 5.0 and 1.0"),
    "infinite": (cube("[1.0, 5.0]", "[1.0, inf]"), "must be finite"),
    "log": (cube("low = 0.01", "low = 0.0"), "positive for log, got 0.0"),
    "key": (cube("log = true", "lgo = true"), "key 'lgo' of bounds of 'scale.m' in"),
    "count": (cube("count = 8", "count = 0"), "positive count .*got count 0"),
    "count kind": (cube("count = 8", "count = 1.5"), "must have bounds, count, seed"),
    "seed": (cube("seed = 1", "seed = -1"), "a seed from 0, got count 8 and seed -1"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_sweep_that_means_nothing_is_refused(samples, text, message):
    with pytest.raises(StudyError, match=message):
        samples(text)


TABLES = {
    "cells": ("solver.count,solver.target\n1,2\n3\n", "line 3 .*must have 2 values, got .'3'"),
    "empty cell": ("solver.count,solver.target\n1,\n", "line 2 .*must have 2 values"),
    "twice": ("solver.count,solver.count\n1,2\n", "must name every column once"),
    "no name": ("solver.count,\n1,2\n", "must name every column once"),
}


@pytest.mark.parametrize(("table", "message"), TABLES.values(), ids=TABLES)
def test_csv_that_cannot_be_read_is_refused(samples, table, message):
    with pytest.raises(InputError, match=message):
        samples('[sweep]\ncsv = "points.csv"\n', points=table)


@pytest.mark.parametrize("table", ["", "solver.count\n"])
def test_csv_without_samples_is_refused(samples, table):
    with pytest.raises(StudyError, match=r"csv of .sweep. must give samples, got none"):
        samples('[sweep]\ncsv = "points.csv"\n', points=table)


def test_missing_csv_is_refused(samples):
    with pytest.raises(InputError, match=r"none.csv must be a readable CSV file, got .*No such"):
        samples('[sweep]\ncsv = "none.csv"\n')


def test_csv_knows_numbers_that_toml_does_not_and_dates_are_texts(samples):
    table = "scale.k,model.options.day\n.5,2024-01-01\n-1.,12:00:00\n2.e-1,05\n"
    found = entries(samples('[sweep]\ncsv = "points.csv"\n', points=table))
    assert [entry["scale.k"] for entry in found] == [0.5, -1.0, 0.2]
    assert [entry["model.options.day"] for entry in found] == ["2024-01-01", "12:00:00", "05"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_with_other_marks_between_columns_is_refused(samples, mark):
    with pytest.raises(InputError, match=r"commas between columns and points in numbers, got line"):
        samples('[sweep]\ncsv = "points.csv"\n', points=f"scale.k{mark}solver.count\n1,5{mark}2\n")


def test_dates_of_a_grid_are_refused(samples):
    with pytest.raises(StudyError, match=r"got 2024-01-01 for 'model.options.day'; write dates"):
        samples('[sweep.grid]\n"model.options.day" = [2024-01-01]\n')
