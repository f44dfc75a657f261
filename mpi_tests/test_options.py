"""PETSc options that users misspell or give wrong values: the same on every rank."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 11
P = chain_parameters(N)


@pytest.mark.failure("misspelt PETSc option", through="api")
def test_options_nobody_has_read_are_named_on_every_rank(comm):
    model = chain(N, comm, base=K0 + C0)
    with model.assemble(P) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, solver_parameters={"eps_tlo": 1e-9})
        notes = [note for note in pairs.info.notes if "nothing has read" in note]
        assert notes == ["PETSc options that nothing has read: eps_tlo"]
        objective = obj.LinearOutput(np.ones(pencil.n_local), 0)
        with pytest.warns(ga.UnreadOptionWarning, match=r"nothing has read: pc_tpye"):
            ga.gradient(model, P, pairs, objective, solver_parameters={"pc_tpye": "lu"})
        pairs.close()


@pytest.mark.parametrize("options", [{"st_pc_type": "xyz"}, {"eps_max_it": "many"}], ids=str)
def test_values_petsc_refuses_are_raised_on_every_rank(comm, options):
    name, value = next(iter(options.items()))
    with (
        chain(N, comm).assemble(P) as pencil,
        pytest.raises(ga.OptionError, match=f"got {name} = '{value}'"),
    ):
        ga.solve_eigenproblem(pencil, 1, solver_parameters=options)


def test_an_option_that_calls_a_matrix_hermitian_is_refused_on_every_rank(comm):
    with (
        chain(N, comm, base=K0 + C0).assemble(P) as pencil,
        pytest.raises(ga.NotHermitianError, match=r"eps_gen_hermitian needs A Hermitian"),
    ):
        ga.solve_eigenproblem(pencil, 1, solver_parameters={"eps_gen_hermitian": None})
