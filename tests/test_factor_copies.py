"""Factors on every rank when Python ends: PETSc must not call into them then."""

import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from builders import chain, chain_parameters
from mpi4py import MPI
import geneig_adjoint as ga
from geneig_adjoint import builds

model, p = chain(12, MPI.COMM_WORLD), chain_parameters(12)
options = [{{}}, {{"st_pc_factor_mat_solver_type": "cholmod"}}][builds.HAS_CHOLMOD]
settings = dict(count=2, target=0.0, solver_parameters=options)
{action}
if MPI.COMM_WORLD.rank == 0:
    print("reached the end")
"""
ACTIONS = {
    "open pairs": "pairs = ga.solve_eigenproblem(model.assemble(p), **settings)",
    "closed pairs, PC held": (
        "pencil = model.assemble(p)\n"
        "pairs = ga.solve_eigenproblem(pencil, **settings)\n"
        "pc = pairs.factor.eps.getST().getKSP().getPC()\n"
        "pairs.close()\n"
        "pencil.close()"
    ),
    "open loop": "f = ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), **settings)\nf(p)",
}


@pytest.mark.parametrize("case", ACTIONS)
def test_python_ends_well(mpirun, tmp_path, case):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(action=ACTIONS[case], tests=str(Path(__file__).parent)))
    result = mpirun(2, sys.executable, str(script), timeout=60)
    assert "reached the end" in result.stdout
    assert result.returncode == 0, result.stderr
