"""Pairs answer for the parameters they were solved at, on any number of ranks."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters, distributed, matrix, own_rows, stiffness
from ranks import last, raised_everywhere

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

pytestmark = pytest.mark.timeout(30)
N = 11
KINDS = {
    "replicated": lambda values, comm: values.copy(),
    "distributed": distributed,
}
CALLS = {
    "gradient": lambda model, p, pairs: ga.gradient(model, p, pairs, obj.Eigenvalue(0)),
    "vector": lambda model, p, pairs: ga.gradient(model, p, pairs, total),
    "jvp": lambda model, p, pairs: ga.jvp(model, p, pairs, p),
}
OTHER = r"parameters"


def total(pairs):
    return obj.LinearOutput(np.ones(pairs.right.shape[0]))(pairs)


def parameters(kind, comm):
    return {name: KINDS[kind](values, comm) for name, values in chain_parameters(N).items()}


def add_to_last(value, amount):
    """Change one entry: of every copy, or of the rank that owns it."""
    local = np.asarray(getattr(value, "array", value))
    local[local.size - 1 :] += amount * local.size / max(local.size, 1)


@pytest.mark.parametrize(
    ("call", "kind"),
    [("gradient", "replicated"), ("vector", "distributed"), ("jvp", "distributed")],
)
def test_changed_in_place(comm, call, kind):
    model, p = chain(N, comm, base=K0 + C0), parameters(kind, comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        CALLS[call](model, p, pairs)
        add_to_last(p["m"], 1e-9)
        raised_everywhere(comm, ga.StaleError, OTHER, CALLS[call], model, p, pairs)
        model.assemble(p, out=pencil)
        with ga.solve_eigenproblem(pencil, 1) as again:
            CALLS[call](model, p, again)


@pytest.mark.parametrize(
    ("call", "kind"),
    [("gradient", "distributed"), ("vector", "replicated"), ("jvp", "replicated")],
)
def test_other_and_equal_parameters(comm, call, kind):
    model, p, same, other = (chain(N, comm), *(parameters(kind, comm) for _ in range(3)))
    add_to_last(other["k"], 0.5)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        raised_everywhere(comm, ga.StaleError, OTHER, CALLS[call], model, other, pairs)
        CALLS[call](model, same, pairs)
        CALLS[call](model, dict(reversed(same.items())), pairs)
        CALLS[call](model, p, pairs)


def test_change_on_one_rank_is_told_to_all(comm):
    model, p = chain(N, comm), parameters("distributed", comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        p["k"].array[:1] += 1e-12 * last(comm)  # entries of the last rank only
        raised_everywhere(comm, ga.StaleError, OTHER, CALLS["gradient"], model, p, pairs)


def matrix_model(comm):
    mats = [matrix(stiffness(N), comm), matrix(np.diag(np.arange(1.0, N + 1)), comm)]
    return ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {}


def operator_model(comm):
    diagonal = np.arange(*own_rows(N, comm))[:, None] + 1.0

    def vjp(p, left_a, left_b, right):
        return {"p": np.array([comm.allreduce(np.vdot(left_a, diagonal * right).real)])}

    def apply_a(p, block):
        return p["p"][0] * diagonal * block

    return ga.OperatorModel(N, apply_a, vjp, comm=comm), {"which": "largest_real"}


@pytest.mark.parametrize("make", [matrix_model, operator_model], ids=["matrices", "operators"])
def test_every_model_knows_its_parameters(comm, make):
    model, options = make(comm)
    p = {"p": np.array([2.0])}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1, **options) as pairs:
        CALLS["gradient"](model, {"p": np.array([2.0])}, pairs)
        p["p"][0] = 2.5
        raised_everywhere(comm, ga.StaleError, OTHER, CALLS["gradient"], model, p, pairs)


def test_pencil_without_a_model_has_no_parameters(comm):
    model, _ = matrix_model(comm)
    p = {"p": np.array([0.5])}
    with (
        model.assemble(p) as assembled,
        ga.Pencil(assembled.A) as pencil,
        ga.solve_eigenproblem(pencil, 1) as pairs,
    ):
        CALLS["gradient"](model, p, pairs)
