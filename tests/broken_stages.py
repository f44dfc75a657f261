"""Functions of every stage of the command line, and how a run must end when one of them raises."""

import sys
from pathlib import Path

from study_files import MODEL, PYTHON, result, study_folder

FAULTS = str(Path(__file__).with_name("faults.py"))
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
    "left vectors": "finished_pairs:left_vectors",
    "conditions": "finished_pairs:conditions_and_errors",
    "scaling": "finished_pairs:normalized",
    "evaluation": "gradient_steps:evaluate",
    "adjoint": "adjoint:project_cotangent",
    "adjoint solve": "pair_systems:_solved",
    "contraction": "contraction:sides",
    "sums": "elements:finish",
    "gather": "study.results:gathered",
    "write": "study.results:_writing",
    "summary": "study.run:summary",
    "close of pairs": "eigenpairs:Eigenpairs.close",
    "close of the pencil": "pencil:Pencil.close",
}
FIRST_ONLY = {"write", "summary"}
AFTER_WRITING = {"summary", "close of pairs", "close of the pencil"}


def broken_run(mpirun, folder, stage, rank, *, ranks=3, timeout=60):
    """Run a nonsymmetric study on some ranks with a broken function; look at how it ends."""
    study = study_folder(folder, PYTHON, model=NONSYMMETRIC)
    words = [sys.executable, FAULTS, f"geneig_adjoint.{STAGES[stage]}", str(rank)]
    finished = mpirun(ranks, *words, "run", str(study), timeout=timeout)
    met = not (stage in FIRST_ONLY and rank)
    assert finished.returncode == (70 if met else 0), finished.stderr
    assert finished.stderr.count("InjectedError: injected") == met
    assert finished.stderr.count("Traceback") == met
    # all results or none
    whole = not met or stage in AFTER_WRITING
    # What a job that was ended by force leaves under names of its own, the next run removes.
    kept = {path.name for path in (folder / "out").glob("[!.]*")}
    assert {"result.json", "result.h5"} <= kept if whole else not any("result" in n for n in kept)
    assert not whole or "objectives" in result(folder / "out")
    return finished
