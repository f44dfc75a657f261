"""How far the value of an objective may jump from one solve to the next."""

from __future__ import annotations

import numpy as np

from geneig_adjoint._types import EPS, TINY
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.reductions import allreduce_same, column_norms

MARGIN = 10.0
"""Noise of a value over what the estimated errors of the pairs and rounding make of it."""


def terms_and_noise(
    pairs: Eigenpairs, value: float, cotangent: EigenCotangent
) -> tuple[float, float]:
    """Return what the value amounts to before its terms cancel, and its noise.

    Collective.

    Parameters
    ----------
    pairs
        Eigenpairs.
    value
        Of the objective.
    cotangent
        Of the objective. Its ``matrices`` and ``span`` are not looked at: such values
        hardly cancel.

    Returns
    -------
    terms : float
        |value| + sum_j |lam_bar_j lam_j| + sum_ij |x_bar_ij x_ij| and the same with y: the
        imaginary part of a real mode is 0 of something.
    noise : float
        From the estimated errors of the eigenvalues, what these over the gaps do to the
        vectors, and rounding.

    """
    sizes = np.abs(pairs.values)
    shifts = np.fmax(pairs.errors, EPS * sizes)  # errors may be nan
    turns = EPS + shifts / np.fmax(pairs.gaps, TINY)
    terms, noise = abs(value), EPS * abs(value)
    if cotangent.values is not None:
        bars = np.abs(cotangent.values)
        terms, noise = terms + float(bars @ sizes), noise + float(bars @ shifts)
    for bar, block in ((cotangent.right, pairs.right), (cotangent.left, pairs.left)):
        if bar is not None and block is not None:
            local = np.abs(np.asarray(bar) * block).sum()
            terms += float(allreduce_same(pairs.comm, np.array([local]))[0])
            lengths = column_norms(pairs.comm, np.asarray(bar)) * column_norms(pairs.comm, block)
            noise += float(lengths @ turns)
    return terms, MARGIN * noise
