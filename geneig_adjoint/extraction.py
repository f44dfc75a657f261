"""What a solved EPS holds: its pairs, and its spectral transformation."""

from __future__ import annotations

import numpy as np
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY
from geneig_adjoint.completeness import Pool, purified
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.preconditioned_pairs import FOUND
from geneig_adjoint.right_pairs import RightPairs, selected
from geneig_adjoint.wanted import Wanted


def spectral_transformation(
    pencil: Pencil, eps: SLEPc.EPS, *, owned: bool
) -> SpectralTransformation | None:
    """Return the operator of a solved EPS, None if its kind is unknown here.  (Not collective.)"""
    st = eps.getST()
    if pencil.exchanged_in(eps):
        return SpectralTransformation(pencil, eps, 0.0, owned)  # its factor is that of A
    if st.getType() == SLEPc.ST.Type.SINVERT:
        return SpectralTransformation(pencil, eps, st.getShift(), owned)
    if st.getType() == SLEPc.ST.Type.SHIFT and st.getShift() == 0:
        return SpectralTransformation(pencil, eps, None, owned)
    return None


def extracted(
    eps: SLEPc.EPS,
    pencil: Pencil,
    wanted: Wanted,
    transformation: SpectralTransformation | None,
    pool: Pool | None = None,
) -> RightPairs:
    """Return the pairs an EPS holds, ordered and cut to those wanted.

    Collective. pool: all finite ones, if they were read already.
    """
    reason, iterations, converged = (
        _petsc.reason_name(SLEPc.EPS.ConvergedReason, eps.getConvergedReason()),
        eps.getIterationNumber(),
        eps.getConverged(),
    )
    lowest = eps.getAttr(FOUND)
    if lowest is not None:
        reason, iterations, converged = "CONVERGED_TOL", lowest.iterations, lowest.converged
    account = (reason, iterations, converged, float(eps.getTolerances()[0]))
    pool = finite_pairs(eps, pencil) if pool is None else pool
    return selected(pencil, wanted, pool, transformation, account)


def finite_pairs(eps: SLEPc.EPS, pencil: Pencil) -> Pool:
    """Return all finite pairs an EPS holds.  (Collective.)"""
    lowest = eps.getAttr(FOUND)
    if lowest is not None:
        return lowest.values, lowest.right
    values, right = _petsc.converged_pairs(
        eps, pencil.A, dtype=pencil.block_dtype, inverted=pencil.exchanged_in(eps)
    )
    if pencil.definite:
        values = values.real.astype(complex)
    a_norm, b_norm = pencil.norms
    # Larger than a product with B can show: infinite, with a vector in its null space.
    largest = a_norm / max(1e3 * EPS * b_norm, TINY) if pencil.B is not None else np.inf
    finite = np.flatnonzero(np.isfinite(values) & (np.abs(values) <= largest))
    values, right = values[finite], np.asfortranarray(right[:, finite])
    if pencil.definite and pencil.B is not None and not pencil.definite_by_a:
        right = purified(eps, pencil, values, right)
    return values, right
