"""Requests for pairs at chains of two, three and four: none of them has a derivative."""

import time
import warnings
from collections import Counter
from itertools import product

import numpy as np
import pytest
import scipy.linalg
from builders import REAL
from hard_pencils import affine

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

SEEDS = 6
OFFSETS = (0.0, 1e-12, 1e-8, 1e-5, 1e-3)
"""Of targets from the value of the chain, over the value or the norm."""


def chain(length, n, seed, value):
    """Return A and B, or None, with a chain at a value and others 1 to 8 away, and a slope of A."""
    rng = np.random.default_rng([length, n, seed, int(value)])
    others = rng.uniform(1.0, 8.0, n - length) * rng.choice([-1.0, 1.0], n - length)
    if seed % 3 == 2 and not REAL:
        others = others * np.exp(2j * np.pi * rng.random(n - length))
    block = value * np.eye(length) + np.eye(length, k=1)
    first, second = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    basis = first * np.geomspace(1.0, 10.0 ** (seed % 3), n) @ second
    A = basis @ scipy.linalg.block_diag(block, np.diag(value + others)) @ np.linalg.inv(basis)
    B = None
    if seed % 2:
        B = np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
        A = B @ A
    return A, B, rng.standard_normal((n, n))


def outcome(comm, matrices, target, count, left):
    """Return the name of the error, or that there is none."""
    model, p = affine(comm, *matrices)
    try:
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, count, target=target, left=left) as pairs,
        ):
            ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    except ga.GeneigError as error:
        return type(error).__name__
    finally:
        model.close()
    return "gradient"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("length", [2, 3, 4])
def test_pairs_of_chains_are_defective(comm, report, scalar_build, length):
    start, found = time.perf_counter(), {}
    requests = product((6, 12, 30), range(SEEDS), (0.0, 1.0), OFFSETS, (1, length), ("auto", False))
    for n, seed, value, offset, count, left in requests:
        matrices = chain(length, n, seed, value)
        A, B, _ = matrices
        norm = np.linalg.norm(A, 2) / (1.0 if B is None else np.linalg.norm(B, 2))
        target = value + offset * (value or norm)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ga.IllConditionedWarning)
            key = n, seed, value, offset, count, left
            found[key] = outcome(comm, matrices, target, count, left)
    report(
        f"{len(found)} requests at chains of {length}, {scalar_build}: "
        f"{dict(Counter(found.values()))}, {time.perf_counter() - start:.0f} s"
    )
    others = {key: name for key, name in found.items() if name != "DefectiveEigenvalueError"}
    assert not others
