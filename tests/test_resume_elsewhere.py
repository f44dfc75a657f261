"""Checkpoints of models that have changed, or number their rows by the number of ranks."""

import sys
from contextlib import nullcontext
from types import ModuleType

import numpy as np
import pytest
from resumable_studies import assert_alike, outcome_of, stop_at
from study_files import ELEMENTS, PYTHON, study_folder

from geneig_adjoint.errors import InputError, StoppedError, StudyError
from geneig_adjoint.study import checkpoint, identity
from geneig_adjoint.study.fingerprint import Fingerprints
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

SOLVE = 2
# A chain whose rows, parameters and first spring are as another module wants.
MODEL = """
import numpy as np
import geneig_adjoint as ga
from builders import K0, M0, chain_dofs, chain_parameters
from numbering_of_test import END, PARAMETERS, ROWS

def build(comm, options):
    n = 8
    dofs = chain_dofs(n)
    dofs = np.where(dofs < 0, -1, np.array(ROWS)[dofs])
    mine = np.arange(n + 1)[comm.rank::comm.size]
    place = np.array(PARAMETERS)
    blocks = [
        ga.ElementBlock("A", dofs[mine], ga.ScaledKernel(K0), {"k": place[mine]}),
        ga.ElementBlock("B", dofs[mine], ga.ScaledKernel(M0), {"m": place[mine]}),
    ]
    p = {name: np.empty(n + 1) for name in "km"}
    for name, value in chain_parameters(n).items():
        p[name][place] = value if options.get("scaled", True) else 1.0
    p["k"][place[0]] *= END
    return ga.ElementModel(n, blocks, comm=comm), p
"""
TEXT = PYTHON.split('[[objective]]\nname = "motion"')[0]
PLAIN = {"END": 1.0, "ROWS": list(range(8)), "PARAMETERS": list(range(9))}
FLIPPED = {**PLAIN, "ROWS": list(range(8))[::-1]}
OTHER_PARAMETERS = {**PLAIN, "PARAMETERS": [1, 0, *range(2, 9)]}


@pytest.fixture
def start_again(tmp_path, comm, monkeypatch):
    """Stop a study on so many ranks, change the model, and return the study for another try."""
    numbering = ModuleType("numbering_of_test")
    monkeypatch.setitem(sys.modules, "numbering_of_test", numbering)
    real = checkpoint.Checkpoint.about

    def changed(ranks, before, after, text=TEXT):
        study = read_study(study_folder(tmp_path, text, model=MODEL))
        vars(numbering).update(before)
        with monkeypatch.context() as patch:
            patch.setattr(
                checkpoint.Checkpoint, "about", lambda self: real(self) | {"ranks": ranks}
            )
            stop_at(patch, SOLVE)
            with pytest.raises(StoppedError):
                run_study(study, comm)
        for name in [name for name in sys.modules if "study_model" in name]:
            monkeypatch.delitem(sys.modules, name)  # as in a new process
        vars(numbering).update(after)
        return study

    return changed


def test_other_rows_on_other_ranks_cost_a_solve(start_again, comm, capsys):
    study = start_again(7, PLAIN, FLIPPED)
    run_study(study, comm, resume=True)
    said = capsys.readouterr().err
    assert said.count("note: the eigenproblem is solved again: 7 ranks at") == 1
    run_study(read_study(study.path, ["output.directory=whole"]), comm)
    assert_alike(outcome_of(study.directory), outcome_of(study.folder / "whole"))


UNIFORM = TEXT.replace("[solver]", "options = { scaled = false }\n[solver]")


@pytest.mark.parametrize("ranks", [1, 7])
def test_other_numbers_of_equal_parameters_are_seen(start_again, comm, ranks, capsys):
    # Neither A, B nor p tell: all parameters are 1. Gradients do.
    study = start_again(ranks, PLAIN, OTHER_PARAMETERS, UNIFORM)
    expected = {1: pytest.raises(StudyError, match="got other matrices, parameters or derivatives")}
    with expected.get(ranks, nullcontext()):
        run_study(study, comm, resume=True)
    assert capsys.readouterr().err.count("is solved again") == int(ranks == 7)


def test_other_values_on_other_ranks_are_refused(start_again, comm):
    study = start_again(7, PLAIN, {**FLIPPED, "END": 1.0 + 1e-6})
    with pytest.raises(
        StudyError, match=r"got other eigenvalues than when .* remove .*out/checkpoint.h5"
    ):
        run_study(study, comm, resume=True)


def test_probes_see_rounding_as_the_same_and_more_as_another():
    one = {"A": [0.1, 0.2], "p": [3.0]}
    assert identity.same_probes(one, {"A": [0.1 * (1 + 1e-13), 0.2], "p": [3.0]})
    assert not identity.same_probes(one, {"A": [0.1 * (1 + 1e-8), 0.2], "p": [3.0]})
    assert not identity.same_probes(one, {"A": [0.1], "p": [3.0]})
    assert not identity.same_probes(one, {"A": [0.1, 0.2]})


def test_unreadable_files_are_left_to_their_readers(tmp_path, comm):
    study = read_study(study_folder(tmp_path, ELEMENTS.replace("ts.h5", ".h5")))
    assert set(Fingerprints().of_parts(study)) >= {"model", "solver", "adjoint", "objectives"}
    with pytest.raises(InputError, match="must be an element table"):
        run_study(study, comm)


def test_digests_do_not_depend_on_the_folder(tmp_path):
    one, other = (read_study(study_folder(tmp_path / name, PYTHON)) for name in "ab")
    assert Fingerprints().of_parts(one) == Fingerprints().of_parts(other)
    assert np.unique([*Fingerprints().of_parts(one).values()]).size >= 3
