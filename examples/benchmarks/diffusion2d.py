"""Time and memory of a whole gradient: two-group neutron diffusion on a square.

    mpirun -n 2 python examples/benchmarks/diffusion2d.py --cells 316

The default has 199,712 unknowns and 599,136 parameters: six cross sections in each of
316 x 316 cells. Cell-centred finite volumes, a reflector around a core of two fuels in a
checkerboard, vacuum outside:

    leakage(D1) phi1 + (Sa1 + S12) V phi1             = lam nuSf2 V phi2
    leakage(D2) phi2 +  Sa2        V phi2 - S12 V phi1 = 0

with lam = 1 / k, the smallest value wanted. A is not symmetric, and half the rows of B are
zero. Prints a Markdown table: seconds of each step, wall and CPU (the slowest rank), and
the peak of resident memory so far (sum over the ranks).
"""

import argparse
import sys

import numpy as np
from mpi4py import MPI
from steps import Steps

import geneig_adjoint as ga

# cm and 1/cm; outer fuel, inner fuel, reflector
MATERIALS = {
    "D1": (1.5, 1.4, 2.0),
    "D2": (0.4, 0.4, 0.3),
    "Sa1": (0.010, 0.011, 0.0),
    "Sa2": (0.080, 0.085, 0.010),
    "S12": (0.02, 0.02, 0.04),
    "nuSf2": (0.135, 0.128, 0.0),
}
WIDTH = 170.0
VACUUM = 0.4692


def materials(cells):
    """Return the material of every cell: fuels in squares of 20 cm, 20 cm of reflector."""
    square = (np.arange(cells) + 0.5) * WIDTH / cells // 20
    board = (square[:, None] + square[None, :]) % 2
    inside = (square > 0) & (square < 7)
    return np.where(inside[:, None] & inside[None, :], board, 2).astype(int).ravel()


def face_leakage(name):
    """Couple two cells by the harmonic mean of their D; in squares, width / distance is 1."""

    def matrices(**values):
        first, second = values[name].T
        coupling = 2.0 * first * second / (first + second)
        return coupling[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])

    return ga.NumpyKernel(matrices)


def vacuum_leakage(name, size):
    """Half a cell in series with the vacuum outside."""

    def matrices(**values):
        half_cell = 2.0 * values[name] / size
        return (size * half_cell * VACUUM / (half_cell + VACUUM))[:, :, None]

    return ga.NumpyKernel(matrices)


def losses(*, Sa1, Sa2, S12, volume):
    """Absorption, and scattering from fast to thermal."""
    matrix = np.zeros((len(Sa1), 2, 2), dtype=np.result_type(Sa1, Sa2, S12))
    matrix[:, 0, 0], matrix[:, 1, 0], matrix[:, 1, 1] = Sa1 + S12, -S12, Sa2
    return volume * matrix


def reactor(cells, comm):
    """Return the model and its parameters; each rank brings a share of the rows of cells."""
    first, last = (cells * (comm.rank + i) // comm.size for i in (0, 1))
    number = np.arange(cells * cells).reshape(cells, cells)
    own = number[first:last]
    size = WIDTH / cells
    beside = np.stack([own[:, :-1], own[:, 1:]], axis=-1).reshape(-1, 2)
    behind = np.stack([number[first:last][: cells - 1 - first], number[first + 1 : last + 1]], -1)
    inner = np.concatenate([beside, behind.reshape(-1, 2)])
    rows = [row for row in (0, cells - 1) if first <= row < last]
    outer = np.concatenate([own[:, 0], own[:, -1], number[rows].ravel()])[:, None]
    blocks = []
    for group, name in enumerate(("D1", "D2")):
        for kernel, faces in ((face_leakage(name), inner), (vacuum_leakage(name, size), outer)):
            blocks.append(ga.ElementBlock("A", 2 * faces + group, kernel, {name: faces}))
    ids = own.ravel()
    unknowns = 2 * ids[:, None] + np.arange(2)
    loss = ga.NumpyKernel(lambda **values: losses(**values, volume=size**2))
    fission = ga.ScaledKernel(size**2 * np.array([[0.0, 1.0], [0.0, 0.0]]))
    blocks.append(ga.ElementBlock("A", unknowns, loss, dict.fromkeys(("Sa1", "Sa2", "S12"), ids)))
    blocks.append(ga.ElementBlock("B", unknowns, fission, {"nuSf2": ids}))
    # PETSc's row split is that of the cells, nearly.
    model = ga.ElementModel(2 * cells * cells, blocks, comm=comm)
    kind = materials(cells)
    return model, {name: np.array(values)[kind] for name, values in MATERIALS.items()}


def main():
    """Run the benchmark and print its table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=316, help="cells per side")
    parser.add_argument("--count", type=int, default=1)
    strategies = ["block-krylov", "ksp", "direct"]
    parser.add_argument("--strategy", choices=strategies)
    chosen = parser.parse_args()
    comm = MPI.COMM_WORLD
    steps = Steps(comm)
    model, p = steps.run("set up model", lambda: reactor(chosen.cells, comm))
    pencil = steps.run("assemble A and B", lambda: model.assemble(p))
    pairs = steps.run(
        "eigenpairs, with left vectors",
        lambda: ga.solve_eigenproblem(pencil, count=chosen.count, target=0.0),
    )
    weight = np.cos(0.001 * np.arange(*pairs.rows)) ** 2
    power = ga.objectives.QuadraticForm(weight, tuple(range(chosen.count)))
    importance = ga.objectives.PetermannFactor(0)
    eigenvalue = ga.objectives.Eigenvalue(0)
    steps.run("gradient, first eigenvalue", lambda: ga.gradient(model, p, pairs, eigenvalue))
    for name, objective in (("right", power), ("right and left", importance)):
        steps.run(
            f"gradient, {name} vectors",
            lambda objective=objective: ga.gradient(
                model, p, pairs, objective, strategy=chosen.strategy
            ),
        )
    if comm.rank == 0:
        size = sum(values.size for values in p.values())
        print(f"\nn = {model.n}, m = {size}, ranks = {comm.size}, lam = {pairs.values.real}")
    pairs.close()
    pencil.close()
    sys.stdout.flush()


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()
