r"""What scale and phase of eigenvectors do to cotangents and tangents.

With t = x_bar^H x, the component of the cotangent along x is taken out so that the
bordered system is consistent (x_eff^H x = 0), and B receives an explicit term:

=============================  ======================================  ===================
normalization                  x_eff                                   added to left_b
=============================  ======================================  ===================
"B": x^H B x = q = +-1         x_bar - (Re t / q) B x + i kappa r      -(Re t / 2q) x
"2": x^H x = 1                 x_bar - Re(t) x + i kappa r             0
"linear": c^H x = 1            x_bar - conj(t / c^H x) c               0
"bilinear": x^T B x = 1        x_bar - conj(t) conj(B x)               -(conj(t)/2) conj(x)
=============================  ======================================  ===================

r is the unit vector of the row made real and positive, kappa = Im(t) / x_r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.errors import GaugeError
from geneig_adjoint.normalization import column_dots, row_values
from geneig_adjoint.reductions import column_norms

if TYPE_CHECKING:
    from geneig_adjoint.eigenpairs import Eigenpairs

GAUGE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class ProjectedCotangent:
    """Right-hand side of the adjoint system of one pair, and the explicit term in B.

    Attributes
    ----------
    x_eff : ndarray
        (n_local,) with x_eff^H x = 0.
    left_b : ndarray
        (n_local,) to be contracted with dB and x.

    """

    x_eff: Block
    left_b: Block


def project_cotangent(pairs: Eigenpairs, j: int, x_bar: Block) -> ProjectedCotangent:
    """Take the component along x out of a cotangent, as the normalization says.

    Collective.

    Raises
    ------
    GaugeError
        When the cotangent depends on a phase that is free.

    """
    comm, norm, view = pairs.comm, pairs.normalization, pairs.pencil.view
    x = pairs.right[:, j]
    t = complex(column_dots(comm, x_bar[:, None], x[:, None])[0])
    if norm.kind == "linear":
        c = norm.functional
        value = complex(column_dots(comm, c[:, None], x[:, None])[0])
        return ProjectedCotangent(x_bar - np.conj(t / value) * c, np.zeros_like(x))
    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    if norm.kind == "bilinear":
        conj_t = np.conj(t)
        return ProjectedCotangent(x_bar - conj_t * Bx.conj(), -0.5 * conj_t * x.conj())
    if norm.kind == "B":
        q = float(column_dots(comm, x[:, None], Bx[:, None])[0].real)
        x_eff, left_b = x_bar - t.real / q * Bx, -0.5 * t.real / q * x
    else:
        x_eff, left_b = x_bar - t.real * view.measured(x), np.zeros_like(x)
    if x.dtype.kind == "f" and x_bar.dtype.kind == "f":
        return ProjectedCotangent(x_eff, left_b)
    return ProjectedCotangent(x_eff + _phase_term(pairs, j, x_bar, t), left_b)


def project_tangent(
    pairs: Eigenpairs,
    j: int,
    bars: tuple[Block, Block],
    motion: tuple[Block, Block],
) -> ProjectedCotangent:
    """Return the derivative of `project_cotangent` along a direction.

    Collective.

    Parameters
    ----------
    pairs, j
        The pairs; pair j is meant.
    bars
        x_bar and its derivative, (n_local,) each.
    motion
        x_dot, in the normalization of the pairs, and (dB along the direction) @ x.

    """
    comm, norm, view = pairs.comm, pairs.normalization, pairs.pencil.view
    x, (x_bar, x_bar_dot), (x_dot, dBx) = pairs.right[:, j], bars, motion
    dots = column_dots(
        comm, np.column_stack([x_bar, x_bar_dot, x_bar]), np.column_stack([x, x, x_dot])
    )
    t, t_dot = complex(dots[0]), complex(dots[1] + dots[2])
    zero = np.zeros_like(x)
    if norm.kind == "linear":
        c = norm.functional
        value = complex(column_dots(comm, c[:, None], x[:, None])[0])
        return ProjectedCotangent(x_bar_dot - np.conj(t_dot / value) * c, zero)
    products = pairs.pencil.multiply_b(np.column_stack([x, x_dot]))
    Bx, Bx_dot = products[:, 0], dBx + products[:, 1]
    if norm.kind == "bilinear":
        shift = np.conj(t_dot) * Bx.conj() + np.conj(t) * Bx_dot.conj()
        left_b = -0.5 * (np.conj(t_dot) * x.conj() + np.conj(t) * x_dot.conj())
        return ProjectedCotangent(x_bar_dot - shift, left_b)
    if norm.kind == "B":
        q = float(column_dots(comm, x[:, None], Bx[:, None])[0].real)
        x_eff = x_bar_dot - (t_dot.real * Bx + t.real * Bx_dot) / q
        left_b = -0.5 / q * (t_dot.real * x + t.real * x_dot)
    else:
        x_eff = x_bar_dot - t_dot.real * view.measured(x) - t.real * view.measured(x_dot)
        left_b = zero
    if x.dtype.kind == "f" and x_eff.dtype.kind == "f":
        return ProjectedCotangent(x_eff, left_b)
    return ProjectedCotangent(x_eff + _phase_tangent(pairs, j, x_dot, (t, t_dot)), left_b)


def _phase_tangent(
    pairs: Eigenpairs, j: int, x_dot: Block, defects: tuple[complex, complex]
) -> Block:
    """Differentiate `_phase_term`; without a phase row it vanishes along every direction."""
    term = np.zeros(x_dot.shape, dtype=complex)
    if pairs.phase_rows is None:
        return term
    t, t_dot = defects
    row = int(pairs.phase_rows[j])
    both = np.column_stack([pairs.right[:, j], x_dot])
    value, rate = row_values(pairs.pencil, both, np.array([row, row])).real
    first, last = pairs.rows
    if first <= row < last:
        term[row - first] = 1j * (t_dot.imag / value - t.imag * rate / value**2)
    return term


def _phase_term(pairs: Eigenpairs, j: int, x_bar: Block, t: complex) -> Block:
    """Return i kappa r: the phase is held by making the entry of row r real."""
    term = np.zeros(x_bar.shape, dtype=complex)
    if pairs.phase_rows is None:
        sizes = column_norms(pairs.comm, np.column_stack([x_bar, pairs.right[:, j]]))
        defect = abs(t.imag) / max(float(sizes[0] * sizes[1]), TINY)
        if defect > GAUGE_TOLERANCE:
            raise GaugeError(
                "the objective must not depend on the phase of an eigenvector when phase=None, "
                f"got a gauge defect of {defect:.1e} for pair {j}; use phase='largest', or an "
                "objective of |x| or of products x^H D x",
                defect=defect,
            )
        return term
    row = int(pairs.phase_rows[j])
    value = row_values(pairs.pencil, pairs.right[:, j : j + 1], np.array([row]))[0].real
    first, last = pairs.rows
    if first <= row < last:
        term[row - first] = 1j * t.imag / value
    return term


def complete_tangent(pairs: Eigenpairs, j: int, x_dot: Block, dBx: Block) -> Block:
    """Add the multiple of x that keeps normalization and phase along a tangent.

    Collective.

    Parameters
    ----------
    pairs
        The pairs; pair j is meant.
    j
        Index of the pair.
    x_dot
        A solution of the bordered system, (n_local,), up to multiples of x.
    dBx
        (dB along the direction) @ x, (n_local,).

    """
    norm, comm = pairs.normalization, pairs.comm
    x = pairs.right[:, j]

    def dot(u: Block, v: Block) -> complex:
        return complex(column_dots(comm, u[:, None], v[:, None])[0])

    if norm.kind == "linear":
        alpha = -dot(norm.functional, x_dot) / dot(norm.functional, x)
        return _along(x_dot, alpha, x)
    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    if norm.kind == "bilinear":
        alpha = -dot(Bx.conj(), x_dot) - 0.5 * dot(x.conj(), dBx)
        return _along(x_dot, alpha, x)
    if norm.kind == "B":
        q = dot(x, Bx).real
        component = dot(Bx, x_dot) / q
        real = -component.real - 0.5 * dot(x, dBx).real / q
    else:
        component = dot(pairs.pencil.view.measured(x), x_dot)
        real = -component.real
    imag = -component.imag
    if pairs.phase_rows is not None:
        row = pairs.phase_rows[j : j + 1]
        entries = row_values(pairs.pencil, np.column_stack([x_dot, x]), np.repeat(row, 2))
        imag = -float(entries[0].imag) / float(entries[1].real)
    return _along(x_dot, complex(real, imag), x)


def _along(x_dot: Block, alpha: complex, x: Block) -> Block:
    if x_dot.dtype.kind == "f" and x.dtype.kind == "f":
        return np.asarray(x_dot + alpha.real * x)
    return np.asarray(x_dot + alpha * x)
