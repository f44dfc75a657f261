"""Objectives of damped vibrations: numbers an engineer reads from a complex eigenvalue.

For motions x exp(lam t), lam = -zeta w + i w sqrt(1 - zeta^2), as of quadratic problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent, value_cotangent
from geneig_adjoint.errors import UndefinedObjectiveError
from geneig_adjoint.indices import single_index_error


def _value(pairs: Eigenpairs, pair: int, what: str, *, part: str = "modulus") -> complex:
    """Return the eigenvalue of a pair, whose modulus or imaginary part must not vanish."""
    raise_together(pairs.comm, single_index_error(pairs.count, pair))
    lam = complex(pairs.values[pair])
    size, smallest = (abs(lam), 0.0) if part == "modulus" else (abs(lam.imag), 1e-10 * abs(lam))
    # Where it vanishes the number has a kink, and what is left of it is rounding.
    if not size > np.fmax(pairs.errors[pair], smallest):
        raise UndefinedObjectiveError(
            f"{what} needs an eigenvalue whose {part} is not zero, got {lam:.6g} for pair {pair}; "
            "use the Eigenvalue objective, or another pair"
        )
    return lam


@dataclass(frozen=True)
class DampingRatio:
    """zeta = -Re(lam) / |lam|: 0 undamped, 1 where nothing oscillates, negative if unstable.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the ratio and lam_bar = i Im(lam) lam / |lam|^3."""
        lam = _value(pairs, self.pair, "a damping ratio")
        size = abs(lam)
        return -lam.real / size, value_cotangent(pairs, self.pair, 1j * lam.imag * lam / size**3)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of lam_bar along lam_dot."""
        lam, dot = complex(pairs.values[self.pair]), complex(tangent.values[self.pair])
        size = abs(lam)
        growth = (lam.conjugate() * dot).real / size**2  # of log |lam|
        moved = dot.imag * lam + lam.imag * dot - 3 * growth * lam.imag * lam
        return value_cotangent(pairs, self.pair, 1j * moved / size**3)


@dataclass(frozen=True)
class DecayRate:
    """-Re(lam), 1 / s: amplitudes fall like exp(-rate t); negative if unstable.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the rate and lam_bar = -1."""
        raise_together(pairs.comm, single_index_error(pairs.count, self.pair))
        return -float(pairs.values[self.pair].real), value_cotangent(pairs, self.pair, -1.0)

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return zero: lam_bar is constant."""
        del pairs, tangent
        return EigenCotangent()


@dataclass(frozen=True)
class NaturalFrequency:
    """|lam| / 2 pi, Hz: the frequency without damping, if damping couples no modes.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the frequency and lam_bar = lam / (2 pi |lam|)."""
        lam = _value(pairs, self.pair, "a natural frequency")
        size = abs(lam)
        return size / (2 * np.pi), value_cotangent(pairs, self.pair, lam / (2 * np.pi * size))

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return the derivative of lam_bar along lam_dot."""
        lam, dot = complex(pairs.values[self.pair]), complex(tangent.values[self.pair])
        size = abs(lam)
        growth = (lam.conjugate() * dot).real / size**2
        return value_cotangent(pairs, self.pair, (dot - growth * lam) / (2 * np.pi * size))


@dataclass(frozen=True)
class DampedFrequency:
    """|Im(lam)| / 2 pi, Hz: the frequency that is heard.

    Parameters
    ----------
    pair
        Index of the pair.

    """

    pair: int = 0

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the frequency and lam_bar = i sign(Im(lam)) / 2 pi."""
        lam = _value(pairs, self.pair, "a damped frequency", part="imaginary part")
        sign = np.sign(lam.imag)
        return abs(lam.imag) / (2 * np.pi), value_cotangent(
            pairs, self.pair, 1j * sign / (2 * np.pi)
        )

    def tangent(self, pairs: Eigenpairs, tangent: EigenTangent) -> EigenCotangent:
        """Return zero: lam_bar is constant."""
        del pairs, tangent
        return EigenCotangent()
