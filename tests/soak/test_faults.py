"""A function of every stage raises, on each of three ranks in turn, under the command line."""

import sys
import time
from pathlib import Path

import pytest
from study_files import MODEL, PYTHON, result, study_folder

FAULTS = str(Path(__file__).parents[1] / "faults.py")
NONSYMMETRIC = MODEL.replace("chain(n, comm)", "chain(n, comm, base=K0 + C0)").replace(
    "import chain,", "import C0, K0, chain,"
)
STAGES = {
    "study": "commands._studies:chosen_study",
    "build model": "study.run:build_problem",
    "element tables": "elements:distinct_dofs",
    "assemble": "assembly:Pattern.matrix",
    "symmetry": "pencil:hermitian_defect",
    "objectives": "study.run:build_objectives",
    "set-up of the eigensolve": "eigensolver:set_up",
    "eigensolve": "eigensolver:check_inner_solve",
    "eigenpairs": "eigensolver:extracted",
    "completeness": "eigensolver:completed",
    "left vectors": "left_vectors:_from_factors",
    "conditions": "finished_pairs:conditions_and_errors",
    "scaling": "finished_pairs:normalized",
    "evaluation": "sensitivity:evaluate",
    "adjoint": "adjoint:project_cotangent",
    "adjoint solve": "bordered:BorderedSystem.solve",
    "contraction": "contraction:sides",
    "sums": "elements:finish",
    "gather": "study.results:gathered",
    "write": "study.results:_write_files",
    "summary": "study.run:summary",
    "close of pairs": "eigenpairs:Eigenpairs.close",
    "close of the pencil": "pencil:Pencil.close",
}
FIRST_ONLY = {"write", "summary"}
AFTER_WRITING = {"summary", "close of pairs", "close of the pencil"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("stage", STAGES)
def test_fault_ends_the_job_with_one_message(mpirun, report, tmp_path, stage, rank):
    study = study_folder(tmp_path, PYTHON, model=NONSYMMETRIC)
    start = time.monotonic()
    words = [sys.executable, FAULTS, f"geneig_adjoint.{STAGES[stage]}", str(rank)]
    finished = mpirun(3, *words, "run", str(study), timeout=60)
    report(f"{stage}, rank {rank}: code {finished.returncode}, {time.monotonic() - start:.1f} s")
    met = not (stage in FIRST_ONLY and rank)
    assert finished.returncode == (70 if met else 0), finished.stderr
    assert finished.stderr.count("InjectedError: injected") == met
    assert finished.stderr.count("Traceback") == met
    # all results or none
    whole = not met or stage in AFTER_WRITING
    kept = {path.name for path in (tmp_path / "out").glob("*")}
    assert {"result.json", "result.h5"} <= kept if whole else not any("result" in n for n in kept)
    assert not whole or "objectives" in result(tmp_path / "out")
