"""`geneig-adjoint check`: what a study is about, and where its derivatives are wrong."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from study_files import (
    DAMPED,
    DAMPED_MODEL,
    ELEMENTS,
    MODEL,
    PYTHON,
    chain_mesh,
    market_array,
    result,
    study_folder,
    write_chain,
)
from wrong_models import COTANGENT, ENTRY, FAILING, KERNEL, ONE_OBJECTIVE, OWN_OBJECTIVE

from geneig_adjoint import solve
from geneig_adjoint.cli import main


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Models of studies import from here."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def check(tmp_path, capsys):
    """Check a study; return the exit code, stdout and stderr."""

    def run(*words, text=ELEMENTS, **modules):
        code = main(["check", str(study_folder(tmp_path, text, **modules)), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def never_solves(monkeypatch):
    def refuse(*_):
        raise AssertionError("solved")

    monkeypatch.setattr(solve, "solve_right", refuse)


def rows(said):
    """Return the table of a dry run."""
    return dict(re.findall(r"^(\S.*?)  +(.*)$", said, flags=re.MULTILINE))


@pytest.mark.usefixtures("never_solves")
def test_dry_run_says_what_would_be_solved(check, tmp_path):
    code, said, progress = check("--dry-run")
    assert code == 0
    assert "build model" in progress
    table = rows(said)
    assert table["rows"] == "8 on 1 rank"
    # Of 8 masses in a row: the diagonal and one on each side.
    assert table["A"].startswith("22 entries, ")
    assert re.search(r"bytes, norm \d", table["A"])
    assert table["block 0"] == "9 elements in A, ScaledKernel of k"
    assert table["block 1"] == "9 elements in B, ScaledKernel of m"
    assert re.fullmatch(r"9 entries, 0\.7\d* \.\.\. 1\.29\d*", table["p.k"])
    assert table["structure"] == "Hermitian, B positive"
    assert table["mesh"] == "none: no pictures of fields"
    assert re.fullmatch(r"about \d\d numbers by \w+, .*, \S+ operations", table["factor"])
    assert table["vectors"].startswith("about 73 columns, ")  # 8 of the basis, 64 of the adjoint
    assert re.fullmatch(r"about .*B at the peak, .*B now", table["memory"])
    assert re.fullmatch(r".*B here for .*B more: fits", table["free"])
    assert table["wanted"] == "count = 2"
    assert table["objectives"] == "f1, second, motion"
    assert table["results"] == str(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("never_solves")
def test_dry_run_of_other_models(check, tmp_path):
    assert "1 entry" in rows(check("--dry-run", text=DAMPED, model=DAMPED_MODEL)[1])["p.c"]
    matrices = '[model]\nA = "K.mtx"\n[[objective]]\nname = "f"\nkind = "eigenvalue"\n'
    market_array(tmp_path / "K.mtx", np.diag([1.0, 2.0, 3.0]) + np.eye(3, k=1))
    table = rows(check("--dry-run", text=matrices)[1])
    assert table["model"] == "MatrixModel"
    assert table["B"] == "identity"
    assert table["structure"] == "not Hermitian, B positive"
    assert table["wanted"] == "count = 1"


@pytest.mark.usefixtures("never_solves")
def test_dry_run_knows_mesh_and_earlier_results(tmp_path, capsys):
    path = str(study_folder(tmp_path))
    write_chain(tmp_path / "elements.h5", chain_mesh())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    assert main(["check", path, "--dry-run"]) == 0
    table = rows(capsys.readouterr().out)
    assert table["mesh"] == "10 points, 9 line"
    assert table["results"].endswith("out (has results: give --overwrite to run)")
    assert result(tmp_path / "out") == {}
    (tmp_path / "out" / "checkpoint.h5").touch()
    assert main(["check", path, "--dry-run"]) == 0
    table = rows(capsys.readouterr().out)
    assert table["results"].endswith("out (has an unfinished run: go on with --resume)")


WRONG_ROWS = ELEMENTS.replace("rows = [0, 1]", "rows = [0, 8]")
REFUSED = {
    "typing error": (2, ELEMENTS.replace("count", "cuont"), (), "did you mean 'count'?"),
    "key of a kind": (2, ELEMENTS.replace("pair =", "pair_ ="), (), "did you mean 'pair'?"),
    "file": (3, ELEMENTS.replace("ts.h5", ".h5"), (), "must be an element table"),
    "objective": (2, WRONG_ROWS, (), "must have rows in 0 ... 7, got 8"),
    "count": (2, ELEMENTS, ("--set", "solver.count=9"), "count must be in 1 ... 8"),
    "which": (2, ELEMENTS, ("--set", "solver.which=lowest"), "which must be one of"),
    "count check": (2, ELEMENTS, ("--set", "solver.count_check=no"), "count_check must be"),
    "strategy": (2, ELEMENTS, ("--set", "adjoint.strategy=fast"), "strategy must be"),
}


@pytest.mark.usefixtures("never_solves")
@pytest.mark.parametrize(("code", "text", "words", "message"), REFUSED.values(), ids=REFUSED)
def test_dry_run_refuses_what_a_run_refuses(check, code, text, words, message):
    assert message in check("--dry-run", *words, text=text)[2]
    assert check("--dry-run", *words, text=text)[0] == code


@pytest.mark.usefixtures("never_solves")
def test_dry_run_refuses_a_mesh_of_another_model(tmp_path, capsys):
    path = str(study_folder(tmp_path))
    write_chain(tmp_path / "elements.h5", chain_mesh())
    with h5py.File(tmp_path / "elements.h5", "r+") as file:
        file["mesh/dofs"][3] = 100
    assert main(["check", path, "--dry-run"]) == 3
    assert "the dofs of a mesh must lie in -1 ... 7" in capsys.readouterr().err


def test_wrong_kernel_is_found_at_its_element(check):
    code, said, _ = check(text=ONE_OBJECTIVE, model=KERNEL)
    assert code == 5
    found = said.split("where derivatives are wrong\n")[1]
    assert re.search(
        r"'k': block 0 \(A\), rank 0, element 5 \(k\[5\]\): first vjp in k\[0\]", found
    )
    assert "'k': contract differs from differences of the matrices at entry 5 of 9: " in found
    assert "'m'" not in found


def test_wrong_entry_is_found_by_halving(check):
    code, said, _ = check(text=ONE_OBJECTIVE, model=ENTRY)
    assert code == 5
    (line,) = said.split("where derivatives are wrong\n")[1].splitlines()
    assert "'k': contract differs from differences of the matrices at entry 33 of 41: " in line
    first, second = (float(part) for part in re.search(r": (\S+) against (\S+) in", line).groups())
    assert first == pytest.approx(1.01 * second, rel=1e-5)  # six digits are printed


def test_wrong_objective_is_told_from_a_wrong_model(check):
    code, said, _ = check(text=OWN_OBJECTIVE, model=COTANGENT)
    assert code == 5
    lines = said.split("where derivatives are wrong\n")[1].splitlines()
    assert len(lines) == 2
    assert all("look at what the objective says about the pairs" in line for line in lines)
    assert lines[0].startswith("  'k': contract agrees with differences of the matrices to ")


def test_kernel_that_cannot_be_differenced_is_named(check):
    code, said, _ = check(text=ONE_OBJECTIVE, model=FAILING)
    assert code == 5
    found = said.split("where derivatives are wrong\n")[1]
    assert "rank 0, cannot be differenced: ArithmeticError: one only" in found
    assert "at entry 5 of 9" in found


RAISING = ENTRY.replace(
    "self.assemble = model, model.comm, model.assemble", "self.calls = model, model.comm, 0"
).replace(
    "    def contract",
    """    def assemble(self, p):
        self.calls += 1
        if self.calls > 40:
            raise ga.InputError("no more")
        return self.model.assemble(p)

    def contract""",
)


def test_failure_of_the_search_does_not_hide_the_verdict(check):
    code, said, _ = check(text=ONE_OBJECTIVE, model=RAISING)
    assert code == 5
    assert said.count("verdict             FAILED") == 1
    assert "'k': could not be looked at entry by entry: no more" in said


def test_right_gradient_has_nothing_to_look_for(check):
    code, said, progress = check(text=ONE_OBJECTIVE)
    assert code == 0
    assert "where derivatives are wrong" not in said
    assert "look for what is wrong" not in progress
    assert re.search(r"^orders, one by one  k 2\.\d\d, m 2\.\d\d$", said, flags=re.MULTILINE)


def test_orders_of_single_parameters_tell_which_is_wrong(check):
    masses = ENTRY.replace('found["k"][33] *= 1.01', 'found["m"] *= 1.5')
    said = check(text=ONE_OBJECTIVE, model=masses)[1]
    orders = re.search(r"orders, one by one  k (\S+), m (\S+)", said)
    assert float(orders[1]) > 1.95
    assert float(orders[2]) == pytest.approx(1.0, abs=0.05)


def test_models_are_the_right_ones():
    """The replacements above have taken place."""
    assert len({MODEL, PYTHON, KERNEL, ENTRY, COTANGENT, FAILING, RAISING}) == 7
    assert "one only" in FAILING
    assert "no more" in RAISING
