"""`geneig-adjoint check` on several ranks: one table, the same verdict, the right element."""

import re

import pytest
from study_files import ELEMENTS, MODEL, study_folder
from wrong_models import ENTRY, KERNEL, ONE_OBJECTIVE

from geneig_adjoint.cli import main


@pytest.fixture
def check(comm, tmp_path, capsys):
    """Check a study on all ranks; return the code of this one and what all have said."""

    def run(*words, text=ELEMENTS, **modules):
        path = comm.bcast(tmp_path) / "study.toml"
        for folder in [path.parent] if comm.rank == 0 else []:
            study_folder(folder, text, **modules)
        comm.barrier()
        code = main(["check", str(path), *words])
        said = "".join(comm.allgather(capsys.readouterr().out))
        comm.barrier()
        return code, said

    return run


def test_dry_run_counts_over_the_ranks(comm, check):
    code, said = check("--dry-run")
    assert code == 0
    lines = dict(re.findall(r"^(\S.*?)  +(.*)$", said, flags=re.MULTILINE))
    assert lines["rows"].startswith(f"8 on {comm.size} rank")
    assert lines["A"].startswith("22 entries, ")
    assert lines["block 0"].startswith("9 elements in A")
    assert said.count("\nobjectives ") == 1
    assert " on the largest rank)" in lines["memory"] or comm.size == 1
    assert lines["free"].endswith("more: fits" if comm.size == 1 else f"of {comm.size} ranks: fits")


DISTRIBUTED = MODEL.replace("chain_parameters\n", "chain_parameters, distributed\n").replace(
    "chain_parameters(n)", "{k: distributed(v, comm) for k, v in chain_parameters(n).items()}"
)
FOUND = {
    "entry": (ENTRY, "'k'", "at entry 33 of 41"),
    "distributed kernel": (
        DISTRIBUTED
        + KERNEL.removeprefix(MODEL.replace("def build", "def right"))
        .replace("right(comm", "build_right(comm")
        .replace("def build(", "build_right = build\ndef build("),
        r"\(k\[5\]\): first vjp in k", "at entry 5 of 9",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "first", "second"), FOUND.values(), ids=FOUND)
def test_what_is_wrong_is_found_on_every_number_of_ranks(check, model, first, second):
    code, said = check(text=ONE_OBJECTIVE, model=model)
    assert code == 5
    assert said.count("where derivatives are wrong") == 1
    found = said.split("where derivatives are wrong\n")[1]
    assert re.search(first, found)
    assert second in found
