"""Examples on 1, 2, 3 ranks: gradients as on one rank, and as by differences of the whole chain."""

import importlib.util
import runpy
import sys
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from test_iaea2d_reference import QUANTITIES_5CM, SENSITIVITIES_5CM

import geneig_adjoint as ga

EXAMPLES = Path(__file__).parents[1] / "examples"
PCM = 1e-5


@cache
def load(name):
    """Import an example's model.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location(f"{name}_model", EXAMPLES / name / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


REACTOR = ("iaea2d", {"count": 2, "target": 0.9, "normalization": "2"})
BRACKET = ("bracket", {"count": 6, "target": 0.0})
COARSE = {"mesh": "bracket_coarse.msh", "pattern": True}
SHARP = {"solver_parameters": {"eps_tol": 1e-13}, "adjoint": {"rtol": 1e-12}}


def reactor_objectives(model):
    module = load("iaea2d")
    return {
        "keff": ga.objectives.KEffective(0),
        "flux_ratio": module.flux_ratio(model, numerator=(5, 5), denominator=(2, 2)),
        "fission_source_norm": module.fission_source_norm(model),
    }


def bracket_objectives(model):
    return {
        "f1": ga.objectives.Frequency(0),
        "ks": ga.objectives.KSMinimum(rho=0.004),
        "tip_motion": load("bracket").tip_motion(model),
    }


EXPLICIT = {"fission_source_norm"}  # called with the parameters, too
OBJECTIVES = {"iaea2d": reactor_objectives, "bracket": bracket_objectives}


class Chain:
    """An example from its parameters to its objectives, on the ranks of a communicator."""

    def __init__(self, example, comm, options):
        name, solver = example
        self.model, self.p, self.mesh = load(name).build(comm, options)
        self.objectives = OBJECTIVES[name](self.model)
        self.solver = solver | {"solver_parameters": SHARP["solver_parameters"]}

    def values(self, p, like=None):
        """Return all objectives and the eigenvalues."""
        with (
            self.model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, like=like, **self.solver) as pairs,
        ):
            found = [
                objective(pairs, *[p] * (name in EXPLICIT))[0]
                for name, objective in self.objectives.items()
            ]
        return np.array(found), pairs

    @cached_property
    def here(self):
        """Objectives and pairs at the parameters of the example."""
        return self.values(self.p)

    def gradients(self):
        objectives = list(self.objectives.values())
        with (
            self.model.assemble(self.p) as pencil,
            ga.solve_eigenproblem(pencil, **self.solver) as pairs,
        ):
            found = ga.gradient(self.model, self.p, pairs, objectives, **SHARP["adjoint"])
        return dict(zip(self.objectives, found, strict=True))

    def slopes(self, direction, step):
        """Return fourth-order central differences along a direction."""
        pairs = self.here[1]

        def at(t):
            moved = {name: value + t * direction[name] for name, value in self.p.items()}
            return self.values(moved, like=pairs)[0]

        near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
        return (8 * near - far) / (12 * step)


@pytest.fixture(scope="module")
def chains(comm):
    """Both examples on all ranks, with their gradients."""
    made = {
        "reactor": Chain(REACTOR, comm, {"cell_size": 5.0, "parameters": "cell"}),
        "bracket": Chain(BRACKET, comm, COARSE),
    }
    return {name: (chain, chain.gradients()) for name, chain in made.items()}


ALONE = {
    "reactor": (REACTOR, {"cell_size": 5.0, "parameters": "cell"}),
    "bracket": (BRACKET, COARSE),
}


STEP = 2e-3


@cache
def found_alone(name):
    """Return what one rank finds: objectives, gradients, and slopes by differences."""
    example, options = ALONE[name]
    chain = Chain(example, MPI.COMM_SELF, options)
    return chain.here[0], chain.gradients(), chain.slopes(direction(chain.p), STEP)


def direction(p):
    """Return a smooth change, so that the parts do not cancel."""
    return {
        key: value * (1 + 0.5 * np.cos(3 * i + np.linspace(0, 2, value.size)))
        for i, (key, value) in enumerate(p.items())
    }


@pytest.fixture(scope="module", params=ALONE)
def compared(request, comm, chains):
    """An example on all ranks, its gradients, and what rank 0 finds alone."""
    alone = comm.bcast(found_alone(request.param) if comm.rank == 0 else None)
    return *chains[request.param], alone


def test_gradients_do_not_depend_on_the_number_of_ranks(compared):
    chain, gradients, (values, alone, _) = compared
    np.testing.assert_allclose(chain.here[0], values, rtol=1e-9)
    for objective, gradient in gradients.items():
        for parameter, part in gradient.items():
            reference = alone[objective][parameter]
            # Entries far below the largest one are small by cancellation.
            scale = abs(reference).max()
            np.testing.assert_allclose(part, reference, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ALONE)
def test_gradients_are_the_same_bits_on_every_rank(comm, chains, name):
    for gradient in chains[name][1].values():
        for part in gradient.values():
            assert set(comm.allgather(part.tobytes())) == {part.tobytes()}


def test_gradients_agree_with_differences_of_the_whole_chain(compared):
    chain, gradients, (*_, slopes) = compared
    change = direction(chain.p)
    for slope, (objective, gradient) in zip(slopes, gradients.items(), strict=True):
        terms = [float(part @ change[key]) for key, part in gradient.items()]
        # Truncation (2e-3)^4 and rounding 1e-13 / 2e-3 both stay below 1e-9 of the terms.
        assert sum(terms) == pytest.approx(slope, rel=1e-7, abs=1e-9 * max(map(abs, terms))), (
            objective
        )


def test_reactor_matches_the_independent_reference(chains):
    chain, gradients = chains["reactor"]
    values, _ = chain.here
    np.testing.assert_allclose(values, QUANTITIES_5CM, rtol=1e-9)
    material = load("iaea2d").geometry(5.0).material
    for objective, expected in SENSITIVITIES_5CM.items():
        for name, row in expected.items():
            per_percent = 0.01 / PCM * chain.p[name] * gradients[objective][name]
            by_material = np.bincount(material, per_percent, minlength=4)
            # What the reference's differences carry (its author's numbers).
            np.testing.assert_allclose(by_material, row, rtol=5e-7, atol=3e-7)


def test_reactor_by_material_is_the_sum_over_its_cells(comm, chains):
    by_cell = chains["reactor"][1]
    materials = Chain(REACTOR, comm, {"cell_size": 5.0, "parameters": "material"}).gradients()
    ids = load("iaea2d").geometry(5.0).material
    for objective, gradient in materials.items():
        for name, part in gradient.items():
            sums = np.bincount(ids, by_cell[objective][name], minlength=4)
            scale = abs(by_cell[objective][name]).sum()
            np.testing.assert_allclose(part, sums, rtol=1e-9, atol=1e-11 * scale)


def test_k_is_proportional_to_fission(chains):
    chain, gradients = chains["reactor"]
    k = chain.here[0][0]
    # F is linear in nuSf2 and k is 1 / lam of A phi = lam F phi.
    assert gradients["keff"]["nuSf2"] @ chain.p["nuSf2"] == pytest.approx(k, rel=1e-10)


COARSE_FREQUENCIES = [2004.37395, 2678.90185, 3620.47473, 4707.36311, 5963.37017, 7563.76692]


def test_solid_bracket_has_the_known_frequencies_and_scales_with_density(comm):
    solid = Chain(BRACKET, comm, {"mesh": "bracket_coarse.msh"})
    values, pairs = solid.here
    frequencies = np.sqrt(pairs.values.real) / (2 * np.pi)
    # The references (scikit-fem and SciPy alone) are given to 1e-5 Hz.
    np.testing.assert_allclose(frequencies, COARSE_FREQUENCIES, atol=1e-5)
    # A is of degree 3 in the density (but for the floor, 1e-6 of it) and B of degree 1: lam is of
    # degree 2 and f of degree 1, so that sum rho df/drho = f (Euler), up to some 1e-6.
    total = solid.p["density"] @ solid.gradients()["f1"]["density"]
    assert total == pytest.approx(values[0], rel=3e-6)
    assert total != pytest.approx(values[0], rel=1e-7)


def test_rank_one_prints_the_known_numbers(comm, capsys):
    found = runpy.run_path(str(EXAMPLES / "rank_one" / "rank_one.py"))
    assert abs(found["pairs"].values[0] - 12.638225653931972) < 1e-12
    expected = [-3.1242304192641748, 6.164897438708478, -1.6691693962201561]
    np.testing.assert_allclose(found["gradient"], expected, rtol=1e-12)
    assert comm.allreduce(capsys.readouterr().out.count("gradient")) == 1
