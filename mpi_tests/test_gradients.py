"""Gradients and tangents on ranks: against the dense reference, one rank, and each other.

Runs on any number of ranks; on three, the problems with one and two rows leave ranks empty.
"""

from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from dense_reference import DenseReference
from mpi4py import MPI
from objective_specs import objectives_for
from pencils import COMPLEX_BUILD, directions, flat, moved
from petsc4py import PETSc
from problems import complex_problems, problems, tiny_problem
from scenarios import Scenario

import geneig_adjoint as ga
from geneig_adjoint import objectives as o
from geneig_adjoint.evaluation import evaluate

TINY = [tiny_problem(1), tiny_problem(2)]
# Real problems are distributed alike in both builds: all of them in the real one.
KEPT = {"nonsymmetric", "indefinite", "complex_pair", "two_group", "bar", "advection"}
KEPT |= {"jax_advection"}
CHOSEN = [p for p in problems() if not COMPLEX_BUILD or p.name in KEPT]
CHOSEN += complex_problems()[: 7 * COMPLEX_BUILD]
GALLERY = {problem.name: problem for problem in CHOSEN}
# The normalization meets the ranks in few places: all by default, some by a functional.
CHAINS = [Scenario(problem, "default") for problem in [*CHOSEN, *TINY]]
CHAINS += [
    Scenario(problem, "linear")
    for problem in [GALLERY["nonsymmetric"], GALLERY["complex_pair"], GALLERY["bar"], *TINY]
]
CHAINS += [Scenario(problem, "component") for problem in TINY]
# Between rank counts only rounding and the stopping of solvers (rtol 1e-10) differ.
SAME = 1e-9


class Run:
    """Pairs and objectives of one scenario on one communicator."""

    def __init__(self, scenario, model, pairs) -> None:
        self.problem, self.model, self.pairs = scenario.problem, model, pairs
        self.specs = objectives_for(self.problem)
        self.objectives = [spec.make(self.problem, pairs) for spec in self.specs]

        self.gradients, self.tangent = cache(self._gradients), cache(self._tangent)

    def _gradients(self, strategy=None) -> np.ndarray:
        p = self.problem.p
        found = ga.gradient(self.model, p, self.pairs, self.objectives, strategy=strategy)
        return np.array([flat(item) for item in found])

    def _tangent(self, strategy) -> ga.EigenTangent:
        p, p_dot = self.problem.p, self.problem.p_dot
        return ga.jvp(self.model, p, self.pairs, p_dot, strategy=strategy)

    def whole(self, block: np.ndarray) -> np.ndarray:
        """Return all rows of a row block on every rank."""
        return np.concatenate(self.pairs.comm.allgather(block))


@contextmanager
def solved(scenario, comm):
    problem = scenario.problem
    with problem.model(comm) as model, model.assemble(problem.p) as pencil:
        norm = scenario.normalization(pencil.rows)
        with ga.solve_eigenproblem(pencil, normalization=norm, **problem.solver) as pairs:
            yield Run(scenario, model, pairs)


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def run(request, comm):
    with solved(request.param, comm) as found:
        found.reference = DenseReference(request.param.problem, request.param.scale)
        # One rank works, as the others would do the same.
        here = (
            (expected_gradients(found), gradients_alone(request.param)) if comm.rank == 0 else None
        )
        found.expected, found.alone = comm.bcast(here)
        yield found


def gradients_alone(scenario) -> np.ndarray:
    with solved(scenario, MPI.COMM_SELF) as alone:
        return alone.gradients()


def expected_gradients(run) -> np.ndarray:
    tangents = [run.reference.tangent(unit) for unit in directions(run.problem.p)]
    return np.array(
        [
            [
                run.reference.derivative(lambda s, f=spec.dense: f(run.problem, s), t)
                for t in tangents
            ]
            for spec in run.specs
        ]
    )


def relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest error of every row, relative to the row or, if that vanishes, to 1."""
    size = np.abs(expected).max(axis=1)
    return np.abs(found - expected).max(axis=1) / np.where(size > 1e-6, size, 1.0)


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_gradient_equals_dense_reference_and_one_rank(run, strategy):
    found = run.gradients(strategy)
    np.testing.assert_array_less(relative(found, run.expected), SAME)
    np.testing.assert_array_less(relative(found, run.alone), SAME)


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_results_are_bitwise_the_same_on_every_rank(run, strategy):
    values = [evaluate(item, run.pairs, run.problem.p)[0] for item in run.objectives]
    tangent = run.tangent(strategy)
    mine = [run.gradients(strategy), np.array(values), tangent.values, run.pairs.values]
    everyone = run.pairs.comm.allgather([item.tobytes() for item in mine])
    assert all(other == everyone[0] for other in everyone)


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_tangent_equals_dense_reference(run, strategy):
    found = run.tangent(strategy)
    expected = run.reference.tangent(run.problem.p_dot)
    for part in ("right", "left"):
        np.testing.assert_allclose(
            run.whole(getattr(found, part)),
            getattr(expected, part),
            atol=SAME * np.linalg.norm(getattr(expected, part)),
        )
    np.testing.assert_allclose(
        found.values, expected.values, atol=SAME * np.abs(expected.values).max()
    )


# One factor serves both ways: rounding.  Krylov methods: 100 x their rtol of 1e-10.
@pytest.mark.parametrize(("strategy", "limit"), [("direct", 1e-12), ("ksp", 1e-8)])
def test_gradient_and_tangent_are_dual(run, strategy, limit):
    # Objectives of vectors and values; those with explicit terms are in the serial tests.
    rows, comm = slice(*run.pairs.rows), run.pairs.comm
    x_bar, y_bar = (run.problem.vector(seed)[rows, None] + 0 * run.pairs.right for seed in (3, 4))
    lam_bar = np.linspace(1.0, 2.0, run.pairs.count) * (1 - 0.5j)

    def objective(pairs):
        return 0.0, ga.EigenCotangent(values=lam_bar, right=x_bar, left=y_bar)

    tangent = run.tangent(strategy)
    local = np.vdot(x_bar, tangent.right).real + np.vdot(y_bar, tangent.left).real
    forward = comm.allreduce(local) + np.vdot(lam_bar, tangent.values).real
    found = ga.gradient(run.model, run.problem.p, run.pairs, objective, strategy=strategy)
    sizes = [np.linalg.norm(run.whole(block)) for block in (tangent.right, tangent.left)]
    scale = sum(sizes) * 5 * run.problem.n + np.abs(tangent.values).sum()
    assert flat(found) @ flat(run.problem.p_dot) == pytest.approx(forward, abs=limit * scale)


@pytest.mark.parametrize("name", ["bar", "advection", "complex_pair", "two_group", "tiny_2"])
def test_whole_chain_has_second_order_taylor_remainder(name, comm):
    problem = {**GALLERY, "tiny_2": TINY[1]}[name]
    weight = np.linspace(1.0, 2.0, problem.n)

    def objective(pairs):
        diagonal = weight[slice(*pairs.rows)]
        lam = pairs.values[0].real
        energy, cotangent = o.QuadraticForm(diagonal)(pairs)
        lam_bar = np.eye(pairs.count)[0] * energy
        return lam * energy, ga.EigenCotangent(values=lam_bar, right=lam * cotangent.right)

    steps = np.array([2e-3, 1e-3])
    with (
        problem.model(comm) as model,
        ga.value_and_gradient(model, objective, normalization="2", **problem.solver) as f,
    ):
        value, gradient = f(problem.p)
        slope = flat(gradient) @ flat(problem.p_dot)
        values = [f(moved(problem.p, step, problem.p_dot))[0] for step in steps]
    one, two = np.abs(np.array(values) - value - steps * slope)
    assert np.log2(one / two) >= 1.95


@pytest.mark.parametrize("name", ["bar", "advection", "nonsymmetric", "indefinite"])
def test_distributed_parameters_give_the_replicated_gradient(name, comm):
    problem = GALLERY[name]
    scenario = Scenario(problem, "default")
    with solved(scenario, comm) as replicated:
        expected = replicated.gradients()
        p = {key: distributed(comm, value) for key, value in problem.p.items()}
        objectives = [
            item
            for item, spec in zip(replicated.objectives, replicated.specs, strict=True)
            if spec.name != "with_parameters"
        ]
        kept = [i for i, spec in enumerate(replicated.specs) if spec.name != "with_parameters"]
        with (
            replicated.model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, **problem.solver) as pairs,
        ):
            found = ga.gradient(replicated.model, p, pairs, objectives)
        rows = [
            np.concatenate([np.concatenate(comm.allgather(vec.array.real)) for vec in g.values()])
            for g in found
        ]
        np.testing.assert_array_less(relative(np.array(rows), expected[kept]), SAME)
        for vec in [v for g in [p, *found] for v in g.values()]:
            vec.destroy()


def distributed(comm, values: np.ndarray) -> PETSc.Vec:
    vec = PETSc.Vec().createMPI(values.size, comm=comm)
    vec.array[:] = values[slice(*vec.getOwnershipRange())]
    return vec


@pytest.mark.parametrize("name", [p.name for p in CHOSEN if "complex" not in p.traits])
def test_left_vector_times_products_is_the_gradient(name, comm):
    problem = GALLERY[name]
    with solved(Scenario(problem, "default"), comm) as run:
        x, y, lam = held(run.pairs.right[:, 0]), held(run.pairs.left[:, 0]), run.pairs.values[0]
        g = ga.gradient(run.model, problem.p, run.pairs, o.Eigenvalue(0))
        for key, value in problem.p.items():
            for indices in (np.arange(value.size), np.arange(value.size)[::-2]):
                mats = ga.derivative_products(run.model, problem.p, x, key, indices=indices)
                dA_x, dB_x = (times_left(comm, mat, y) for mat in mats)
                # The same sums in another order
                np.testing.assert_allclose(
                    (dA_x - lam * dB_x).real, g[key][indices], atol=1e-12 * np.abs(dA_x).sum()
                )


def held(vector: np.ndarray) -> np.ndarray:
    """Return a vector of this build's scalars (a real one may come as complex numbers)."""
    return vector.astype(PETSc.ScalarType) if COMPLEX_BUILD else vector.real


def times_left(comm, mat, y) -> np.ndarray:
    """Return y^H mat on every rank, and destroy mat."""
    columns, rows = mat.createVecs()
    rows.array[:] = y.conj()
    mat.multTranspose(rows, columns)
    result = np.concatenate(comm.allgather(columns.array.copy()))
    for item in (columns, rows, mat):
        item.destroy()
    return result


def test_a_cotangent_on_one_rank_only_counts_everywhere(comm):
    problem = GALLERY["nonsymmetric"]
    with solved(Scenario(problem, "default"), comm) as run:
        row = run.problem.n - 1

        def objective(pairs):
            x_bar = np.zeros(pairs.right.shape)
            mine = np.flatnonzero(np.arange(*pairs.rows) == row)
            x_bar[mine, 1] = 1.0
            local = pairs.right[mine, 1].real.sum()
            block = {0: None}.get(mine.size, x_bar)
            return pairs.comm.allreduce(local), ga.EigenCotangent(right=block)

        found = ga.gradient(run.model, problem.p, run.pairs, objective)
        unit = np.eye(problem.n)[row][slice(*run.pairs.rows)]
        expected = ga.gradient(run.model, problem.p, run.pairs, o.LinearOutput(unit, pair=1))
        np.testing.assert_allclose(flat(found), flat(expected), rtol=SAME)
