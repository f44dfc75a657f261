"""Tables [parameters] and [scale]: what a study makes of a model's parameters."""

import numpy as np
import pytest
from study_files import ELEMENTS, PYTHON, N, P, chain_derivatives, result, study_folder

from geneig_adjoint.cli import main
from geneig_adjoint.errors import StudyError
from geneig_adjoint.study.build import build_problem
from geneig_adjoint.study.settings import read_study


@pytest.fixture
def built(tmp_path, comm):
    """Return the parameters of the chain under some changes."""

    def build(*changes, text=ELEMENTS):
        study = read_study(study_folder(tmp_path, text), changes)
        with build_problem(study, comm) as problem:
            return {name: np.array(value) for name, value in problem.p.items()}

    return build


def test_number_sets_all_entries_and_a_list_each(built):
    p = built("parameters.k=2", f"parameters.m={list(range(1, N + 2))}")
    np.testing.assert_array_equal(p["k"], np.full(N + 1, 2.0))
    np.testing.assert_array_equal(p["m"], np.arange(1.0, N + 2))


def test_one_entry_comes_after_the_whole_and_scales_last(built):
    p = built("parameters.k[3]=7", "parameters.k=2", "scale.k=10", "scale.k[0]=0.5")
    expected = np.full(N + 1, 20.0)
    expected[0], expected[3] = 10.0, 70.0
    np.testing.assert_array_equal(p["k"], expected)
    np.testing.assert_array_equal(p["m"], P["m"])


def test_what_is_set_is_what_is_solved(tmp_path):
    path = str(study_folder(tmp_path))
    assert main(["run", path, "--set", "scale.k=1.5", "--set", "parameters.m[2]=3.0"]) == 0
    p = {name: value.copy() for name, value in P.items()}
    p["k"] *= 1.5
    p["m"][2] = 3.0
    lam, _ = chain_derivatives(p, 0)
    assert result(tmp_path / "out")["values"][0][0] == pytest.approx(lam, rel=1e-12)


STRUCTURED = """
import dataclasses
import numpy as np
import geneig_adjoint as ga
from builders import chain, chain_parameters

def build(comm, options):
    p = chain_parameters(8)
    inner = chain(8, comm)
    class Model:
        comm = inner.comm
        def assemble(self, p): return inner.assemble(flat(p))
        def contract(self, p, *v):
            g = inner.contract(flat(p), *v)
            return {"beam": {"k": g["k"]}, "m": g["m"]}
    def flat(p): return {"k": p["beam"]["k"], "m": p["m"]}
    return Model(), {"beam": {"k": p["k"]}, "m": p["m"]}
"""


def test_names_of_structures_have_slashes(tmp_path):
    path = str(study_folder(tmp_path, PYTHON, model=STRUCTURED))
    assert main(["run", path, "--set", "scale.beam/k=1.5"]) == 0
    lam, _ = chain_derivatives({"k": 1.5 * P["k"], "m": P["m"]}, 0)
    assert result(tmp_path / "out")["values"][0][0] == pytest.approx(lam, rel=1e-12)


REFUSED = {
    "name": ("parameters.kk=1", r"\[parameters\] must name parameters of the model, \['k', 'm'\]"),
    "entry of none": ("scale.kk[0]=1", r"\[scale\] must name .*\"k\[0\]\", got 'kk\[0\]'"),
    "index": ("parameters.k[9]=1", r"one of the entries 0 ... 8, got 1"),
    "list for one": ("parameters.k[0]=[1.0]", r"a number for one of the entries 0 ... 8, got \["),
    "length": ("scale.k=[1.0, 2.0]", r"must have 9 entries, or be one number for all, got 2"),
    "text": ('parameters.k="x"', r"'k' of \[parameters\] must be a number or a list of numbers"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_parameters_that_do_not_fit_are_refused(built, change, message):
    with pytest.raises(StudyError, match=message):
        built(change)
