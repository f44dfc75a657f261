"""Objectives: real functions of eigenpairs with their cotangents.

Every objective here is called as ``objective(pairs)`` and returns ``(value, cotangent)``,
the value identical on all ranks. An objective of your own is any callable
``objective(pairs)`` or ``objective(pairs, p)`` that does the same. All but `SpectralFunction`
have a method ``tangent(pairs, tangent)``, the derivative of the cotangent along an
`EigenTangent`, for second derivatives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.damped import DampedFrequency, DampingRatio, DecayRate, NaturalFrequency
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent, value_cotangent
from geneig_adjoint.errors import ArgumentError, TruncationWarning, UndefinedObjectiveError
from geneig_adjoint.indices import index_error, single_index_error
from geneig_adjoint.nonnormal import PetermannFactor, StructuralSensitivity
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.spectral import SpectralFunction
from geneig_adjoint.weights import check_weight, checked_rows, weighted

__all__ = [
    "DampedFrequency",
    "DampingRatio",
    "DecayRate",
    "Eigenvalue",
    "Frequency",
    "KEffective",
    "KSMinimum",
    "LinearOutput",
    "ModeShapeMatch",
    "NaturalFrequency",
    "PetermannFactor",
    "QuadraticForm",
    "SpectralFunction",
    "StructuralSensitivity",
]

NEGLIGIBLE = 1e-8
"""Weight in a smooth minimum that does not show in its value."""


def _check_pair(pairs: Eigenpairs, pair: int) -> None:
    """Raise unless a pair exists.  (Not collective: where nothing is reduced afterwards.)"""
    error = single_index_error(pairs.count, pair)
    if error is not None:
        raise error


def _positive_value(pairs: Eigenpairs, pair: int, what: str) -> float:
    lam = pairs.values[pair]
    if not lam.real > 0 or abs(lam.imag) > 1e-8 * abs(lam):
        raise UndefinedObjectiveError(
            f"{what} needs a positive real eigenvalue, got {lam:.6g} for pair {pair}; "
            "use the Eigenvalue objective, or another pair"
        )
    return float(lam.real)


@dataclass(frozen=True)
class Eigenvalue:
    """Real or imaginary part of an eigenvalue.

    Parameters
    ----------
    pair
        Index of the pair.
    part
        "real" or "imag".

    """

    pair: int = 0
    part: str = "real"

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the part of the eigenvalue and lam_bar = 1 or i."""
        _check_pair(pairs, self.pair)
        if self.part not in {"real", "imag"}:
            raise ArgumentError(f'part must be "real" or "imag", got {self.part!r}; choose one')
        lam = complex(pairs.values[self.pair])
        if self.part == "real":
            return lam.real, value_cotangent(pairs, self.pair, 1.0)
        return lam.imag, value_cotangent(pairs, self.pair, 1.0j)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return zero: lam_bar is constant."""
        del pairs, tangent
        return EigenCotangent()


@dataclass(frozen=True)
class Frequency:
    """Natural frequency sqrt(lam) / 2 pi in Hz, for lam in (rad/s)^2.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the frequency and its derivative 1 / (8 pi^2 f)."""
        _check_pair(pairs, self.pair)
        frequency = np.sqrt(_positive_value(pairs, self.pair, "a frequency")) / (2 * np.pi)
        return float(frequency), value_cotangent(pairs, self.pair, 1.0 / (8 * np.pi**2 * frequency))

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of 1 / (8 pi^2 f)."""
        frequency, _ = self(pairs)
        slope = 1.0 / (8 * np.pi**2 * frequency)
        moved = slope * tangent.values[self.pair].real
        return value_cotangent(pairs, self.pair, -slope / frequency * moved)


@dataclass(frozen=True)
class KEffective:
    """Effective multiplication factor 1 / lam of A phi = lam F phi, lam = 1 / k.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return k and its derivative -k^2."""
        _check_pair(pairs, self.pair)
        k = 1.0 / _positive_value(pairs, self.pair, "a multiplication factor")
        return k, value_cotangent(pairs, self.pair, -k * k)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of -k^2, for dk = -k^2 dlam."""
        k, _ = self(pairs)
        return value_cotangent(pairs, self.pair, 2 * k**3 * tangent.values[self.pair].real)


@dataclass(frozen=True)
class KSMinimum:
    """Smooth minimum -log(sum_j exp(-rho f_j)) / rho (Kreisselmeier & Steinhauser).

    Never above the true minimum; at most log(k) / rho below it. Symmetric in its
    members, so that it stays differentiable when they meet.

    Parameters
    ----------
    rho
        Sharpness, in units of 1 / f.
    pairs
        Indices of the pairs; None: all.
    of
        "frequency" (Hz) or "eigenvalue" (its real part).

    References
    ----------
    .. [1] G. Kreisselmeier, R. Steinhauser, "Systematic control design by optimizing a
       vector performance index", IFAC Proc. 12(7), 113-117, 1979.

    """

    rho: float = 50.0
    pairs: Sequence[int] | None = None
    of: str = "frequency"

    @property
    def symmetric(self) -> bool:
        """Whether the objective is of all pairs alike: their places do not matter."""
        return self.pairs is None

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the smooth minimum and the softmin weights times df/dlam."""
        _, parts, weights = self._members(pairs)
        self._warn_of_truncation(pairs, weights)
        value = min(f for f, _ in parts) - float(np.log(weights.sum())) / self.rho
        slopes = [cotangent.values for _, cotangent in parts]
        weights /= weights.sum()
        return value, EigenCotangent(values=_mixed(weights, slopes))

    def _warn_of_truncation(self, pairs: Eigenpairs, weights: Block) -> None:
        """Warn when values that were not computed may weigh as much as the last one that was."""
        rest = float(weights.min() / weights.sum())
        if self.pairs is None and pairs.count < pairs.pencil.n and rest > NEGLIGIBLE:
            warnings.warn(
                f"KSMinimum over all pairs should not depend on those that are not computed, got "
                f"{pairs.count} of {pairs.pencil.n} of which the least has a weight of {rest:.0e}: "
                "the value jumps when another one comes in; raise count or rho, or name pairs=",
                TruncationWarning,
                stacklevel=3,
            )

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of the weights times df/dlam."""
        singles, parts, weights = self._members(pairs)
        weights /= weights.sum()
        slopes = [cotangent.values for _, cotangent in parts]
        f_dot = np.array([np.vdot(slope, tangent.values).real for slope in slopes])
        weights_dot = -self.rho * weights * (f_dot - weights @ f_dot)
        curved = [single.tangent(pairs, tangent).values for single in singles]
        return EigenCotangent(values=_mixed(weights_dot, slopes) + _mixed(weights, curved))

    def _members(
        self, pairs: Eigenpairs
    ) -> tuple[list[Any], list[tuple[float, EigenCotangent]], Block]:
        """Return the single objectives, their values and cotangents, and exp(-rho (f - min))."""
        if self.of not in {"frequency", "eigenvalue"}:
            raise ArgumentError(
                f'of must be "frequency" or "eigenvalue", got {self.of!r}; choose one'
            )
        if not self.rho > 0:
            raise ArgumentError(f"rho must be positive, got {self.rho}; larger values are sharper")
        error = None if self.pairs is None else index_error(pairs.count, self.pairs)
        if error is not None:
            raise error
        chosen = list(range(pairs.count)) if self.pairs is None else list(self.pairs)
        if not chosen:
            raise ArgumentError(
                "a KS minimum needs at least one pair, got none; leave pairs out for all"
            )
        kind = Frequency if self.of == "frequency" else Eigenvalue
        singles = [kind(j) for j in chosen]
        parts = [single(pairs) for single in singles]
        f = np.array([value for value, _ in parts])
        return singles, parts, np.exp(-self.rho * (f - f.min()))


def _mixed(weights: Block, slopes: Sequence[Block | None]) -> Block:
    """Return the weighted sum of cotangents of the eigenvalues; None is zero."""
    terms = [w * slope for w, slope in zip(weights, slopes, strict=True) if slope is not None]
    return np.asarray(sum(terms))


@dataclass(frozen=True)
class QuadraticForm:
    """Sum over pairs of Re x_j^H D x_j for a constant D.

    Parameters
    ----------
    weight
        D: a PETSc.Mat in the layout of A, or this rank's part of a real diagonal, (n_local,).
    pairs
        Indices of the pairs.

    """

    weight: Any
    pairs: Sequence[int] = (0,)

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the sum and x_bar_j = (D + D^H) x_j."""
        raise_together(pairs.comm, index_error(pairs.count, self.pairs))
        check_weight(self.weight, pairs)
        chosen = list(self.pairs)
        x = pairs.right[:, chosen]
        value = float(column_dots(pairs.comm, x, weighted(self.weight, x)).real.sum())
        return value, self._cotangent(pairs.right)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return (D + D^H) x_dot."""
        del pairs
        return self._cotangent(tangent.right)

    def _cotangent(self, block: Block) -> EigenCotangent:
        chosen = list(self.pairs)
        x = block[:, chosen]
        x_bar = np.zeros_like(block)
        # Only the Hermitian part of D counts. add.at: a pair named twice counts twice.
        total = weighted(self.weight, x) + weighted(self.weight, x, hermitian=True)
        np.add.at(x_bar.T, chosen, total.T)
        return EigenCotangent(right=x_bar)


@dataclass(frozen=True)
class LinearOutput:
    """Real or imaginary part of c^H x for a constant vector c.

    Parameters
    ----------
    vector
        This rank's rows of c, (n_local,).
    pair
        Index of the pair.
    part
        "real" or "imag".

    """

    vector: Block
    pair: int = 0
    part: str = "real"

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the part of c^H x and x_bar = c or i c."""
        raise_together(pairs.comm, single_index_error(pairs.count, self.pair))
        if self.part not in {"real", "imag"}:
            raise ArgumentError(f'part must be "real" or "imag", got {self.part!r}; choose one')
        c = checked_rows("the vector", self.vector, pairs)
        output = complex(column_dots(pairs.comm, c[:, None], pairs.right[:, [self.pair]])[0])
        x_bar = np.zeros(pairs.right.shape, dtype=np.result_type(pairs.right, c))
        if self.part == "real":
            x_bar[:, self.pair] = c
            return output.real, EigenCotangent(right=x_bar)
        x_bar = x_bar.astype(complex)
        x_bar[:, self.pair] = 1j * c
        return output.imag, EigenCotangent(right=x_bar)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return zero: x_bar is constant."""
        del pairs, tangent
        return EigenCotangent()


@dataclass(frozen=True)
class ModeShapeMatch:
    """Modal assurance criterion |r^H x|^2 / ((r^H r)(x^H x)) with a reference shape r.

    1 for equal shapes, 0 for orthogonal ones; independent of length and phase of x
    (Allemang, Sound & Vibration 37(8), 2003).

    Parameters
    ----------
    reference
        This rank's rows of r, (n_local,).
    pair
        Index of the pair.

    """

    reference: Block
    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the criterion and x_bar = 2 (r (r^H x) / r^H r - MAC x) / x^H x."""
        r = self._reference(pairs)
        x = pairs.right[:, self.pair]
        stacked = np.column_stack([r, x])
        gram = pairs.inner(stacked, stacked)
        rr, xx, rx = gram[0, 0].real, gram[1, 1].real, gram[0, 1]
        if rr == 0:
            raise ArgumentError(
                "the reference must not be zero, got a zero vector; give a mode shape"
            )
        mac = float(abs(rx) ** 2 / (rr * xx))
        return mac, self._cotangent(pairs, 2 / xx * (r * (rx / rr) - mac * x))

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of x_bar along x_dot."""
        r = self._reference(pairs)
        x, x_dot = pairs.right[:, self.pair], tangent.right[:, self.pair]
        stacked = np.column_stack([r, x, x_dot])
        gram = pairs.inner(stacked, stacked)
        rr, xx, rx, rx_dot = gram[0, 0].real, gram[1, 1].real, gram[0, 1], gram[0, 2]
        xx_dot, mac = 2 * gram[1, 2].real, abs(rx) ** 2 / (rr * xx)
        mac_dot = 2 * (np.conj(rx) * rx_dot).real / (rr * xx) - mac * xx_dot / xx
        x_bar = r * (rx / rr) - mac * x
        moved = r * (rx_dot / rr) - mac_dot * x - mac * x_dot - xx_dot / xx * x_bar
        return self._cotangent(pairs, 2 / xx * moved)

    def _reference(self, pairs: Eigenpairs) -> Block:
        raise_together(pairs.comm, single_index_error(pairs.count, self.pair))
        return checked_rows("the reference", self.reference, pairs)

    def _cotangent(self, pairs: Eigenpairs, column: Block) -> EigenCotangent:
        x_bar = np.zeros(pairs.right.shape, dtype=column.dtype)
        x_bar[:, self.pair] = column
        return EigenCotangent(right=x_bar)
