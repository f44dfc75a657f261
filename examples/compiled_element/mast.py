"""A leaning mast of steel beams whose stiffness is computed in C and whose mass in Fortran.

In this folder, once, then on any number of ranks:

    cc -O2 -shared -fPIC -o stiffness.so stiffness.c -lm
    gfortran -O2 -shared -fPIC -o mass.so mass.f90
    mpirun -n 2 python mast.py

Every beam has a width and a height of its own. Known answers: the frequency of a cantilever of
equal beams; and for any beams, bending frequencies are of degree 1 in all heights together and of
degree 0 in all widths together: sum h_e df/dh_e = f, sum b_e df/db_e = 0.
"""

from pathlib import Path

import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

HERE = Path(__file__).parent
BEAMS, LENGTH, LEAN = 40, 12.0, np.radians(75)  # m, from the horizontal
E, DENSITY = 210e9, 7850.0  # Pa, kg/m^3: those of the routines
SIZES = {"width": 1, "height": 1}  # entries per element, in the order of the routines' arguments

comm = MPI.COMM_WORLD
mine = np.array_split(np.arange(BEAMS), comm.size)[comm.rank]  # this rank's beams
# u, v and rotation of every node but the lowest, which is clamped (-1).
dofs = np.maximum(3 * mine[:, None] - 3 + np.arange(6), -1)
along = LENGTH * np.stack([mine, mine + 1], axis=1) / BEAMS
nodes = along[:, :, None] * [np.cos(LEAN), np.sin(LEAN)]  # (elements, 2 nodes, x and y)

with ga.abort_on_failure():
    stiffness = ga.CompiledKernel(HERE / "stiffness.so", "stiffness", 6, SIZES, {"nodes": nodes})
    mass = ga.CompiledKernel(HERE / "mass.so", "mass", 6, SIZES, {"nodes": nodes})
    ids = {"width": mine, "height": mine}
    model = ga.ElementModel(
        n=3 * BEAMS,
        blocks=[
            ga.ElementBlock("A", dofs, stiffness, ids),
            ga.ElementBlock("B", dofs, mass, ids),
        ],
        comm=comm,
    )

    def first_frequency(p):
        """Return the first frequency in Hz and its derivatives in the structure of p."""
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.0) as pairs:
            one = ga.objectives.Frequency(0)
            return np.sqrt(pairs.values[0].real) / (2 * np.pi), ga.gradient(model, p, pairs, one)

    equal = {"width": np.full(BEAMS, 0.1), "height": np.full(BEAMS, 0.2)}  # m
    found, _ = first_frequency(equal)
    # Clamped and free: 1.8751^2 = the square of the first root of cos x cosh x = -1.
    known = 1.8751040687119611**2 / (2 * np.pi * LENGTH**2) * np.sqrt(E * 0.2**2 / 12 / DENSITY)

    height = np.linspace(0.3, 0.1, BEAMS)
    p = {"width": np.linspace(0.1, 0.08, BEAMS), "height": height}
    reports = [
        ga.check_kernels(kernel, None, {name: p[name][mine] for name in p})
        for kernel in (stiffness, mass)
    ]
    frequency, gradient = first_frequency(p)
    degrees = {name: gradient[name] @ p[name] / frequency for name in p}
    if comm.rank == 0:
        print(*reports, sep="\n")
        print(f"equal beams: {found:.6f} Hz, in closed form {known:.6f} Hz")
        print(f"tapered: {frequency:.6f} Hz")
        print("df/d height, Hz/m, at foot, middle, tip:", gradient["height"][[0, 20, 39]].round(6))
        print(f"degree in all heights {degrees['height']:.9f}, in all widths 0", end=" ")
        print(f"to {abs(degrees['width']):.0e}")
