"""Ranks that ask for different things are told so; before, they waited for each other for ever."""

import numpy as np
import pytest
from builders import chain, chain_parameters
from ranks import differing, raised_everywhere, refused_if_different

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

pytestmark = [pytest.mark.timeout(20), pytest.mark.any_scalars]
N = 11
P = chain_parameters(N)
SAME = r"must be the same on every rank"


@pytest.mark.parametrize(
    "choices",
    [("B", "2"), (("component", 0), ("component", 1)), (("component", 0), ("component", 99))],
    ids=["kind", "component", "row"],
)
def test_normalization(comm, choices):
    with chain(N, comm).assemble(P) as pencil:
        chosen = differing(comm, *choices)
        refused_if_different(
            comm, SAME, lambda: ga.solve_eigenproblem(pencil, 1, normalization=chosen).close()
        )


SETTINGS = {
    "strategy": ("direct", "ksp"),
    "rtol": (1e-10, 1e-9),
    "solver_parameters": ({}, {"ksp_type": "bcgs"}),
    "options_prefix": ("", "mine_"),
}


USERS = {
    "gradient": lambda model, pairs, weight, **s: ga.gradient(model, P, pairs, weight, **s),
    "jvp": lambda model, pairs, weight, **s: ga.jvp(model, P, pairs, P, **s),
    "hessian": lambda model, pairs, weight, **s: ga.hessian_vector_product(
        model, P, pairs, weight, P, **s
    ),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_adjoint(comm, user, name):
    model = chain(N, comm)
    setting = {name: differing(comm, *SETTINGS[name])}
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        weight = obj.QuadraticForm(np.arange(*pairs.rows) + 1.0)
        refused_if_different(comm, SAME, lambda: USERS[user](model, pairs, weight, **setting))


# Wrong on rank 0, alone where there are others.
WRONG = {"rtol": (2.0, 1e-10), "unknown": (1, None), "solver_parameters": ({"ksp_type": "no"}, {})}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", WRONG)
def test_settings_that_are_wrong_on_one_rank(comm, user, name):
    model, chosen = chain(N, comm), differing(comm, *WRONG[name])
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        weight = obj.QuadraticForm(np.arange(*pairs.rows) + 1.0)
        kind, match = [(Exception, "."), (ga.InputError, SAME)][comm.size > 1]
        raised_everywhere(
            comm, kind, match, USERS[user], model, pairs, weight, **{name: chosen}, strategy="ksp"
        )


def test_settings_of_a_verification(comm):
    setting = {"rtol": differing(comm, 1e-10, 2.0)}
    model = chain(N, comm)
    refused_if_different(
        comm,
        SAME,
        lambda: ga.verify_gradient(model, P, obj.Eigenvalue(0), adjoint=setting, count=1),
    )


def test_equal_settings_in_another_form_are_the_same(comm):
    model = chain(N, comm)
    spelled = differing(comm, {}, {"rtol": 1e-10, "solver_parameters": None, "options_prefix": ""})
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        assert np.isfinite(ga.jvp(model, P, pairs, P, **spelled).values).all()


COLUMNS = {"one more": ([0], [0, 1]), "other": ([0], [1]), "none": ([0], [])}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns(comm, case):
    columns = differing(comm, *COLUMNS[case])
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        refused_if_different(
            comm, "columns " + SAME, lambda: ga.jvp(model, P, pairs, P, columns=columns)
        )


def test_columns_that_do_not_exist_on_one_rank(comm):
    columns = differing(comm, [9], [0])
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        raised_everywhere(
            comm,
            ga.InputError,
            r"columns must be indices in 0 ... 1, got \[9\]",
            ga.jvp,
            model,
            P,
            pairs,
            P,
            columns=columns,
        )


@pytest.mark.parametrize("choices", [(0.0, 1.0), (0.5, 1.5)], ids=str)
def test_smallest_confidence_of_a_mode(comm, choices):
    minimum = differing(comm, *choices)
    with (
        chain(N, comm).assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 3) as earlier,
        ga.solve_eigenproblem(pencil, 3, target=0.05) as pairs,
    ):
        refused_if_different(
            comm, "minimum " + SAME, lambda: ga.track_modes(earlier, pairs, minimum=minimum)
        )


def test_number_of_objectives(comm):
    model = chain(N, comm)
    objectives = [obj.Eigenvalue(0)] * differing(comm, 1, 2)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        refused_if_different(comm, SAME, lambda: ga.gradient(model, P, pairs, objectives))


def test_cotangent_of_eigenvalues(comm):
    model = chain(N, comm)

    def objective(pairs):
        return 1.0, ga.EigenCotangent(values=np.array([differing(comm, 0.0, 1.0), 0.0]))

    # Without left vectors the cotangent decides for which pairs a system is solved.
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2, left=False) as pairs:
        refused_if_different(comm, SAME, lambda: ga.gradient(model, P, pairs, objective))


CALLS = {
    "gradient": lambda model, p, pairs: ga.gradient(model, p, pairs, obj.Eigenvalue(0)),
    "jvp": lambda model, p, pairs: ga.jvp(model, P, pairs, p),
}
SHORT = {"k": P["k"][:-3], "m": P["m"]}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("p", "match"),
    [(SHORT, r"'k' must have at least 12 entries"), ({"k": P["k"]}, r"must hold the parameters")],
    ids=["short", "missing"],
)
def test_parameters_are_checked_where_they_are_used(comm, call, p, match):
    # Only some ranks own an element beyond the end: the others would go on and wait.
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        raised_everywhere(comm, ga.InputError, match, CALLS[call], model, p, pairs)
