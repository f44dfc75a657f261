"""Objectives of right and left vectors together: how far a problem is from a normal one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import allreduce_same, raise_together
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.normalization import column_dots


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
        x, y = _both(pairs, self.pair)
        w = np.asarray(self.weight, dtype=float)
        wrong = None
        if w.shape != x.shape:
            wrong = InputError(
                f"the weight must hold this rank's {x.size} rows, got shape {w.shape}; cut it to "
                "pairs.rows"
            )
        raise_together(pairs.comm, wrong)
        r = np.sqrt(np.abs(x * y) ** 2 + self.smoothing**2)
        value = allreduce_same(pairs.comm, np.array([w @ (r - self.smoothing)]))[0]
        ratio = w / np.where(r > 0, r, 1.0)
        return float(value), _at(
            pairs, self.pair, ratio * np.abs(y) ** 2 * x, ratio * np.abs(x) ** 2 * y
        )


def _both(pairs: Eigenpairs, pair: int) -> tuple[Block, Block]:
    if not isinstance(pair, int | np.integer) or not 0 <= pair < pairs.count:
        raise InputError(
            f"pair must be in 0 ... {pairs.count - 1}, got {pair!r}; raise count in the solve"
        )
    if pairs.left is None:
        raise InputError(
            "an objective of left vectors needs pairs with left vectors, got pairs solved with "
            "left=False; solve again with left=True"
        )
    return pairs.right[:, pair], pairs.left[:, pair]


def _at(pairs: Eigenpairs, pair: int, x_bar: Block, y_bar: Block) -> EigenCotangent:
    right, left = np.zeros_like(pairs.right), np.zeros_like(pairs.right)
    right[:, pair], left[:, pair] = x_bar, y_bar
    return EigenCotangent(right=right, left=left)
