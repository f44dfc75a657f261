"""Columns whose prestress is solved for, and closed forms beside them."""

import numpy as np

import geneig_adjoint as ga

E = 3.0  # Young's modulus


def scaled(factors, table):
    return factors[:, None, None] * table


def bar(area, length):
    """Return axial stiffness matrices (batch, 2, 2)."""
    return scaled(E * area / length, np.array([[1.0, -1.0], [-1.0, 1.0]]))


def foundation(spring):
    return spring[:, None, None]


def bar_mass(area, length):
    return scaled(area * length / 6, np.array([[2.0, 1.0], [1.0, 2.0]]))


def in_units(table, length):
    """Return a table for deflections and rotations of beams, times lengths."""
    one = np.ones_like(length)
    units = np.stack([one, length, one, length], axis=1)
    return np.array(table) * units[:, :, None] * units[:, None, :]


def bending(area, length):
    """Return the stiffness (batch, 4, 4) of beams of square section, I = area^2 / 12."""
    table = [[12, 6, -12, 6], [6, 4, -6, 2], [-12, -6, 12, -6], [6, 2, -6, 4]]
    return scaled(E * area**2 / 12 / length**3, in_units(table, length))


def softening(state, area, length):
    """Return minus the geometric stiffness: positive under pressure."""
    force = E * area / length * (state[:, 1] - state[:, 0])
    table = [[36, 3, -36, 3], [3, 4, -3, -1], [-36, -3, 36, -3], [3, -1, -3, 4]]
    return scaled(-force / (30 * length), in_units(table, length))


def column_dofs(count, ends):
    """Return axial (count, 2) and bending dofs (count, 4); "cantilever" or "pinned"."""
    axial = np.stack([np.arange(count) - 1, np.arange(count)], axis=1)
    number = np.arange(2 * (count + 1)).reshape(-1, 2)
    held = {"cantilever": [0, 1], "pinned": [0, 2 * count]}[ends]
    free = np.full(number.size, -1)
    free[np.setdiff1d(number, held)] = np.arange(number.size - 2)
    return axial, np.hstack([free[number[:-1]], free[number[1:]]])


def column(comm, count, *, ends="cantilever", load="tip", total=1.0, own=None):
    """Return a column with an area per element and a spring under its tip, and its state.

    Column and spring (one parameter) carry a tip load of 1, or the column's weight, or both.
    """
    own = np.arange(comm.rank, count, comm.size) if own is None else own
    length = {"length": np.full(own.size, total / count)}
    axial, lateral = column_dofs(count, ends)
    foot = np.array([[count - 1]] if comm.rank == comm.size - 1 else np.zeros((0, 1), dtype=int))
    static = ga.ElementModel(
        count,
        [
            ga.ElementBlock("A", axial[own], ga.NumpyKernel(bar, length), {"area": own}),
            ga.ElementBlock(
                "A", foot, ga.NumpyKernel(foundation), {"spring": np.zeros(len(foot), int)}
            ),
            ga.ElementBlock("B", axial[own], ga.NumpyKernel(bar_mass, length), {"area": own}),
        ],
        comm=comm,
    )
    rows = np.arange(*static.rows)
    given = {
        "tip": {"load": np.where(rows == count - 1, -1.0, 0.0)},
        "weight": {"field": np.full(rows.size, -1.0)},
        "both": {
            "load": np.where(rows == count - 1, -1.0, 0.0),
            "field": -np.linspace(0.5, 1.5, count)[rows],
        },
    }[load]
    state = ga.BaseState.linear(static, **given, drop=["spring"])
    kernel = ga.NumpyKernel(softening, length)
    inner = ga.ElementModel(
        2 * count,
        [
            ga.ElementBlock("A", lateral[own], ga.NumpyKernel(bending, length), {"area": own}),
            ga.ElementBlock("B", lateral[own], kernel, {"area": own, "state": axial[own]}),
        ],
        comm=comm,
    )
    return ga.Composed(inner, [state]), state


def euler(area, spring_stiffness, *, ends="cantilever", total=1.0):
    """Return the load factor of a uniform column, and its derivatives in area and spring.

    Euler: P = pi^2 E I / (4 L^2), pinned pi^2 E I / L^2; the column carries its share.
    """
    factor = {"cantilever": 0.25, "pinned": 1.0}[ends]
    own = E * area / total
    share = own / (own + spring_stiffness)
    value = factor * np.pi**2 * E * area**2 / 12 / total**2 / share
    return value, value * (2 - (1 - share)) / area, value / (own + spring_stiffness)
