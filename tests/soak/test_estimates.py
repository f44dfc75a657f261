"""Estimates of values and gradients of 1,400 ill-conditioned pencils against fifty digits."""

import time
import warnings
from collections import Counter

import numpy as np
import pytest
from builders import matrix
from exact_pairs import exact_pair, exact_slope
from ill_conditioned_pencils import FAMILIES, random_pencil

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

PENCILS = 1400
LARGE, WRONG = 1e4, 1e-4
"""A condition; an error of a gradient that nobody wants to overlook."""
ROUNDED = 1e-15
"""Estimates are compared with true errors or, where those are smaller, with this."""
MOST_BELOW = {"value": 0.0, "gradient": 0.01}
MOST_TIMES, LARGEST = 100.0, {"auto": 1e-8, False: 1e-5}
"""Which share of estimates may be below the true errors, by which factor, and only of which errors.

Where a parameter acts on entries of x and y that are 1e-4 of the largest, rounding of these is
1e-12 of its terms.
"""


def judged(comm, seed, left):
    """Return what came of a pencil: ``outcome`` and, of results, estimates and true errors."""
    family, A, B, slopes, target = random_pencil(seed)
    found = {"seed": seed, "family": family}
    mats = [None if array is None else matrix(array, comm) for array in (A, B, *slopes)]
    model = ga.MatrixModel(mats[0], mats[1], {"p": [(mat, None) for mat in mats[2:]]})
    p = {"p": np.zeros(len(slopes))}
    try:
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 1, target=target, left=left) as pairs,
        ):
            exact = exact_pair(
                A, np.eye(len(A)) if B is None else B, pairs.values[0], pairs.right[:, 0]
            )
            gradient = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    except ga.GeneigError as error:
        return {**found, "outcome": type(error).__name__}
    finally:
        model.close()
    if exact is None:
        return {**found, "outcome": "no pair near by"}
    value, x, y = exact
    x_size, y_size = (np.abs(np.array(column.T.tolist()[0], dtype=complex)) for column in (x, y))
    wrong = [
        float(abs(exact_slope(y, slope, x).real - derivative)) / (y_size @ np.abs(slope) @ x_size)
        for slope, derivative in zip(slopes, gradient["p"], strict=True)
    ]
    return {
        **found,
        "outcome": "gradient",
        "condition": pairs.condition[0],
        "size": float(abs(value)),
        "value": (float(pairs.errors[0]), float(abs(value - complex(pairs.values[0])))),
        "gradient": (gradient.relative_error, max(wrong)),
    }


def summary(rows, what):
    """Return what has an estimate below the truth, by how much, and a line about all of them."""
    estimates, true = np.array([row[what] for row in rows]).T
    sizes = np.array([row["size"] if what == "value" else 1.0 for row in rows])
    ratios, low = estimates / np.maximum(true, ROUNDED * sizes), true > estimates
    below = [row for row, is_low in zip(rows, low, strict=True) if is_low]
    names = ", ".join(f"{row['family']} {row['seed']}" for row in below)
    factor = (true / estimates)[low].max(initial=1.0)
    line = (
        f"estimate / error {np.median(ratios):.0e}, of 95 % {np.quantile(ratios, 0.95):.0e}, "
        f"below the error {len(below)} of {len(rows)}, by up to {factor:.1f} {names}"
    )
    return below, factor, line


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("left", ["auto", False])
def test_estimates_of_ill_conditioned_pencils(comm, report, scalar_build, left):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.IllConditionedWarning)
        found = [judged(comm, seed, left) for seed in range(PENCILS)]
    rows = [row for row in found if row["outcome"] == "gradient"]
    report(
        f"{PENCILS} pencils of {len(FAMILIES)} families, {scalar_build}, left={left}: "
        f"{dict(Counter(row['outcome'] for row in found))}, {time.perf_counter() - start:.0f} s"
    )
    # Without left vectors nobody knows how far rounding moves a value.
    for what in ("value", "gradient") if left else ("gradient",):
        below, factor, line = summary(rows, what)
        report(f"{what}: {line}")
        assert len(below) <= MOST_BELOW[what] * len(rows)
        assert factor <= MOST_TIMES
        assert all(row[what][1] <= LARGEST[left] for row in below)
        ill = [row for row in rows if row["condition"] >= LARGE]
        if ill:
            report(f"{what}, condition above {LARGE:.0e}: {summary(ill, what)[-1]}")
    silent = [row for row in rows if row["gradient"][0] < WRONG < row["gradient"][1]]
    assert not silent
    assert len(rows) > 0.9 * PENCILS
