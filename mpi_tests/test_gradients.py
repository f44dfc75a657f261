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
KEPT = {"nonsymmetric", "complex_pair", "bar", "jax_advection"}
GALLERY = {problem.name: problem for problem in problems()}
KEPT |= {problem.name for problem in complex_problems()}
CHOSEN = [item for item in GALLERY.values() if not COMPLEX_BUILD or item.name in KEPT]
# The normalization meets the ranks in few places: all by default, some by a functional.
CHAINS = [Scenario(problem, "default") for problem in [*CHOSEN, *TINY]]
CHAINS += [
    Scenario(problem, "linear")
    for problem in [GALLERY["nonsymmetric"], GALLERY["complex_pair"], GALLERY["bar"], *TINY]
]
CHAINS += [Scenario(problem, "component") for problem in TINY]
# Objectives by themselves need one problem of each kind; everywhere else one of every kind of
# cotangent will do: of values, right and left vectors, several pairs, matrices and parameters.
# How systems are solved is no business of objectives, models or normalizations: Krylov methods
# meet those few, and one of every kind of pair, border and B.
ALL = {"nonsymmetric", "complex_pair", "bar", "tiny_1", "tiny_2", "complex_nonsymmetric"}
FEW = {"ks_eigenvalue", "quadratic_several", "with_parameters", "left_output", "energies"}
FEW |= {"structural"}
KRYLOV = {"symmetric", "indefinite", "nonsymmetric", "complex_pair", "two_group", "bar"}
KRYLOV |= {"tiny_1", "tiny_2", "hermitian", "complex_nonsymmetric", "complex_symmetric"}
# Between rank counts only rounding and the stopping of solvers (rtol 1e-10) differ.
SAME = 1e-9


class Run:
    """Pairs and objectives of one scenario on one communicator."""

    def __init__(self, scenario, model, pairs) -> None:
        self.problem, self.model, self.pairs = scenario.problem, model, pairs
        whole = scenario.problem.name in ALL and scenario.label == "default"
        specs = objectives_for(self.problem)
        self.specs = [spec for spec in specs if whole or spec.name in FEW]
        self.objectives = [spec.make(self.problem, pairs) for spec in self.specs]
        few = [i for i, spec in enumerate(self.specs) if spec.name in FEW]
        self.chosen = {"ksp": few}
        # Rounding, where one factor serves both ways; Krylov methods: 100 x their rtol of 1e-10.
        both = scenario.problem.name in KRYLOV and scenario.label == "default"
        self.duality = {"direct": 1e-12} | ({"ksp": 1e-8} if both else {})
        self.gradients, self.tangent = cache(self._gradients), cache(self._tangent)

    def _gradients(self, strategy=None) -> np.ndarray:
        p, wanted = self.problem.p, self.of(strategy, self.objectives)
        found = ga.gradient(self.model, p, self.pairs, wanted, strategy=strategy)
        return np.array([flat(item) for item in found])

    def of(self, strategy, rows):
        """Return what belongs to the objectives that a strategy is tested with."""
        return [rows[i] for i in self.chosen.get(strategy, range(len(rows)))]

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
        # One rank works, as the others would do the same.
        here = references(found, request.param) if comm.rank == 0 else None
        found.expected, found.expected_tangent, found.alone = comm.bcast(here)
        yield found


def references(run, scenario):
    """Return gradients and the tangent of dense arrays, and gradients of one rank."""
    reference = DenseReference(scenario.problem, scenario.scale)
    tangent = reference.tangent(scenario.problem.p_dot)
    return expected_gradients(run, reference), tangent, gradients_alone(scenario)


def gradients_alone(scenario) -> np.ndarray:
    with solved(scenario, MPI.COMM_SELF) as alone:
        return alone.gradients()


def expected_gradients(run, reference) -> np.ndarray:
    tangents = [reference.tangent(unit) for unit in directions(run.problem.p)]
    return np.array(
        [
            [reference.derivative(lambda s, f=spec.dense: f(run.problem, s), t) for t in tangents]
            for spec in run.specs
        ]
    )


def relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest error of every row, relative to the row or, if that vanishes, to 1."""
    size = np.abs(expected).max(axis=1)
    return np.abs(found - expected).max(axis=1) / np.where(size > 1e-6, size, 1.0)


def test_gradients_equal_dense_reference_and_one_rank(run):
    for strategy in run.duality:
        found = run.gradients(strategy)
        for expected in (run.expected, run.alone):
            rows = np.array(run.of(strategy, expected))
            np.testing.assert_array_less(relative(found, rows), SAME, err_msg=strategy)


def test_results_are_bitwise_the_same_on_every_rank(run):
    values = [evaluate(item, run.pairs, run.problem.p)[0] for item in run.objectives]
    mine = [np.array(values), run.pairs.values]
    for strategy in run.duality:
        mine += [run.gradients(strategy), run.tangent(strategy).values]
    everyone = run.pairs.comm.allgather([item.tobytes() for item in mine])
    assert all(other == everyone[0] for other in everyone)


def test_tangents_equal_dense_reference(run):
    expected = run.expected_tangent
    for strategy in run.duality:
        found = run.tangent(strategy)
        for part in ("right", "left"):
            np.testing.assert_allclose(
                run.whole(getattr(found, part)),
                getattr(expected, part),
                atol=SAME * np.linalg.norm(getattr(expected, part)),
            )
        np.testing.assert_allclose(
            found.values, expected.values, atol=SAME * np.abs(expected.values).max()
        )


def test_gradients_and_tangents_are_dual(run):
    # Objectives of vectors and values; those with explicit terms are in the serial tests.
    rows, comm = slice(*run.pairs.rows), run.pairs.comm
    x_bar, y_bar = (run.problem.vector(seed)[rows, None] + 0 * run.pairs.right for seed in (3, 4))
    lam_bar = np.linspace(1.0, 2.0, run.pairs.count) * (1 - 0.5j)

    def objective(pairs):
        return 0.0, ga.EigenCotangent(values=lam_bar, right=x_bar, left=y_bar)

    for strategy, limit in run.duality.items():
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


@pytest.mark.parametrize("name", ["bar", "advection", "nonsymmetric"])
def test_distributed_parameters_give_the_replicated_gradient(name, comm):
    problem = GALLERY[name]
    scenario = Scenario(problem, "default")
    with solved(scenario, comm) as replicated:
        kept = [
            i for i in replicated.chosen["ksp"] if replicated.specs[i].name != "with_parameters"
        ]
        objectives = [replicated.objectives[i] for i in kept]
        expected = ga.gradient(replicated.model, problem.p, replicated.pairs, objectives)
        p = {key: distributed(comm, value) for key, value in problem.p.items()}
        with (
            replicated.model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, **problem.solver) as pairs,
        ):
            found = ga.gradient(replicated.model, p, pairs, objectives)
        rows = [
            np.concatenate([np.concatenate(comm.allgather(vec.array.real)) for vec in g.values()])
            for g in found
        ]
        expected = np.array([flat(item) for item in expected])
        np.testing.assert_array_less(relative(np.array(rows), expected), SAME)
        for vec in [v for g in [p, *found] for v in g.values()]:
            vec.destroy()


def distributed(comm, values: np.ndarray) -> PETSc.Vec:
    vec = PETSc.Vec().createMPI(values.size, comm=comm)
    vec.array[:] = values[slice(*vec.getOwnershipRange())]
    return vec


# Columns know models, not pencils: one of each kind of model, and one without B.
@pytest.mark.parametrize(
    "name",
    ["nonsymmetric", "bar", "advection", "jax_advection"]
    + ["symmetric_standard", "assembled"] * (not COMPLEX_BUILD),
)
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
