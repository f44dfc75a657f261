"""Steady states of one-dimensional flows by quadratic elements in JAX, with closed forms."""

import jax.numpy as jnp
import numpy as np
import scipy.optimize

import geneig_adjoint as ga

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(4)
SHAPES = np.stack([POINTS * (POINTS - 1) / 2, 1 - POINTS**2, POINTS * (POINTS + 1) / 2], axis=1)
SLOPES = np.stack([POINTS - 0.5, -2 * POINTS, POINTS + 0.5], axis=1)
MASS = np.einsum("g,gi,gj->ij", WEIGHTS, SHAPES, SHAPES) / 2


def line(count, *, fields=1, free_ends=False):
    """Return dofs (count, 3 fields) of quadratic elements between held or free ends."""
    nodes = 2 * np.arange(count)[:, None] + np.arange(3)
    if not free_ends:
        nodes = np.where(nodes == 2 * count, -1, nodes - 1)
        nodes[nodes < 0] = -1
    dofs = fields * nodes[:, :, None] + np.arange(fields)
    return np.where(nodes[:, :, None] < 0, -1, dofs).reshape(count, -1)


def bratu(state, strength, h):
    """Return the residual of -u'' = strength exp(u)."""
    u, u_x = SHAPES @ state, SLOPES @ state * 2 / h
    weights = WEIGHTS * h / 2
    return SLOPES.T * 2 / h @ (weights * u_x) - SHAPES.T @ (weights * strength * jnp.exp(u))


def burgers(state, viscosity, h, held):
    """Return the residual of u u' = viscosity u''; held: values at held dofs."""
    nodal = state + held
    u, u_x = SHAPES @ nodal, SLOPES @ nodal * 2 / h
    weights = WEIGHTS * h / 2
    return SLOPES.T * 2 / h @ (weights * viscosity * u_x) + SHAPES.T @ (weights * u * u_x)


def brusselator(state, feed, control, spread, h):
    """Return minus the reactions and diffusion of two species (u, v at three nodes)."""
    u, v = SHAPES @ state.reshape(3, 2)[:, 0], SHAPES @ state.reshape(3, 2)[:, 1]
    du, dv = (SLOPES @ state.reshape(3, 2) * 2 / h).T
    weights = WEIGHTS * h / 2
    change = jnp.stack([feed - (control + 1) * u + u**2 * v, control * u - u**2 * v])
    flux = jnp.stack([spread[0] * du, spread[1] * dv])
    return (SLOPES.T * 2 / h @ (weights * flux).T - SHAPES.T @ (weights * change).T).ravel()


def wavy(name):
    """Return where to start: not the state, but near enough; a function of the rows."""
    start = np.tile([2.0, 2.7], 500)
    return {
        "bratu": None,
        "burgers": None,
        "brusselator": lambda rows: start[slice(*rows)] + 0.05 * np.cos(np.arange(*rows)),
    }[name]


def flow(comm, name, count, *, own=None, **options):
    """Return a model of the linearised flow, A = dr/du or -dr/du and B = mass, and its state."""
    own = np.arange(comm.rank, count, comm.size) if own is None else own
    kind = {
        "bratu": (bratu, 1.0, {"strength": 1}, {}),
        "burgers": (burgers, 2.0, {"viscosity": 1}, {"factor": -1.0}),
        "brusselator": (
            brusselator, 1.0, {"feed": 1, "control": 1, "spread": 2},
            {"factor": -1.0, "fields": 2, "free_ends": True},
        ),
    }[name]  # fmt: skip
    function, total, sizes, special = kind
    fields, h = special.get("fields", 1), total / count
    dofs = line(count, fields=fields, free_ends=special.get("free_ends", False))
    data = {"h": np.full(own.size, h)}
    if name == "burgers":
        held = np.zeros((count, 3))
        held[0, 0], held[-1, 2] = 1.0, -1.0
        data["held"] = held[own]
    ids = {
        key: own if size == 1 else np.tile(np.arange(size), (own.size, 1))
        for key, size in sizes.items()
    }
    block = ga.ResidualBlock(dofs[own], function, ids, data)
    n = int(dofs.max()) + 1

    def mass(h):
        return h[:, None, None] * np.kron(MASS, np.eye(fields))

    state = ga.BaseState.of_elements(n, [block], comm=comm, **options)
    inner = ga.ElementModel(
        n,
        [
            block.linearised("A", factor=special.get("factor", 1.0)),
            ga.ElementBlock("B", dofs[own], ga.NumpyKernel(mass, {"h": data["h"]})),
        ],
        comm=comm,
    )
    return ga.Composed(inner, [state]), state


# -- closed forms --


def bratu_eigenvalue(strength):
    """Return the lowest eigenvalue of -phi'' - strength exp(u) phi on the stable branch.

    u = 2 ln(cosh a / cosh(a (1 - 2 x))), strength = 8 a^2 / cosh^2 a; with y = a (1 - 2 x)
    this is -phi'' - 2 phi / cosh^2 y (Poeschl & Teller 1933, no reflection), whose even
    solutions are tanh y sin(q y) - q cos(q y): tanh a tan(q a) = q, eigenvalue 4 a^2 q^2.
    """
    a = scipy.optimize.brentq(lambda z: 8 * (z / np.cosh(z)) ** 2 - strength, 1e-9, 1.19967864)
    end = np.pi / 2 / a
    q = scipy.optimize.brentq(
        lambda z: np.tanh(a) * np.sin(z * a) - z * np.cos(z * a), end * 1e-3, end
    )
    return 4 * a**2 * q**2


CRITICAL = 3.513830719
"""Limit point of the Bratu problem (Doedel, AUTO)."""


def burgers_eigenvalue(viscosity):
    """Return the second growth rate of phi' = viscosity phi'' - (u phi)' around a shock.

    u = -2 viscosity k tanh(k x) with u(-1) = 1; phi = psi / cosh(k x) gives the same potential:
    odd solutions k tanh(k x) cos(q x) + q sin(q x), rate -viscosity (k^2 + q^2).
    """
    k = scipy.optimize.brentq(lambda z: 2 * viscosity * z * np.tanh(z) - 1, 1e-6, 1 / viscosity)
    q = scipy.optimize.brentq(
        lambda z: k * np.tanh(k) * np.cos(z) + z * np.sin(z), np.pi / 2, np.pi
    )
    return -viscosity * (k**2 + q**2)


def brusselator_rates(feed, control, spread, wave=0.0):
    """Return the growth rates of a wave of number^2 around u = feed, v = control / feed."""
    return np.linalg.eigvals(
        np.array(
            [
                [control - 1 - spread[0] * wave, feed**2],
                [-control, -(feed**2) - spread[1] * wave],
            ]
        )
    )
