"""Objectives of right and left vectors together: how far a problem is from a normal one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent
from geneig_adjoint.errors import InputError
from geneig_adjoint.indices import single_index_error
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.reductions import allreduce_same, largest_over_ranks
from geneig_adjoint.weights import checked_rows

NODE = 1e-8
"""Relative step within which a row that passes 0 leaves no second derivative."""


@dataclass(frozen=True)
class PetermannFactor:
    """(x^H x)(y^H y) / |y^H B x|^2: 1 for a normal matrix, infinite at an exceptional point.

    The excess noise factor of a laser mode, the square of the eigenvalue's condition
    number for B = I; independent of the length of x.

    Parameters
    ----------
    pair
        Index of the pair.

    References
    ----------
    .. [1] K. Petermann, "Calculated spontaneous emission factor for double-heterostructure
       injection lasers with gain-induced waveguiding", IEEE J. Quantum Electron. 15, 1979.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the factor; x_bar = 2 (y^H y) x and y_bar = 2 (x^H x) y for y^H B x = 1."""
        x, y = _both(pairs, self.pair)
        stacked = np.column_stack([x, y])
        lengths = column_dots(pairs.comm, stacked, stacked).real
        return float(lengths[0] * lengths[1]), _at(
            pairs, self.pair, 2 * lengths[1] * x, 2 * lengths[0] * y
        )

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of x_bar and y_bar along x_dot and y_dot."""
        x, y = _both(pairs, self.pair)
        x_dot, y_dot = _moving(tangent, self.pair)
        here, there = np.column_stack([x, y]), np.column_stack([x_dot, y_dot])
        xx, yy = column_dots(pairs.comm, here, here).real
        xx_dot, yy_dot = 2 * column_dots(pairs.comm, here, there).real
        return _at(pairs, self.pair, 2 * (yy_dot * x + yy * x_dot), 2 * (xx_dot * y + xx * y_dot))


@dataclass(frozen=True)
class StructuralSensitivity:
    """sum_i w_i |x_i| |y_i|: how strongly local feedback moves the eigenvalue.

    |x_i||y_i| bounds the change of the eigenvalue by a feedback at row i (the wavemaker of
    a flow); independent of the length of x. At nodes, where a product is zero, the sum has
    a kink; ``smoothing`` s rounds it off: sqrt(|x_i|^2 |y_i|^2 + s^2) - s.

    Parameters
    ----------
    weight
        This rank's rows of w, (n_local,), e.g. the areas of a region.
    pair
        Index of the pair.
    smoothing
        s, an absolute number in the units of |x_i||y_i|; 0: none.

    References
    ----------
    .. [1] F. Giannetti, P. Luchini, "Structural sensitivity of the first instability of the
       cylinder wake", J. Fluid Mech. 581, 2007.

    """

    weight: Block
    pair: int = 0
    smoothing: float = 0.0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the sum, with x_bar = w |y|^2 x / r and y_bar = w |x|^2 y / r."""
        x, y, w, r = self._parts(pairs)
        value = allreduce_same(pairs.comm, np.array([w @ (r - self.smoothing)]))[0]
        ratio = w / np.where(r > 0, r, 1.0)
        return float(value), _at(
            pairs, self.pair, ratio * np.abs(y) ** 2 * x, ratio * np.abs(x) ** 2 * y
        )

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of x_bar and y_bar along x_dot and y_dot.

        Raises
        ------
        InputError
            When a node passes a row, where the sum has a kink and no second derivative.

        """
        x, y, w, r = self._parts(pairs)
        x_dot, y_dot = _moving(tangent, self.pair)
        _check_nodes(pairs, r, [(w != 0) * part for part in (x, y, x_dot, y_dot)])
        zero = r == 0
        r = np.where(zero, 1.0, r)
        s = (self.smoothing / r) ** 2

        def moved(a: Block, a_dot: Block, b: Block, b_dot: Block) -> Block:
            """Differentiate w |b|^2 a / r, without the terms that cancel at small r."""
            growth = 2 * (b.conj() * b_dot).real * (np.abs(a * b / r) ** 2 / 2 + s)
            total = growth * a + s * np.abs(b) ** 2 * a_dot
            if np.iscomplexobj(a):
                total = total + 1j * (np.abs(b) ** 2 / r) ** 2 * (a.conj() * a_dot).imag * a
            # Where both pass 0 at once, |b| a / |a| moves by this.
            size = np.abs(a_dot)
            limit = np.abs(b_dot) * a_dot / np.where(size > 0, size, 1.0)
            return np.asarray(w * np.where(zero, limit, total / r))

        return _at(pairs, self.pair, moved(x, x_dot, y, y_dot), moved(y, y_dot, x, x_dot))

    def _parts(self, pairs: Eigenpairs) -> tuple[Block, Block, Block, Block]:
        """Return x, y, w and r.  (Collective.)"""
        x, y = _both(pairs, self.pair)
        wrong = None
        if not self.smoothing >= 0:
            wrong = InputError(
                f"smoothing must not be negative, got {self.smoothing}; 0 means none"
            )
        raise_together(pairs.comm, wrong)
        w = checked_rows("the weight", self.weight, pairs, real=True)
        return x, y, w, np.sqrt(np.abs(x * y) ** 2 + self.smoothing**2)


def _check_nodes(pairs: Eigenpairs, r: Block, parts: Sequence[Block]) -> None:
    """Raise on all ranks when x or y is about to pass 0 in a row where the other one does not.

    ``parts``: x, y, x_dot and y_dot, zero in rows without weight.
    """
    x, y, x_dot, y_dot = (np.abs(part) for part in parts)
    tops = [part.max(initial=0.0) for part in (x, y, x_dot, y_dot)]
    top_x, top_y, fastest_x, fastest_y = largest_over_ranks(pairs.comm, np.array(tops))
    nodes = np.zeros(r.shape, dtype=bool)
    for speed, fastest, top, other, largest in (
        (x_dot, fastest_x, top_x, y, top_y),
        (y_dot, fastest_y, top_y, x, top_x),
    ):
        # Rows where a vector is 0 and stays so move by rounding.
        moving = (speed > NODE * fastest) & (other > NODE * largest)
        nodes |= moving & (r * fastest < NODE * speed * other * top)
    error = None
    if nodes.any():
        error = InputError(
            "second derivatives of a structural sensitivity need |x_i||y_i| away from 0, got a "
            f"node at row {pairs.rows[0] + int(np.argmax(nodes))}; give smoothing=, or a weight of "
            "0 there"
        )
    raise_together(pairs.comm, error)


def _both(pairs: Eigenpairs, pair: int) -> tuple[Block, Block]:
    raise_together(pairs.comm, single_index_error(pairs.count, pair))
    if pairs.left is None:
        raise InputError(
            "an objective of left vectors needs pairs with left vectors, got pairs solved with "
            "left=False; solve again with left=True"
        )
    return pairs.right[:, pair], pairs.left[:, pair]


def _moving(tangent: EigenTangent, pair: int) -> tuple[Block, Block]:
    assert tangent.left is not None  # as the pairs have left vectors
    return tangent.right[:, pair], tangent.left[:, pair]


def _at(pairs: Eigenpairs, pair: int, x_bar: Block, y_bar: Block) -> EigenCotangent:
    dtype = np.result_type(pairs.right, x_bar, y_bar)
    right, left = np.zeros(pairs.right.shape, dtype), np.zeros(pairs.right.shape, dtype)
    right[:, pair], left[:, pair] = x_bar, y_bar
    return EigenCotangent(right=right, left=left)
