"""Quadratic problems on ranks: as on one rank, in every distribution of rows and elements."""

import numpy as np
import pytest
from builders import REAL, matrix, own_rows, whole
from damped_bars import BAR_K, BAR_M, ONE, end_damper, oscillator, rotor, shares
from mpi4py import MPI
from petsc4py import PETSc
from quadratic_problems import PROBLEMS, dense_values
from ranks import assert_from_the_last_rank, last, raised_everywhere
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint.errors import InputError

COMM = MPI.COMM_WORLD
# Between rank counts only rounding and the stopping of solvers (rtol 1e-10) differ.
SAME = 1e-8
# Real problems are distributed alike in both builds.
CHOSEN = [PROBLEMS[4]] if REAL else [PROBLEMS[6]]
P_DOT = {"p": np.array([0.7, -0.4, 0.9])}


def objectives(rows, n):
    weight, vector = 1.0 + np.arange(n) / n, np.cos(np.arange(n))
    mine = slice(*rows)
    o = ga.objectives
    return [
        o.Eigenvalue(0),
        o.LinearOutput(vector[mine], 0, "imag"),
        o.QuadraticForm(weight[mine], (0,)),
        o.StructuralSensitivity(weight[mine], 0),
    ]


def on_one(function):
    """Return on every rank what rank 0 finds alone, while the others leave it the machine."""
    return COMM.bcast(function() if COMM.rank == 0 else None)


def everything(problem, comm):
    """Return all that a user sees, on every rank."""
    model = problem.model(comm)
    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(
            pencil, 2, target=problem.target, solver_parameters={"eps_tol": 1e-13}
        ) as pairs,
    ):
        given = objectives(pairs.rows, 8)
        tangent = ga.jvp(model, problem.p, pairs, P_DOT)
        gradients = ga.gradient(model, problem.p, pairs, given)
        product = ga.hessian_vector_product(model, problem.p, pairs, given[3], P_DOT)
        return {
            "values": pairs.values,
            "condition": pairs.condition,
            "phase rows": pairs.phase_rows,
            "right": whole(pairs, pairs.right),
            "left": whole(pairs, pairs.left),
            "right tangent": whole(pairs, tangent.right),
            "left tangent": whole(pairs, tangent.left),
            "gradients": np.array([item["p"] for item in gradients]),
            "product": product["p"],
        }


@pytest.mark.parametrize("problem", CHOSEN, ids=lambda item: item.name)
def test_ranks_do_not_matter(problem):
    found = everything(problem, COMM)
    alone = on_one(lambda: everything(problem, MPI.COMM_SELF))
    for name, expected in alone.items():
        scale = max(np.abs(expected).max(), 1.0)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=SAME * scale, err_msg=name)
    for name in ("values", "condition", "gradients", "product"):
        assert len(set(COMM.allgather(found[name].tobytes()))) == 1  # bitwise on all ranks


@pytest.mark.parametrize("problem", CHOSEN[:1], ids=lambda item: item.name)
def test_values_are_those_of_the_polynomial_solver_of_slepc(problem):
    mats = [matrix(array, COMM) for array in problem.dense(problem.p)]
    pep = SLEPc.PEP().create(COMM)
    pep.setOperators(mats)
    pep.setType(SLEPc.PEP.Type.TOAR)
    pep.setDimensions(4)
    pep.setTarget(problem.target)
    pep.setWhichEigenpairs(SLEPc.PEP.Which.TARGET_MAGNITUDE)
    pep.setTolerances(1e-12)
    pep.getST().setType(SLEPc.ST.Type.SINVERT)
    pep.getST().getKSP().setType("preonly")  # by default it iterates on several ranks
    pep.getST().getKSP().getPC().setType("lu")
    pep.getST().getKSP().getPC().setFactorSolverType("mumps")
    pep.solve()
    vecs = mats[0].createVecRight(), mats[0].createVecRight()
    expected = np.array([complex(pep.getEigenpair(j, *vecs)) for j in range(pep.getConverged())])
    for item in (pep, *vecs, *mats):
        item.destroy()
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        ga.solve_quadratic(
            pencil, 4, target=problem.target, solver_parameters={"eps_tol": 1e-13}
        ) as pairs,
    ):
        distance = np.abs(pairs.values[:, None] - expected).min(axis=1)
    # Values of size 1 to 5 and condition 2, by direct factors on both sides.
    np.testing.assert_allclose(distance[: len(expected)], 0.0, atol=1e-11)
    values, _ = dense_values(*problem.dense(problem.p))
    assert np.abs(pairs.values[:, None] - values).min(axis=1).max() < 1e-9


def bar_gradients(comm, p, n_local=None):
    n = 7
    model = end_damper(n, comm)
    if n_local is not None:
        blocks = [
            ga.ElementBlock(name, block.dofs, block.kernel, block.parameters)
            for name, part in model.parts.items()
            for block in part.blocks
        ]
        model = ga.QuadraticElementModel(n, blocks, comm=comm, n_local=n_local)
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
        return ga.gradient(model, p, pairs, objectives(pairs.rows, n)[1:])


BAR = {"k": np.linspace(1.0, 1.5, 7), "c": np.array([0.4]), "m": np.linspace(0.8, 1.2, 7)}


def test_rows_and_parameters_may_lie_anywhere():
    expected = on_one(lambda: [dict(item) for item in bar_gradients(MPI.COMM_SELF, BAR)])
    uneven = {1: [7], 2: [1, 6], 3: [0, 5, 2]}[COMM.size][COMM.rank]
    vecs = {}
    for name, value in BAR.items():
        vecs[name] = PETSc.Vec().createMPI(len(value), comm=COMM)
        rows = slice(*vecs[name].getOwnershipRange())
        vecs[name].array[:] = value[rows]
    replicated, distributed = bar_gradients(COMM, BAR, uneven), bar_gradients(COMM, vecs, uneven)
    for known, found, vec in zip(expected, replicated, distributed, strict=True):
        for name in BAR:
            gathered = np.concatenate(COMM.allgather(vec[name].array_r.real.copy()))
            np.testing.assert_allclose(found[name], known[name], rtol=SAME, atol=SAME)
            np.testing.assert_allclose(gathered, known[name], rtol=SAME, atol=SAME)


@pytest.mark.parametrize("build", [oscillator, rotor])
def test_ranks_without_rows(build):
    def found(comm):
        model = build(comm)
        p = {"m": np.ones(1), "k": np.array([4.0])}
        p |= {name: np.array([0.7]) for name in model.parameter_sizes if name in "cw"}
        with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
            given = objectives(pairs.rows, pencil.layout.n)
            gradients = ga.gradient(model, p, pairs, given)
            return pairs.values, [dict(item) for item in gradients]

    values, gradients = found(COMM)
    alone, expected = on_one(lambda: found(MPI.COMM_SELF))
    np.testing.assert_allclose(values, alone, atol=1e-12)
    for mine, theirs in zip(gradients, expected, strict=True):
        for name in theirs:
            np.testing.assert_allclose(mine[name], theirs[name], atol=SAME)


def blocks(names):
    own = shares(4, COMM)
    dofs = np.stack([own - 1, own], axis=1)
    return [ga.ElementBlock(name, dofs, ga.ScaledKernel(BAR_K), {"k": own}) for name in names]


def test_a_wrong_name_on_one_rank_is_an_error_on_all():
    names = "KX" if last(COMM) else "KM"
    error = raised_everywhere(
        COMM,
        InputError,
        'matrix must be "K", "C" or "M"',
        lambda: ga.QuadraticElementModel(4, blocks(names), comm=COMM),
    )
    assert_from_the_last_rank(COMM, error)


def test_a_wrong_functional_on_one_rank_is_an_error_on_all():
    with end_damper(4, COMM).assemble(
        {"k": np.ones(4), "c": np.ones(1), "m": np.ones(4)}
    ) as pencil:
        wrong = np.ones(pencil.layout.n_local + int(last(COMM)))
        error = raised_everywhere(
            COMM,
            InputError,
            "the vector of a linear normalization must hold",
            ga.solve_quadratic,
            pencil,
            normalization=("linear", wrong),
        )
    assert_from_the_last_rank(COMM, error)


def test_rows_without_mass_are_seen_by_all():
    own = shares(3, COMM)
    dofs = np.stack([own - 1, own], axis=1)
    heavy = np.flatnonzero(own < 2)
    light = own[heavy]
    model = ga.QuadraticElementModel(
        3,
        [
            ga.ElementBlock("K", dofs, ga.ScaledKernel(BAR_K + 0.1 * BAR_M), {"k": own}),
            ga.ElementBlock("M", light[:, None], ga.ScaledKernel(ONE), {"m": light}),
        ],
        comm=COMM,
        form="symmetric",
    )
    p = {"k": np.ones(3), "m": np.ones(2)}
    raised_everywhere(
        COMM, InputError, "needs a regular M, got zeros only in row 2", model.assemble, p
    )


class Failing:
    """An object of a user with an error on the last rank only."""

    comm = COMM

    def __init__(self, method):
        self.method = method

    def matrix(self, name, p):
        return matrix({"K": 2.0, "C": 0.1, "M": 1.0}[name] * p["k"][0] * np.eye(4), COMM)

    def contract(self, name, p, left, right):
        if self.method == "contract" and last(COMM):
            raise ValueError(f"no contract of {name}")
        return {"k": np.zeros(1)}

    def tangent(self, name, p, p_dot, right, hermitian):
        if self.method == "tangent" and last(COMM):
            raise ValueError(f"no tangent of {name}")
        return np.zeros_like(right)

    def contract_tangent(self, name, p, p_dot, left, right):
        raise NotImplementedError


@pytest.mark.parametrize("method", ["contract", "tangent"])
def test_an_error_of_the_object_on_one_rank_is_one_on_all(method):
    model, p = ga.QuadraticModel.of(Failing(method)), {"k": np.ones(1)}
    block = np.ones((2 * (len(range(*own_rows(4, COMM)))), 1))
    calls = {
        "contract": lambda: model.contract(p, block, block, block),
        "tangent": lambda: model.tangent(p, p, block),
    }
    error = raised_everywhere(COMM, ValueError, f"no {method}", calls[method])
    assert_from_the_last_rank(COMM, error)
