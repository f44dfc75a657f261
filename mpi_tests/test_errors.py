"""What goes wrong on one rank is raised on all of them, once, with its message."""

import numpy as np
import pytest
from builders import (
    C0,
    K0,
    chain,
    chain_dofs,
    chain_parameters,
    distributed,
    mass,
    matrix,
    shares,
    stiffness,
)
from ranks import (
    assert_from_the_last_rank,
    differing,
    last,
    raised_everywhere,
    refused_if_different,
)

import geneig_adjoint as ga
from geneig_adjoint import collective
from geneig_adjoint import objectives as obj

N = 11
P = chain_parameters(N)


# -- the tools --


class StubbornError(Exception):
    """An exception that cannot travel."""

    def __reduce__(self):
        raise TypeError("no")


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (ValueError("bad row 3"), ValueError, r"bad row 3"),
        (ga.ConvergenceError("late", reason="R", pairs=lambda: 0), ga.ConvergenceError, r"late"),
        (ga.GaugeError("turned", defect=0.5), ga.GaugeError, r"turned"),
        (StubbornError("unusual"), (StubbornError, RuntimeError), r"unusual"),
    ],
    ids=["plain", "with data", "keyword", "unpicklable"],
)
def test_raise_together(comm, error, kind, match):
    mine = error if last(comm) else None
    with pytest.raises(kind, match=match) as caught:
        collective.raise_together(comm, mine)
    assert_from_the_last_rank(comm, caught.value)


def test_data_of_an_error_travels(comm):
    error = ga.DegenerateEigenvalueError("no", members=(1, 2), gap=0.25, defect=1.0)
    with pytest.raises(ga.DegenerateEigenvalueError) as caught:
        collective.raise_together(comm, error if last(comm) else None)
    assert (caught.value.members, caught.value.gap, caught.value.defect) == ((1, 2), 0.25, 1.0)


def test_lowest_failing_rank_speaks(comm):
    with pytest.raises(ValueError, match=r"rank 0") as caught:
        collective.raise_together(comm, ValueError(f"rank {comm.rank}"))
    expected = [f"found on ranks {list(range(comm.size))} of {comm.size}"][: comm.size - 1]
    assert getattr(caught.value, "__notes__", []) == expected


def test_no_error_no_raise(comm):
    collective.raise_together(comm, None)
    with collective.guard(comm):
        pass


def fail_on_the_last(comm):
    with collective.guard(comm):
        assert not last(comm), "guarded"


def test_guard(comm):
    raised_everywhere(comm, AssertionError, r"guarded", fail_on_the_last, comm)


def test_equal_input(comm):
    collective.check_equal_input(comm, "x", np.arange(3))
    different = {1: comm.rank}.get(comm.size, comm.rank)
    collective.check_equal_input(comm, "x", different * 0)


ARGUMENTS = {
    "count": (1, 2),
    "target": (0.1, 0.2),
    "which": ("largest_real", "smallest_real"),
    "phase": ("largest", None),
    "left": (True, False),
    "solver_parameters": ({"eps_tol": 1e-10}, {"eps_tol": 1e-9}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_differ(comm, name):
    pencil = ga.Pencil(matrix(stiffness(N), comm))
    arguments = {name: differing(comm, *ARGUMENTS[name])}
    match = r"arguments of solve_eigenproblem must be the same on every rank, got .* on rank 1"
    refused_if_different(comm, match, lambda: ga.solve_eigenproblem(pencil, **arguments))


def test_replicated_parameters_that_differ(comm):
    model = chain(N, comm)
    p = {**P, "m": P["m"] + 1e-15 * differing(comm, 0, 1)}
    match = r"replicated parameter 'm' must be the same on every rank.*broadcast"
    refused_if_different(comm, match, lambda: model.assemble(p).close())


def test_number_of_rows_that_differs(comm):
    match = r"n must be the same on every rank, got 12 on rank 1"
    refused_if_different(
        comm, match, lambda: chain(differing(comm, N, N + 1), comm, own=shares(N + 1, comm))
    )


def test_kinds_of_blocks_that_differ(comm):
    def make():
        names = differing(comm, ["k"], ["q"])
        block = ga.ElementBlock(
            "A", chain_dofs(N), ga.ScaledKernel(K0), {name: np.arange(N + 1) for name in names}
        )
        return ga.ElementModel(N, [block], comm=comm)

    refused_if_different(comm, r"kinds of element blocks .*must be the same on every rank", make)


def test_layouts_of_a_and_b_that_differ(comm):
    # Equal global sizes, other rows on each rank.
    n_local = {0: N - 2 * (comm.size - 1)}.get(comm.rank, 2)
    A, B = matrix(stiffness(N), comm), matrix(mass(N), comm, n_local=n_local)
    refused = {1: []}.get(comm.size, [r"B must have the layout of A, got .*create both"])
    for match in refused:
        with pytest.raises(ga.InputError, match=match):
            ga.Pencil(A, B)


# -- input that is wrong on one rank --


def model_with(comm, *, dofs=None, ids=None, kernel=None, n=N):
    own = shares(N + 1, comm)
    mine = {"dofs": chain_dofs(N)[own], "ids": own, "kernel": ga.ScaledKernel(K0 + C0)}
    wrong = {"dofs": dofs, "ids": ids, "kernel": kernel}
    mine |= {name: make(mine[name]) for name, make in wrong.items() if make and last(comm)}
    return ga.ElementModel(
        n, [ga.ElementBlock("A", mine["dofs"], mine["kernel"], {"k": mine["ids"]})], comm=comm
    )


TABLES = {
    "dof": ({"dofs": lambda dofs: dofs + N}, r"dofs must lie in -1 ... 10, got"),
    "type": ({"dofs": lambda dofs: dofs * 1.0}, r"dofs must be integers"),
    "ids": ({"ids": lambda ids: ids[1:]}, r"one row per element"),
    "negative": ({"ids": lambda ids: ids - N - 1}, r"must not be negative"),
    "kernel": ({"kernel": lambda _: ga.ScaledKernel(np.eye(3))}, r"K0 must have shape"),
    "list": ({"dofs": lambda dofs: dofs.tolist()}, r"dofs"),
}


@pytest.mark.failure("shapes", through="api")
@pytest.mark.parametrize("case", TABLES)
def test_wrong_table_on_one_rank(comm, case):
    changes, match = TABLES[case]
    error = raised_everywhere(comm, ga.InputError, match, model_with, comm, **changes)
    assert_from_the_last_rank(comm, error)


def test_dof_without_element_on_one_rank(comm):
    error = raised_everywhere(
        comm, ga.InputError, r"got dof 11 and 0 more", model_with, comm, n=N + 1
    )
    assert_from_the_last_rank(comm, error)


def test_own_rows_that_do_not_add_up(comm):
    match = r"n_local must add up to n = 11 over the ranks .*got \["
    raised_everywhere(comm, ga.InputError, match, chain, N, comm, n_local=N + 1)
    mixed = {0: N}.get(comm.rank)
    for _ in range(comm.size > 1):
        raised_everywhere(comm, ga.InputError, match, chain, N, comm, n_local=mixed)


PARAMETERS = {
    "missing": (lambda p: {"k": p["k"]}, r"must hold the parameters \['k', 'm'\], got \['k'\]"),
    "short": (lambda p: {**p, "m": p["m"][1:]}, r"must have at least 12 entries"),
    "list": (lambda p: {**p, "k": list(p["k"])}, r"must be a 1-D array or a PETSc.Vec, got list"),
    "complex": (lambda p: {**p, "k": p["k"] + 0j}, r"must be real"),
    "nan": (lambda p: {**p, "k": p["k"] * np.nan}, r"must be finite, got nan at entry 0"),
    "mapping": (lambda p: None, r"p must map names to arrays, got NoneType"),
}


@pytest.mark.failure("shapes", through="api")
@pytest.mark.parametrize("case", PARAMETERS)
def test_wrong_parameters_on_one_rank(comm, case):
    change, match = PARAMETERS[case]
    model = chain(N, comm)
    p = change(P) if last(comm) else P
    error = raised_everywhere(comm, ga.InputError, match, model.assemble, p)
    assert_from_the_last_rank(comm, error)


def test_nan_in_a_distributed_parameter(comm):
    values = P["k"].copy()
    values[-1] = np.nan
    p = {**P, "k": distributed(values, comm)}
    error = raised_everywhere(
        comm, ga.InputError, r"'k' must be finite", chain(N, comm).assemble, p
    )
    assert_from_the_last_rank(comm, error)


@pytest.mark.failure("nan", through="api")
@pytest.mark.parametrize("name", ["A", "B"])
def test_nan_in_one_ranks_rows(comm, name):
    arrays = {"A": stiffness(N), "B": mass(N)}
    arrays[name][N - 1, N - 2] = np.nan
    match = rf"{name} must be finite, got 1 NaN or Inf entries, the first .* at \(10, 9\)"
    error = raised_everywhere(
        comm, ga.InputError, match, ga.Pencil, *(matrix(arrays[m], comm) for m in "AB")
    )
    assert_from_the_last_rank(comm, error)


@pytest.mark.failure("not Hermitian as declared", through="api")
def test_asymmetry_names_the_worst_entry_wherever_it_is(comm):
    A = stiffness(N)
    A[10, 2], A[0, 1] = 0.5, -0.75
    match = r"needs A Hermitian, got .* = 5.000e-01 at entry \((10, 2|2, 10)\)"
    raised_everywhere(comm, ga.InputError, match, ga.Pencil, matrix(A, comm), problem_type="hep")


# -- user code that fails on one rank --


class Failing:
    """A kernel that fails in one of its methods, on the last rank only."""

    def __init__(self, comm, method, kind):
        self.base = ga.ScaledKernel(K0 + C0)
        self.fails = method if last(comm) else None
        self.kind = kind

    def call(self, method, *arguments):
        result = getattr(self.base, method)(*arguments)
        return FAILURES[self.kind](result) if self.fails == method else result

    def matrices(self, values, rows):
        return self.call("matrices", values, rows)

    def derivative(self, values, dots, rows):
        return self.call("derivative", values, dots, rows)

    def vjp(self, values, left, right, rows):
        return self.call("vjp", values, left, right, rows)


def explode(result):
    raise ArithmeticError("element turned inside out")


FAILURES = {"error": explode, "nan": lambda result: result * np.nan}
USES = {
    "matrices": lambda model, p, pencil, pairs: model.assemble(p),
    "vjp": lambda model, p, pencil, pairs: ga.gradient(model, p, pairs, obj.Eigenvalue(0)),
    "derivative": lambda model, p, pencil, pairs: ga.jvp(model, p, pairs, p),
}


@pytest.mark.failure("exception in a callback", through="api")
@pytest.mark.parametrize("method", USES)
def test_kernel_that_raises_on_one_rank(comm, method):
    p = {"k": P["k"]}
    with model_with(comm).assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        model = model_with(comm, kernel=lambda _: Failing(comm, method, "error"))
        error = raised_everywhere(
            comm, ArithmeticError, r"inside out", USES[method], model, p, pencil, pairs
        )
        assert_from_the_last_rank(comm, error)


@pytest.mark.failure("nan", through="api")
def test_kernel_with_nan_on_one_rank(comm):
    model = model_with(comm, kernel=lambda _: Failing(comm, "matrices", "nan"))
    error = raised_everywhere(
        comm, ga.InputError, r"NaN or Inf in .* elements of block 0, the first is element 0",
        model.assemble, {"k": P["k"]},
    )  # fmt: skip
    assert_from_the_last_rank(comm, error)
