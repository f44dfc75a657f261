"""Quadratic element models with closed forms; every rank brings its share of the elements."""

import numpy as np
from builders import REAL, matrix

import geneig_adjoint as ga

BAR_K = np.array([[1.0, -1.0], [-1.0, 1.0]])
BAR_M = np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
ONE = np.ones((1, 1))


def shares(count, comm):
    return np.array_split(np.arange(count), comm.size)[comm.rank]


def first_only(comm):
    """Return the one element, on the last rank."""
    return np.zeros(int(comm.rank == comm.size - 1), dtype=int)


def oscillator(comm, form="companion"):
    """m, c, k of one dof."""
    own = first_only(comm)
    blocks = [
        ga.ElementBlock(matrix, own[:, None], ga.ScaledKernel(ONE), {name: own})
        for matrix, name in (("M", "m"), ("C", "c"), ("K", "k"))
    ]
    return ga.QuadraticElementModel(1, blocks, comm=comm, form=form)


def damped_bar(n, comm, form="companion"):
    """Bar of length 1 with u(0) = u(1) = 0, uniformly damped: lam^2 + c lam + mu_k = 0.

    mu_k of n linear elements: 6 n^2 (1 - cos(k pi / n)) / (2 + cos(k pi / n)).
    """
    own = shares(n, comm)
    dofs = np.stack([own - 1, np.where(own < n - 1, own, -1)], axis=1)
    zero = np.zeros(len(own), dtype=int)
    blocks = [
        ga.ElementBlock("K", dofs, ga.ScaledKernel(n * BAR_K), {"k": zero}),
        ga.ElementBlock("C", dofs, ga.ScaledKernel(BAR_M / n), {"c": zero}),
        ga.ElementBlock("M", dofs, ga.ScaledKernel(BAR_M / n), {"m": zero}),
    ]
    return ga.QuadraticElementModel(n - 1, blocks, comm=comm, form=form)


def bar_values(n, k):
    angle = k * np.pi / n
    return 6 * n**2 * (1 - np.cos(angle)) / (2 + np.cos(angle))


def end_damper(n, comm):
    """Bar with u(0) = 0 and u'(1) = -c du/dt: one damper at the last dof."""
    own, last = shares(n, comm), first_only(comm)
    dofs = np.stack([own - 1, own], axis=1)
    blocks = [
        ga.ElementBlock("K", dofs, ga.ScaledKernel(n * BAR_K), {"k": own}),
        ga.ElementBlock("C", last[:, None] + n - 1, ga.ScaledKernel(ONE), {"c": last}),
        ga.ElementBlock("M", dofs, ga.ScaledKernel(BAR_M / n), {"m": own}),
    ]
    return ga.QuadraticElementModel(n, blocks, comm=comm)


def rotor(comm):
    """Jeffcott rotor in rotating axes, of one spring k and the speed w: lam = +-i(sqrt(k) +- w)."""

    def centrifugal(k, w):
        return (k - w**2)[:, None, None] * np.eye(2)

    own = first_only(comm)
    dofs = np.stack([own, own + 1], axis=1)
    coriolis = np.array([[0.0, -2.0], [2.0, 0.0]])
    blocks = [
        ga.ElementBlock("K", dofs, ga.NumpyKernel(centrifugal), {"k": own, "w": own}),
        ga.ElementBlock("C", dofs, ga.ScaledKernel(coriolis), {"w": own}),
        ga.ElementBlock("M", dofs, ga.ScaledKernel(np.eye(2)), {"m": own}),
    ]
    return ga.QuadraticElementModel(2, blocks, comm=comm)


def springs(n, comm):
    """Problem "spring" of NLEVP: M = I, C = tau T, K = kappa T with T = tridiag(-1, 3, -1)."""
    own = shares(n + 1, comm)
    dofs = np.stack([own - 1, np.where(own < n, own, -1)], axis=1)
    # T is summed from elements [[1.5, -1], [-1, 1.5]], one between any two dofs or supports.
    T = np.array([[1.5, -1.0], [-1.0, 1.5]])
    zero = np.zeros(len(own), dtype=int)
    mine = shares(n, comm)[:, None]
    blocks = [
        ga.ElementBlock("K", dofs, ga.ScaledKernel(T), {"kappa": zero}),
        ga.ElementBlock("C", dofs, ga.ScaledKernel(T), {"tau": zero}),
        ga.ElementBlock("M", mine, ga.ScaledKernel(ONE), {"m": 0 * mine[:, 0]}),
    ]
    return ga.QuadraticElementModel(n, blocks, comm=comm)


def wave_in_a_tube(n, comm, form="companion"):
    """Problem "acoustic_wave_1d" of NLEVP, of the admittance y = 1 / z, and the unit of lam.

    The frequencies lam / unit of the continuous problem are atan(i z) / 2 pi + k / 2. In the
    complex build as published, complex symmetric; in the real build of lam = 2 pi i f.
    """
    K = n * (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    M, end = np.eye(n) / n, np.zeros((n, n))
    K[-1, -1], M[-1, -1], end[-1, -1] = n, 0.5 / n, 1.0
    unit = 2j * np.pi
    if REAL:
        factors = (1.0, 1.0, 1.0)
    else:
        factors, unit = (1.0, unit, unit**2), 1.0
    arrays = [factor * array for factor, array in zip(factors, (K, 0 * end, M), strict=True)]
    mats = [matrix(array, comm) for array in [*arrays, factors[1] * end]]
    return ga.QuadraticMatrixModel(*mats[:3], {"y": [(None, mats[3], None)]}, form=form), unit
