"""PETSc's options: the user's win, none is left behind, unprefixed ones are not looked at."""

from contextlib import contextmanager

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import _petsc, user_options
from geneig_adjoint import objectives as obj
from geneig_adjoint.study.options import unread_options

N = 40
P = chain_parameters(N)
OUTPUT = obj.LinearOutput(np.ones(N), 0)


@contextmanager
def database(**options):
    """Put options into PETSc's database for a while, as a command line would."""
    found = PETSc.Options()
    for name, value in options.items():
        found[name] = value
    try:
        yield found
    finally:
        for name in options:
            found.delValue(name)


def run(comm, solver=None, adjoint=None, prefix=""):
    model = chain(N, comm, base=K0 + C0)
    with model.assemble(P) as pencil:
        pairs = ga.solve_eigenproblem(
            pencil, 2, target=0.1, solver_parameters=solver, options_prefix=prefix
        )
        gradient = ga.gradient(
            model, P, pairs, OUTPUT, solver_parameters=adjoint, options_prefix=prefix
        )
        pairs.close()
    return pairs, gradient


def test_solver_parameters_are_used(comm):
    assert run(comm, {"eps_tol": 1e-9})[0].info.tolerance == 1e-9


def test_users_option_wins(comm):
    with database(ga_eps_tol=1e-7):
        assert run(comm, {"eps_tol": 1e-9})[0].info.tolerance == 1e-7
    assert run(comm, {"eps_tol": 1e-9})[0].info.tolerance == 1e-9


def test_users_adjoint_option_wins(comm):
    hopeless = {"ga_adjoint_ksp_max_it": 1, "ga_adjoint_pc_type": "none"}
    with database(**hopeless), pytest.raises(ga.ConvergenceError, match=r"adjoint solve"):
        run(comm, adjoint={"ksp_max_it": 500})


def test_prefix_of_ones_own(comm):
    with database(mine_ga_eps_tol=1e-7, ga_eps_tol=1e-6):
        assert run(comm, prefix="mine_")[0].info.tolerance == 1e-7


@pytest.mark.parametrize("value", [1e-9, "1e-9"])
def test_values_may_be_text(comm, value):
    assert run(comm, {"eps_tol": value})[0].info.tolerance == 1e-9


def test_flag_without_a_value(comm):
    run(comm, {"eps_gen_non_hermitian": None}, {"ksp_gmres_modifiedgramschmidt": None})


@pytest.mark.failure("misspelt PETSc option", through="api")
def test_options_nobody_has_read_are_named(comm):
    right = {"eps_ncv": 12, "st_mat_mumps_icntl_7": 2, "left_type": "krylov", "left_eps_ncv": 12}
    wrong = {"eps_mnoitor": None, "st_pc_tpye": "lu", "left_eps_nvc": 9}
    with pytest.warns(ga.UnreadOptionWarning, match=r"nothing has read: ksp_rtlo; correct"):
        pairs, _ = run(comm, {**right, **wrong}, {"ksp_rtol": 1e-12, "ksp_rtlo": 1e-12})
    named = [note for note in pairs.info.notes if "nothing has read" in note]
    assert named == [f"PETSc options that nothing has read: {', '.join(wrong)}"]


@pytest.mark.failure("misspelt PETSc option", through="api")
@pytest.mark.parametrize("name", ["ga_eps_nvc", "mine_ga_EPS_nvc"])
def test_an_error_made_in_two_places_is_seen_in_both(comm, name):
    with database(**{name: 9}):
        pairs, _ = run(comm, {"eps_nvc": 9}, prefix=name.partition("ga_")[0])
        assert f"-{name}" in unread_options()
    assert about_options(pairs) == [f"{NOTE}eps_nvc"]


def test_options_of_a_kept_factor_are_not_called_unread(comm):
    options = {"eps_tol": 1e-11, "st_mat_mumps_icntl_14": 33}
    adjoint = {"solver_parameters": {"ksp_max_it": 77}}
    f = ga.value_and_gradient(
        chain(N, comm, base=K0 + C0), OUTPUT, count=2, solver_parameters=options, adjoint=adjoint
    )
    with f:
        for step in (1.0, 1.01, 1.02):
            f({name: step * value for name, value in P.items()})
            assert not any("nothing has read" in note for note in f.pairs.info.notes)


def test_an_option_that_was_read_once_is_no_typing_error(comm):
    options = {"once": 1}
    for reads in (1, 0):
        with user_options.watched(("ga_test_",), options) as watch:
            with _petsc.inserted_options("ga_test_", options):
                assert [PETSc.Options().getInt("ga_test_once") for _ in range(reads)] == [1] * reads
            assert watch.unread(comm) == []


def test_a_failed_solve_names_options_nobody_has_read(comm):
    hopeless = {"eps_max_it": 1, "eps_ncv": 4, "eps_nev": 3, "eps_tol": 1e-15, "eps_nvc": 40}
    with pytest.raises(ga.ConvergenceError, match=r"; PETSc options .* has read: eps_nvc$"):
        run(comm, hopeless)


REFUSED = {
    "integer": ({"eps_max_it": "many"}, {}, r"got eps_max_it = 'many' \(Input string many"),
    "type": ({"eps_tol": 1e-9, "st_pc_type": "xyz"}, {}, r"got st_pc_type = 'xyz' \("),
    "range": ({"eps_tol": -0.5}, {}, r"got eps_tol = '-0.5' \(Illegal value of tol"),
    "factor": ({"st_mat_mumps_icntl_7": "abc"}, {}, r"got st_mat_mumps_icntl_7 = 'abc'"),
    "iterative": ({"st_ksp_type": "gmres", "eps_tol": "tiny"}, {}, r"got eps_tol = 'tiny'"),
    "setup": ({"eps_ncv": 2}, {}, r"got eps_ncv = '2' \(The value of ncv"),
    "flag": ({"eps_tol": True}, {}, r"got eps_tol = 'true' \("),
    "several": ({"eps_ncv": 2, "eps_max_it": 77}, {}, r"got eps_ncv = '2' \(The value of ncv"),
    "adjoint": ({}, {"ksp_max_it": "many"}, r"got ksp_max_it = 'many'"),
    "adjoint type": ({}, {"pc_type": "xyz"}, r"got pc_type = 'xyz'"),
}


@pytest.mark.failure("misspelt PETSc option", through="api")
@pytest.mark.parametrize(("solver", "adjoint", "message"), REFUSED.values(), ids=REFUSED)
def test_value_petsc_refuses_is_named(comm, solver, adjoint, message):
    with pytest.raises(ga.OptionError, match=message):
        run(comm, solver, adjoint)


NOT_DEFINITE = "[0] The inner product is not well defined: indefinite matrix"
ANY = "[0] EPSSetFromOptions() at x.c:1\n[0] No such thing"


class Refusal(PETSc.Error):
    """An error of PETSc's with a text."""

    def __init__(self, code, text):
        super().__init__(code)
        self.text = text

    def __str__(self):
        return self.text


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (95, NOT_DEFINITE, "None"),
        (76, "[0] MatLUFactorNumeric() at x.c:1\n[0] Error in a library", "None"),
        (62, ANY, "must be something PETSc takes, got a_x = '1', a_y = '2' (No such thing); "),
        (62, f"{ANY} of y", "got a_y = '2' (No such thing of y)"),
    ],
)
def test_only_errors_about_options_are_taken_for_such(code, text, expected):
    options = {"a_y": 2, "a_x": 1}
    with user_options.watched(("ga_",), options), _petsc.inserted_options("ga_", options):
        found = user_options.refused_option(Refusal(code, text))
    assert expected in str(found)
    assert user_options.refused_option(ValueError("no error of PETSc's")) is None
    assert user_options.refused_option(Refusal(62, ANY)) is None  # nothing is in force


def test_refused_value_of_the_command_line_is_named(comm):
    with (
        database(ga_eps_max_it="many"),
        pytest.raises(ga.OptionError, match=r"got -ga_eps_max_it = 'many'"),
    ):
        run(comm, {"eps_tol": 1e-9})


@pytest.mark.parametrize("name", ["eps_gen_hermitian", "eps_gen_indefinite"])
def test_matrix_that_an_option_calls_hermitian_is_refused(comm, name):
    with pytest.raises(ga.NotHermitianError, match=rf"^{name} needs A Hermitian, .* entry \("):
        run(comm, {name: None})


def test_nothing_is_left_behind(comm):
    with database(pc_type="none", eps_tol=1e-3):
        before = PETSc.Options().getAll()
        run(comm, {"eps_tol": 1e-9, "eps_ncv": 12}, {"ksp_rtol": 1e-12})
        assert PETSc.Options().getAll() == before


def test_nothing_is_left_behind_by_a_failure(comm):
    before = PETSc.Options().getAll()
    with pytest.raises(ga.ConvergenceError):
        run(comm, {"eps_max_it": 1, "eps_ncv": 4, "eps_nev": 3, "eps_tol": 1e-15})
    with pytest.raises(ga.ConvergenceError):
        run(comm, adjoint={"ksp_max_it": 1, "pc_type": "none"})
    with pytest.raises(ga.OptionError, match=r"got eps_type = 'no such type' \(Unk"):
        run(comm, {"eps_type": "no such type"})
    assert PETSc.Options().getAll() == before


def test_unprefixed_options_change_nothing(comm):
    pairs, gradient = run(comm)
    unprefixed = {
        "eps_tol": 1e-2, "eps_max_it": 1, "st_type": "shift", "ksp_type": "richardson",
        "ksp_max_it": 1, "pc_type": "none",
    }  # fmt: skip
    with database(**unprefixed):
        again, same = run(comm)
    assert np.array_equal(again.values, pairs.values)
    for name in P:
        assert np.array_equal(same[name], gradient[name])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (1e-300, "1e-300"),
        (0.1, "0.1"),
        ("lu", "lu"),
    ],
)
def test_values_are_written_exactly(value, text):
    with _petsc.inserted_options("ga_test_", {"x": value}):
        assert PETSc.Options().getAll()["ga_test_x"] == text
    assert not PETSc.Options().hasName("ga_test_x")


def test_left_solve_takes_the_options_of_the_right_one(comm):
    with database(ga_left_eps_max_it=1, ga_left_eps_ncv=5):
        pairs, _ = run(comm)
    assert any("transposed bordered system" in note for note in pairs.info.notes)


NOTE = "PETSc options that nothing has read: "
LEGITIMATE = {
    "eigensolver": {"eps_tol": 1e-9, "eps_max_it": 300, "eps_ncv": 20},
    "factor": {"st_pc_type": "lu", "st_pc_factor_mat_solver_type": "mumps"},
    "workspace": {"st_pc_factor_mat_solver_type": "mumps", "st_mat_mumps_icntl_14": 60},
    "iterative": {"st_ksp_type": "gmres", "st_pc_type": "ilu", "st_ksp_max_it": 900},
    "left": {"left_eps_tol": 1e-9, "left_type": "krylov"},
}


def about_options(pairs):
    return [note for note in pairs.info.notes if note.startswith(NOTE)]


@pytest.mark.parametrize("options", LEGITIMATE.values(), ids=LEGITIMATE)
@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
def test_options_that_are_read_are_not_noted(comm, base, options):
    model = chain(N, comm, base=base)
    with model.assemble(P) as pencil:
        for _ in range(2):  # the second time with what the first has kept
            with ga.solve_eigenproblem(pencil, 2, solver_parameters=options) as pairs:
                assert about_options(pairs) == []


@pytest.mark.failure("misspelt PETSc option", through="api")
@pytest.mark.parametrize("prefix", ["", "mine_"])
def test_options_that_nothing_reads_are_noted(comm, prefix):
    options = {"eps_tolerance": 1e-9, "eps_tol": 1e-9, "st_kps_rtol": 1e-3}
    pairs, _ = run(comm, options, prefix=prefix)
    assert about_options(pairs) == [f"{NOTE}eps_tolerance, st_kps_rtol"]
