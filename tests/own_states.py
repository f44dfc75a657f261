"""A state of a user: dense code, the same on every rank, that knows nothing of the package."""

import numpy as np
import scipy.optimize
from builders import M0, chain_dofs, distributed, matrix, own_rows, shares, stiffness
from maps_of_tests import BASE, entries

import geneig_adjoint as ga

N = 7
DRIFT = stiffness(N) + 0.3 * np.triu(np.ones((N, N)), 1)  # not symmetric


def like(value, array, comm):
    """Return an array in the kind of a parameter."""
    return np.array(array) if isinstance(value, np.ndarray) else distributed(array, comm)


class Cubic:
    """r_i = (DRIFT u)_i + k_i u_i + s_0 u_i^3 - s_1 (1 + k_i^2), with its own Newton."""

    names = ("k", "s")

    def __init__(self, comm):
        self.comm, self.rows = comm, own_rows(N, comm)
        self.mats = []

    def numbers(self, u, p):
        return entries(u), entries(p["k"]), entries(p["s"])

    def full_residual(self, u, k, s):
        return DRIFT @ u + k * u + s[0] * u**3 - s[1] * (1 + k**2)

    def full_jacobian(self, u, k, s):
        return DRIFT + np.diag(k + 3 * s[0] * u**2)

    def solve(self, p):
        _, k, s = self.numbers(np.zeros(N), p)
        u = scipy.optimize.fsolve(
            self.full_residual, np.zeros(N), args=(k, s), fprime=self.full_jacobian, xtol=1e-14
        )
        return u[slice(*self.rows)]

    def jacobian(self, u, p):
        for mat in self.mats:
            mat.destroy()  # ours, and free to be used again
        self.mats = [matrix(self.full_jacobian(*self.numbers(u, p)), self.comm)]
        return self.mats[0]

    def residual_jvp(self, u, p, p_dot):
        u, k, s = self.numbers(u, p)
        _, dk, ds = self.numbers(u, p_dot)
        change = dk * u + ds[0] * u**3 - ds[1] * (1 + k**2) - 2 * s[1] * k * dk
        return change[slice(*self.rows)]

    def residual_vjp(self, u, p, w):
        u, k, s = self.numbers(u, p)
        w = entries(w)
        bars = {"k": w * (u - 2 * s[1] * k), "s": np.array([w @ u**3, -w @ (1 + k**2)])}
        return {name: like(p[name], bar, self.comm) for name, bar in bars.items()}


class Checked(Cubic):
    """One whose state is checked."""

    def residual(self, u, p):
        return self.full_residual(*self.numbers(u, p))[slice(*self.rows)]


class Complete(Checked):
    """One with second derivatives too."""

    def residual_second(self, u, p, u_dot, p_dot, w):
        u, k, s = self.numbers(u, p)
        du, dk, ds = self.numbers(u_dot, p_dot)
        w = entries(w)
        turned = w * (dk + 3 * ds[0] * u**2 + 6 * s[0] * u * du)
        bars = {
            "k": w * (du - 2 * ds[1] * k - 2 * s[1] * dk),
            "s": np.array([w @ (3 * u**2 * du), -w @ (2 * k * dk)]),
        }
        found = {name: like(p[name], bar, self.comm) for name, bar in bars.items()}
        return turned[slice(*self.rows)], found


class Iterated(Complete):
    """One that leaves the iteration to the package, and hands over vectors."""

    solve = property()  # hasattr says no

    def residual(self, u, p):
        whole = self.full_residual(*self.numbers(u, p))
        return distributed(whole, self.comm)


def stiffened(state):
    """Return element matrices that grow with the state at their ends."""
    return (1 + state[:, 0] ** 2 + 0.5 * state[:, 1])[:, None, None] * BASE


def inner_model(comm):
    """Return a chain whose A depends on the state and whose B on a parameter m."""
    own = shares(N + 1, comm, seed=2)
    dofs = chain_dofs(N)[own]
    blocks = [
        ga.ElementBlock("A", dofs, ga.NumpyKernel(stiffened), {"state": dofs}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": own}),
    ]
    return ga.ElementModel(N, blocks, comm=comm)


def own_state(comm, kind=Cubic, **options):
    """Return a model behind a user's state, the state, and parameters."""
    state = ga.BaseState(kind(comm), drop=["k", "s"], **options)
    p = {
        "k": 0.5 + 0.1 * np.cos(np.arange(N)),
        "s": np.array([0.4, 0.7]),
        "m": np.linspace(1.2, 0.7, N + 1),
    }
    return ga.Composed(inner_model(comm), [state]), state, p
