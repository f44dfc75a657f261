"""Spectrum slicing that misses copies: the count at the ends tells, a solve in the middle mends.

Krylov-Schur misses copies in an interval now and then, by its random vectors; here the count is
told that it did. The complex build has no inertia and refuses intervals.
"""

from dataclasses import replace

import numpy as np
import pytest
from grid_projector import SITES, exact_pairs, grid_model
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga
from geneig_adjoint import eigensolver

P0 = {"site": np.zeros(len(SITES))}
INTERVAL = (0.05, 0.4)
COUNT = int(np.count_nonzero(np.abs(exact_pairs()[0] - 0.225) < 0.175))
INSIDE = exact_pairs()[0][1 : 1 + COUNT]


def slicing(monkeypatch, found, expected):
    """Let the count of the first solve say something else."""
    counted = eigensolver._counted_interval

    def changed(eps, wanted):
        record = counted(eps, wanted)
        return replace(record, found=record.found + found, expected=record.expected + expected)

    monkeypatch.setattr(eigensolver, "_counted_interval", changed)


def all_copies(comm, monkeypatch):
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        ga.solve_eigenproblem(pencil, interval=INTERVAL) as pairs,
    ):
        np.testing.assert_allclose(pairs.values.real, INSIDE, rtol=1e-10)
        record = pairs.info.completeness
    assert (record.method, record.found, record.expected) == ("inertia", COUNT, COUNT)


def missed_copies_are_found_around_the_middle(comm, monkeypatch):
    slicing(monkeypatch, found=-1, expected=0)
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        ga.solve_eigenproblem(pencil, interval=INTERVAL) as pairs,
    ):
        np.testing.assert_allclose(pairs.values.real, INSIDE, rtol=1e-10)
        record = pairs.info.completeness
        bar = np.ones(pairs.count)
        total = ga.gradient(model, P0, pairs, lambda _: (0.0, ga.EigenCotangent(values=bar)))
    assert (record.found, record.expected, record.mended) == (COUNT, COUNT, 1)
    rows = exact_pairs()[1][list(SITES), 1 : 1 + COUNT]
    np.testing.assert_allclose(total["site"], (rows**2).sum(axis=1), rtol=1e-9)


def copies_that_stay_missing_are_an_error(comm, monkeypatch):
    slicing(monkeypatch, found=0, expected=1)
    match = rf"all {COUNT + 1} eigenvalues in \(0.05, 0.4\) must be found, got {COUNT} "
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        pytest.raises(ga.MissingEigenvaluesError, match=match) as caught,
    ):
        ga.solve_eigenproblem(pencil, interval=INTERVAL)
    assert (caught.value.found, caught.value.expected) == (COUNT, COUNT + 1)


def refused(comm, monkeypatch):
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        pytest.raises(ga.InputError, match="interval"),
    ):
        ga.solve_eigenproblem(pencil, interval=INTERVAL)


REAL = [
    all_copies,
    missed_copies_are_found_around_the_middle,
    copies_that_stay_missing_are_an_error,
]


@pytest.mark.parametrize("check", [refused] if COMPLEX_BUILD else REAL)
def test_interval(check, comm, monkeypatch):
    check(comm, monkeypatch)
