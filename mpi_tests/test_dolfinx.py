"""`FormModel` on several ranks: the same gradients, in every layout of the parameters."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from builders import distributed
from dolfinx import fem
from forms_of_tests import (
    advection,
    direction,
    elasticity,
    gradient_of,
)
from mpi4py import MPI
from ranks import assert_from_the_last_rank, last, raised_everywhere

import geneig_adjoint as ga

EXAMPLES = Path(__file__).parents[1] / "examples"
EIGENVALUE = ga.objectives.Eigenvalue(0)
CASES = {"advection": advection, "elasticity": elasticity}


class Case:
    """Forms on all ranks, and their gradients of a value and of something of all vectors."""

    def __init__(self, comm, make):
        self.model = make(comm).model()
        self.p = self.model.values()
        self.values, self.gradients = self.at(self.p)

    def at(self, p):
        objectives = [EIGENVALUE, ga.objectives.PetermannFactor(0)]
        return gradient_of(self.model, p, objectives)


@pytest.fixture(scope="module", params=CASES)
def case(request, comm):
    # All ranks together first: one of them compiles for all.
    return [Case(world, CASES[request.param]) for world in (comm, MPI.COMM_SELF)]


def by_place(model, name, values):
    """Return the entries of a field in the order of their places."""
    V = model.field(name, {name: values}).function_space
    own = V.dofmap.index_map.size_local
    size = V.dofmap.index_map_bs
    places = V.mesh.comm.allgather(V.tabulate_dof_coordinates()[:own].round(9))
    places = np.concatenate(places)
    order = np.lexsort(places.T)
    return values.reshape(-1, size)[order]


def numbers(model, name, values):
    return values


ORDERED = {"cell": by_place, "node": by_place, "density": by_place}


def test_gradients_are_those_of_one_rank(comm, case):
    here, alone = case
    np.testing.assert_allclose(here.values, alone.values, rtol=1e-10)
    for found, expected in zip(here.gradients, alone.gradients, strict=True):
        for name, part in found.items():
            assert set(comm.allgather(part.tobytes())) == {part.tobytes()}
            ordered = ORDERED.get(name, numbers)
            reference = ordered(alone.model, name, expected[name])
            size = np.abs(reference).max()
            # eps_tol 1e-13 and rtol 1e-12 times condition numbers below 1000
            np.testing.assert_allclose(ordered(here.model, name, part), reference, atol=1e-9 * size)


def test_products_are_dual_on_every_number_of_ranks(comm, case):
    model, p = case[0].model, case[0].p
    dot = direction(p)
    rng = np.random.default_rng(comm.rank)
    parts = rng.normal(size=(2, 3, model.rows[1] - model.rows[0], 2))
    left_a, left_b, right = parts[0] + 1j * parts[1]
    dA_x, dB_x = model.tangent(p, dot, right)
    total = comm.allreduce(np.vdot(left_a, dA_x).real + np.vdot(left_b, dB_x).real)
    bars = model.contract(p, left_a, left_b, right)
    terms = np.concatenate([bars[name] * dot[name] for name in p])
    assert abs(terms.sum() - total) < 1e-13 * np.abs(terms).sum()
    second = model.contract_tangent(p, dot, left_a, left_b, right)
    step = 1e-4
    there, back = (
        model.contract({name: p[name] + t * dot[name] for name in p}, left_a, left_b, right)
        for t in (step, -step)
    )
    for name in p:
        slope = (there[name] - back[name]) / (2 * step)
        # second order: (1e-4)^2 of the entries
        np.testing.assert_allclose(second[name], slope, atol=1e-6 * np.abs(bars[name]).max())


def test_distributed_parameters(comm, case):
    here = case[0]
    everything = {name: distributed(value, comm) for name, value in here.p.items()}
    for given in (here.model.values(distributed=True), everything):
        for found, expected in zip(here.at(given)[1], here.gradients, strict=True):
            for name, value in found.items():
                first, end = getattr(value, "owner_range", (0, len(expected[name])))
                entries = np.real(getattr(value, "array_r", value))
                size = np.abs(expected[name]).max()
                np.testing.assert_allclose(entries, expected[name][first:end], atol=1e-9 * size)


def test_refilling(case):
    model, p = case[0].model, case[0].p
    with ga.value_and_gradient(model, EIGENVALUE, count=2, target=0.0) as f:
        f({name: 1.1 * value for name, value in p.items()})
        value, gradient = f(p)
    assert value == pytest.approx(case[0].values[0].real, rel=1e-10)
    for name, part in gradient.items():
        expected = case[0].gradients[0][name]
        np.testing.assert_allclose(part, expected, atol=1e-8 * np.abs(expected).max())


def test_boundary_values_on_one_rank_only(comm):
    forms = elasticity(comm)
    space = forms.a.arguments()[0].ufl_function_space()
    value = fem.Function(space)
    value.x.array[:] = float(last(comm))
    dofs = np.arange(space.dofmap.index_map.size_local, dtype=np.int32)
    forms.bcs = [fem.dirichletbc(value, dofs)]
    error = raised_everywhere(comm, ga.InputError, r"boundary values must be zero", forms.model)
    assert_from_the_last_rank(comm, error)


def test_field_and_eigenfunction_have_ghosts(comm, case):
    model = case[0].model
    rows = np.arange(*model.rows) + 1.0
    function = model.eigenfunction(rows)
    square = function.x.array.copy()
    function.x.scatter_forward()
    np.testing.assert_array_equal(function.x.array, square)
    own = function.function_space.dofmap.index_map.size_local
    own *= function.function_space.dofmap.index_map_bs
    assert comm.allreduce(np.count_nonzero(square[:own])) == comm.allreduce(len(rows))


def test_plate_of_the_examples(comm, capsys):
    found = runpy.run_path(str(EXAMPLES / "dolfinx_plate.py"))
    # A is proportional to E; eps_tol and the residuals of a stiff plate
    assert found["of_stiffness"] == pytest.approx(found["values"][0], rel=1e-9)
    # degree 3 in A, 1 in B, but for the floor of 1e-6
    assert found["degree"] == pytest.approx(2.0, abs=1e-4)
    assert found["degree"] != pytest.approx(2.0, abs=1e-6)
    assert comm.allreduce(capsys.readouterr().out.count("frequencies")) == 1
