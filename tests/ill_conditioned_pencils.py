"""Random pencils whose pairs units, couplings, bases and large entries make ill-conditioned.

Their values lie about 1 apart, but for those that large entries move.
"""

import numpy as np
import scipy.linalg
from builders import REAL


def normal(rng, *shape):
    """Return normal random numbers, complex where PETSc's are."""
    found = rng.standard_normal(shape)
    return found if REAL else (found + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def turn(rng, n):
    """Return a random unitary matrix."""
    return np.linalg.qr(normal(rng, n, n))[0]


def near(rng, values):
    """Return a harmless matrix with nearly these values."""
    return np.diag(values) + 0.1 * normal(rng, len(values), len(values))


def mass(rng, n):
    """Return a harmless nonsymmetric B."""
    return np.eye(n) + 0.3 * normal(rng, n, n) / np.sqrt(n)


def similar(rng, values):
    n, large = len(values), 10 ** rng.uniform(0, 10)
    basis = turn(rng, n) * np.geomspace(1, np.sqrt(large), n) @ turn(rng, n)
    return basis @ np.diag(values) @ np.linalg.inv(basis), None


def triangular(rng, values):
    n = len(values)
    A = np.diag(values) + np.triu(normal(rng, n, n), 1)
    at = rng.integers(n - 1)
    A[at, at + 1] = 10 ** rng.uniform(0, 10)
    return A, None


def graded(rng, values):
    n = len(values)
    scale = np.geomspace(1, 10 ** rng.uniform(0, 10), n)
    order = rng.permutation(n)
    return (near(rng, values) * scale[:, None] / scale)[np.ix_(order, order)], None


def dense(rng, values):
    n = len(values)
    return np.diag(values) + 3 * 10 ** rng.uniform(-3, 0) * normal(rng, n, n), None


def mass_in_other_units(rng, values):
    n = len(values)
    B, scale = mass(rng, n), 10 ** rng.uniform(0, 5, (n, 1))
    A = B @ (np.diag(values) + rng.uniform(0, 10) * np.triu(normal(rng, n, n), 1))
    return scale * A, scale * B


def large_entry(rng, values):
    n = len(values)
    A = np.diag(values) + 0.5 * normal(rng, n, n)
    A[0, 0] = 10 ** rng.uniform(0, 10)
    return A, None


def hidden_large_entry(rng, values):
    basis = turn(rng, len(values))
    return basis @ large_entry(rng, values)[0] @ basis.conj().T, None


def mixed_units(rng, values):
    scale = 10 ** rng.uniform(0, rng.uniform(3, 8), len(values))
    return near(rng, values) * scale[:, None] / scale, None


def stiff_units(rng, values):
    scale = 10 ** rng.uniform(0, rng.uniform(1.5, 4), len(values))
    return near(rng, values) * scale[:, None] * scale, None


def large_corner(rng, values):
    A, large = near(rng, values), 10 ** rng.uniform(3, 8)
    A[0, -1], A[-1, 0] = large, 0.1 / large
    return A, None


def rows_and_columns(rng, values):
    n = len(values)
    B, span = mass(rng, n), rng.uniform(3, 8)
    rows, columns = 10 ** rng.uniform(0, span, (n, 1)), 10 ** rng.uniform(0, span, n)
    return rows * (B @ near(rng, values)) * columns, rows * B * columns


def stiff_chain(rng, values):
    n = len(values)
    springs = 10 ** rng.uniform(0, rng.uniform(3, 8), n)
    return (
        np.diag(springs)
        + np.diag(springs[1:] * rng.uniform(-1, 0, n - 1), -1)
        + np.diag(springs[:-1] * rng.uniform(-1, 0, n - 1), 1)
        + 0.1 * normal(rng, n, n)
    ), None


def two_units(rng, values):
    n = len(values)
    scale = np.where(np.arange(n) < n // 2, 10 ** rng.uniform(3, 8), 1.0)
    A = near(rng, values) * scale[:, None] / scale
    A[: n // 2, : n // 2] *= rng.choice([1.0, 100.0])
    return A, None


def arrow(rng, values):
    n, large = len(values), 10 ** rng.uniform(3, 8)
    A = np.diag(values).astype(normal(rng, 1).dtype)
    A[0], A[:, 0] = normal(rng, n) * large, normal(rng, n) / large
    A[0, 0] = 0.5
    return A, None


FAMILIES = (similar, triangular, graded, dense, mass_in_other_units, large_entry,
            hidden_large_entry, mixed_units, stiff_units, large_corner, rows_and_columns,
            stiff_chain, two_units, arrow)  # fmt: skip


def random_pencil(seed):
    """Return family, A, B or None, three slopes of A, and a target beside one of the low values."""
    rng = np.random.default_rng(seed)
    family = FAMILIES[seed % len(FAMILIES)]
    n = int(rng.integers(3, 15))
    A, B = family(rng, np.cumsum(rng.uniform(0.7, 1.3, n)) * rng.choice([1.0, -1.0]))
    slopes = [np.diag(rng.uniform(0.5, 1.5, n)), normal(rng, n, n), A * rng.random()]
    values = scipy.linalg.eigvals(A, B)
    values = values[np.argsort(np.abs(values))][int(rng.integers(3))]
    return family.__name__, A, B, slopes, (values.real if REAL else values) + 0.05
