"""The window in which pairs are counted ends between the wanted values and the next ones."""

import numpy as np
import pytest
from builders import matrix
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

N = 30
Q = np.linalg.qr(np.eye(N) + 0.5 * np.random.default_rng(3).standard_normal((N, N)))[0]
METHODS = {"symmetric": ["inertia", "second start"][COMPLEX_BUILD], "normal": "second start"}


def pencil_with(comm, values, kind):
    """Return a pencil with these values; the last two make a complex pair in a normal one."""
    skew = np.zeros((N, N))
    skew[-2, -1], skew[-1, -2] = 0.3, -0.3
    symmetric, turned = Q @ np.diag(values) @ Q.T, Q @ skew @ Q.T
    symmetric, turned = (symmetric + symmetric.T) / 2, (turned - turned.T) / 2
    return ga.Pencil(matrix(symmetric + {"symmetric": 0, "normal": 1}[kind] * turned, comm))


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("gap", [2e-6, 4e-6, 1e-4, 3e-3])
def test_the_next_value_is_not_counted(comm, gap, kind):
    # Not a cluster (1e-6), but nearer than any margin: the next value is known and not wanted.
    values = np.r_[1.0, 2.0, 3.0, 3.0 * (1 + gap), np.linspace(5.0, 40.0, N - 4)]
    with (
        pencil_with(comm, values, kind) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=0.0) as pairs,
    ):
        record = pairs.info.completeness
        np.testing.assert_allclose(pairs.values, values[:3], rtol=1e-10)
    assert record.method == METHODS[kind]
    assert record.found == 3
    assert 3.0 < record.window[1] < values[3]
    assert record.mended == 0


@pytest.mark.parametrize("kind", METHODS)
def test_copies_of_the_next_value_are_nobody_s_business(comm, kind):
    # Two more copies of a value that was not asked for, right behind the last wanted one.
    values = np.r_[1.0, 2.0, 3.0, [3.0 * (1 + 4e-6)] * 3, np.linspace(5.0, 40.0, N - 6)]
    with (
        pencil_with(comm, values, kind) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=0.0) as pairs,
    ):
        assert pairs.count == 3
        assert pairs.info.completeness.found == 3
