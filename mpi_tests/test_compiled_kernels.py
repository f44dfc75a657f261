"""Whole gradients with element routines in C, and with complex ones in NumPy, on any ranks."""

import runpy
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from all_derivatives import everything, objective
from builders import C0, K0, M0, chain_dofs, chain_parameters, distributed, shares
from compiled_elements import compiled, spring_kernels
from mpi4py import MPI
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

N = 11
P = chain_parameters(N)
P_DOT = {name: np.cos(np.arange(N + 1) + len(name)) * value for name, value in P.items()}
EVERY = np.arange(N + 1)
# Convection makes A nonsymmetric; a complex build gets a complex one.
BASES = {"nonsymmetric": K0 + C0}
BASES |= {"complex": K0 + (1 + 0.3j) * C0} if COMPLEX_BUILD else {}
OWN = {
    "turns": lambda comm: shares(N + 1, comm),
    "all on the last": lambda comm: EVERY[: (N + 1) * (comm.rank == comm.size - 1)],
}
CASES = [("nonsymmetric", "C", own) for own in OWN]
CASES += [("complex", name, "turns") for name in ("C", "pair", "tangent")] if COMPLEX_BUILD else []
EXAMPLE = Path(__file__).parents[1] / "examples" / "compiled_element"


def on_all(comm, tmp_path_factory, make):
    """Let rank 0 make files in a folder; return the folder on all ranks."""
    folder = tmp_path_factory.mktemp("compiled") if comm.rank == 0 else None
    if comm.rank == 0:
        make(folder)
    return comm.bcast(folder)


@pytest.fixture(scope="module")
def library(comm, tmp_path_factory):
    return on_all(comm, tmp_path_factory, lambda folder: compiled("C", folder)) / "C.so"


def chain(comm, stiff, own):
    dofs = chain_dofs(N)[own]
    blocks = [
        ga.ElementBlock("A", dofs, stiff, {"k": own}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": own}),
    ]
    return ga.ElementModel(N, blocks, comm=comm)


@cache
def by_hand(base):
    """Return what one rank finds with scaled kernels."""
    scaled = ga.ScaledKernel(BASES[base], ga.PowerLaw(2.0, 0.01))
    return everything(chain(MPI.COMM_SELF, scaled, EVERY), P, P_DOT)


@pytest.mark.parametrize(("base", "name", "own"), CASES)
def test_the_same_as_scaled_kernels(comm, library, base, name, own):
    mine = OWN[own](comm)
    kernel = spring_kernels(library, BASES[base], len(mine))[name]
    found = everything(chain(comm, kernel, mine), P, P_DOT)
    expected = comm.bcast(by_hand(base) if comm.rank == 0 else None)
    for quantity, value in expected.items():
        # the same systems solved to 1e-10 with right-hand sides that differ by rounding
        assert np.abs(found[quantity] - value).max() <= 1e-8 * np.abs(value).max(), quantity
        assert len(set(comm.allgather(found[quantity].tobytes()))) == 1, quantity


def test_gradient_is_right(comm, library):
    mine = OWN["turns"](comm)
    base = list(BASES.values())[-1]
    model = chain(comm, spring_kernels(library, base, len(mine))["C"], mine)
    report = ga.verify_gradient(
        model, P, lambda pairs: objective(pairs)(pairs), count=2, target=0.3
    )
    assert report.passed, str(report)
    # one direct factor serves both ways; condition numbers are below 100
    assert report.dot_product_error <= 1e-9
    assert max(order for order in report.orders if not np.isnan(order)) > 1.95


def test_distributed_parameters(comm, library):
    mine = OWN["turns"](comm)
    model = chain(comm, spring_kernels(library, BASES["nonsymmetric"], len(mine))["C"], mine)
    p, p_dot = ({name: distributed(given[name], comm) for name in P} for given in (P, P_DOT))
    found = everything(model, p, p_dot)
    expected = comm.bcast(by_hand("nonsymmetric") if comm.rank == 0 else None)
    for name in P:
        gradient = np.concatenate(comm.allgather(found[f"gradient {name}"].array_r.real))
        assert np.allclose(gradient, expected[f"gradient {name}"], rtol=1e-8, atol=1e-10)


def test_an_element_that_a_routine_cannot_do_is_an_error_on_all_ranks(comm, library):
    mine = OWN["turns"](comm)
    model = chain(comm, spring_kernels(library, K0, len(mine))["C"], mine)
    p = P | {"k": np.where(EVERY == 1, 0.0, P["k"])}  # one element of one rank
    with pytest.raises(ga.InputError, match=r"'spring' must return 0, .*element \d of this rank"):
        model.assemble(p)


def test_mast_of_the_examples(comm, tmp_path_factory):
    def make(folder):
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
        text = (EXAMPLE / "mast.py").read_text()
        commands = [line for line in text.splitlines() if line.startswith(("    cc", "    gfort"))]
        assert len(commands) == 2
        for command in commands:
            subprocess.run(command.split(), cwd=folder, check=True, timeout=60)

    mast = runpy.run_path(str(on_all(comm, tmp_path_factory, make) / "mast.py"))
    # 40 cubic elements: relative errors of 1e-9
    assert mast["found"] == pytest.approx(mast["known"], rel=1e-8)
    assert all(report.passed for report in mast["reports"])
    assert mast["degrees"]["height"] == pytest.approx(1.0, abs=1e-8)
    assert abs(mast["degrees"]["width"]) <= 1e-8
    # as element_in_c.md prints them
    assert mast["frequency"] == pytest.approx(2.146168, abs=1e-6)
    printed = mast["gradient"]["height"][[0, 20, 39]]
    np.testing.assert_allclose(printed, [0.630387, 0.273632, -0.886792], atol=2e-6)
    slope = direction_slope(mast)
    assert mast["gradient"]["height"] @ np.cos(np.arange(40)) == pytest.approx(slope, rel=1e-6)


def direction_slope(mast, step=1e-4):
    """Return fourth-order differences of the frequency along a direction of the heights."""

    def at(distance):
        height = mast["p"]["height"] + distance * np.cos(np.arange(40))
        return mast["first_frequency"](mast["p"] | {"height": height})[0]

    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)
