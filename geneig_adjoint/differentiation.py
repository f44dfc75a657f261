"""Derivatives of functions by evaluation: complex step, circles, differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import EPS, Block
from geneig_adjoint.errors import InputError

ComplexWarning: type[Warning] = getattr(np, "exceptions", np).ComplexWarning

COMPLEX_STEP = 1e-30
"""Far below any rounding: the derivative of an analytic function is exact to the last bits."""

SMALL = 1e-6
"""Values below this may be zeros with rounding: they do not tell how far to step. Those above
do: a user's function may refuse what is far from them, such as negative lengths."""

CIRCLE = 0.11
"""First radius of `second_derivative`, relative to the value or to 1 if that is more."""
POINTS = 32
TAIL = range(-1, -10, -1)
"""Orders of Fourier coefficients that vanish if no singularity is in or near the circle."""

STEP = 5e-3
"""First step of `difference`, relative to the value: with singularities as far as 0, truncation
and rounding are both near 1e-13."""
SIXTH = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60, 4: 0.0}
EIGHTH = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}

ROUNDED = 1e-12
"""Errors of this size, relative to the function, are rounding, with cancellation in sums."""
RESOLVED = 1e-6
"""Errors above this, relative to what a law varies by, mean that it is not analytic."""
SHRINK = 0.25
LEVELS = 20
"""SHRINK^LEVELS = 1e-12."""

SAMPLE = 3
"""Elements whose derivatives by a complex step are compared with differences."""
AGREEMENT = 1e-3
"""By how much the two may differ, relative to the larger one."""
ROUGH = 1e-5
"""The same, relative to function / step: what differences of rough functions are good for."""


def complex_step(function: Callable[[Block], Block], x: Block, direction: Block) -> Block:
    """Return the derivative of an analytic function along a direction.

    Not collective. Im f(x + i h direction) / h with h so small that nothing is
    truncated (Squire & Trapp, SIAM Rev. 40(1), 1998).

    Raises
    ------
    InputError
        When the function drops the imaginary part: a derivative of zero would follow.

    """
    moving = np.flatnonzero(direction)
    found = imaginary_parts(lambda step: (function(x + step * direction),), moving.size > 0, LAW)[0]
    few = sample(moving)
    if found.shape == x.shape and few.size:
        at, along = x.ravel()[few], direction.ravel()[few]
        steps = STEP * scale(at) / np.abs(along)
        check_complex_step(
            found.ravel()[few], lambda t: np.asarray(function(at + t * along)), steps, LAW
        )
    return found


def law_values(law: Callable[[Block], Block], x: Block) -> Block:
    """Return a law at every entry of x, or raise for what is no law.  (Not collective.)"""
    found = np.asarray(law(x))
    check_real(found, LAW)
    if found.shape != x.shape:
        raise InputError(
            f"a law must return real numbers of the shape {x.shape} it was given, got shape "
            f"{found.shape}; write it entry by entry (a constant: 2.0 + 0 * x)"
        )
    return found


def sample(moving: Block) -> Block:
    """Return some of the numbers of what moves, at most SAMPLE."""
    places = np.linspace(0, moving.size - 1, min(SAMPLE, moving.size)).astype(int)
    return np.asarray(moving[places])


@dataclass(frozen=True)
class Subject:
    """What is differentiated by a complex step, and what to do where it is complex itself."""

    name: str
    remedy: str


LAW = Subject("a law", "put the complex factor into K0")


def imaginary_parts(
    at: Callable[[complex], Sequence[Block]], moves: bool, subject: Subject
) -> list[Block]:
    """Return Im at(i h) / h for every array that ``at`` returns, a function of the step."""
    with _casts_refused(subject.name):
        results = [np.asarray(result) for result in at(1j * COMPLEX_STEP)]
    slopes = []
    for i, result in enumerate(results):

        def part(step: complex, i: int = i) -> Block:
            return np.asarray(at(step)[i])

        slopes.append(_checked_slope(result, part, moves, subject))
    return slopes


def _checked_slope(
    result: Block, at: Callable[[complex], Block], moves: bool, subject: Subject
) -> Block:
    if not np.iscomplexobj(result):
        # Constant, or something like abs() that no complex step can see.
        if moves and not np.array_equal(at(1e-3), at(0.0)):
            raise InputError(
                f"{subject.name} must be analytic, got one that returns real numbers for complex "
                "values; use plain arithmetic, sqrt or exp in place of abs, real or comparisons"
            )
        return np.zeros(result.shape)
    imaginary = np.imag(result)
    # No derivative is that large: it may have been complex without a step.
    if np.max(np.abs(imaginary), initial=0.0) > ROUNDED * np.max(np.abs(result), initial=0.0):
        check_real(at(0.0), subject)
    return np.asarray(imaginary / COMPLEX_STEP)


def check_real(result: Block, subject: Subject) -> None:
    """Raise if a function that is to be differentiated by a complex step is complex itself."""
    if np.iscomplexobj(result):
        raise InputError(
            f"{subject.name} must return real numbers for real values, got dtype {result.dtype}; "
            f"a complex step cannot differentiate complex-valued functions: {subject.remedy}"
        )


def check_complex_step(
    slopes: Block, at: Callable[[Block], Block], steps: Block, subject: Subject
) -> None:
    """Raise if derivatives by a complex step are not those by differences.

    Not collective. Finds what drops a part of the imaginary numbers: abs, norm, conj, real.
    Where there are no differences (the function refuses values near these, or is rough) nothing
    is known. Arguments as of `difference`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size, expected = _largest(at(0 * steps)), difference(at, steps)
            error = _largest(slopes - expected)
    except Exception:  # a user's function may fail in any way at values it was not made for
        return
    slope = np.maximum(_largest(slopes), _largest(expected))
    wrong = error > AGREEMENT * slope + ROUGH * size * STEP / steps
    if np.any(wrong):
        raise InputError(
            f"{subject.name} must be analytic, got one whose derivatives by a complex step differ "
            f"from differences by {np.max(error[wrong] / slope[wrong]):.0e} of their size; use "
            "plain arithmetic, sqrt or exp in place of abs, norm, real or conj of values"
        )


@contextmanager
def _casts_refused(what: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ComplexWarning)
        try:
            yield
        except ComplexWarning as warning:
            raise InputError(
                f"{what} must pass complex numbers on, got one that casts to real and drops the "
                "imaginary part; allocate with numpy.result_type(...) of the values"
            ) from warning


def second_derivative(function: Callable[[Block], Block], x: Block) -> Block:
    """Return f'' of an analytic law, entry by entry.

    Not collective. Cauchy's integral over a circle around each entry by the trapezoidal
    rule, whose error falls geometrically (Lyness & Moler, SIAM J. Numer. Anal. 4(2), 1967).
    Circles shrink until no singularity is near; the error is then about eps |f| / radius^2,
    with a radius no less than some 5 % of the distance to the next singularity.

    Parameters
    ----------
    function
        f, real for real numbers.
    x
        Where; finite.

    Raises
    ------
    InputError
        When f is not analytic at some entry.

    """
    radius = CIRCLE * np.maximum(np.abs(x), 1.0)
    best, error = np.zeros(x.shape), np.full(x.shape, np.inf)
    for level in range(LEVELS):
        found, found_error, rounded = _circle(function, x, radius)
        if level == 0:  # nothing but rounding on the largest circle: constant, or nearly so
            found_error = np.where(rounded, 0.0, found_error)
        # Where only rounding is left, the larger circle is the better one.
        better = found_error < 0.1 * error
        best, error = np.where(better, found, best), np.where(better, found_error, error)
        if rounded.all():
            break
        radius = np.where(rounded, radius, SHRINK * radius)
    check_curvature(x, error <= RESOLVED)
    return best


def check_curvature(x: Block, known: Block) -> None:
    """Raise unless the second derivative of a law is known at every entry.  (Not collective.)"""
    if not known.all():
        raise InputError(
            "a law must be analytic where its parameter moves, got one without a second "
            f"derivative at {x[np.argmin(known)]:.6g}; keep away from there, or give the law a "
            "method curvature(rho)"
        )


def _circle(
    function: Callable[[Block], Block], x: Block, radius: Block
) -> tuple[Block, Block, Block]:
    """Return f'', the size of what should vanish relative to f - f(x), and if it is rounding."""
    sums = np.zeros((1 + len(TAIL), *x.shape))
    size, variation = np.zeros(x.shape), np.zeros(x.shape)
    with np.errstate(all="ignore"), _casts_refused("a law"):
        centre = function(x)
        # f(conj z) = conj f(z): half of the circle holds all there is to know.
        for k in range(POINTS // 2 + 1):
            direction = np.exp(2j * np.pi * k / POINTS)
            weight = (1 if k in {0, POINTS // 2} else 2) / POINTS
            value = function(x + radius * direction)
            size = np.maximum(size, np.abs(value))
            variation = np.maximum(variation, np.abs(value - centre))
            for i, order in enumerate((2, *TAIL)):
                sums[i] += np.real(weight * direction**-order * value)
        tail = np.abs(sums[1:]).max(axis=0)
        rounded = np.isfinite(tail) & (tail <= 16 * EPS * size)
        return 2 * sums[0] / radius**2, _relative(tail, variation), rounded


def difference(at: Callable[[Block], Block], step: Block, first: int = 0) -> Block:
    """Return d at(t) / dt at t = 0 for a batch of elements, by differences of eighth order.

    Not collective. Steps shrink, element by element, until sixth and eighth order agree;
    relative errors are near 1e-12 then.

    Parameters
    ----------
    at
        ``at(steps)`` -> (batch, ...), with one step (batch,) per element.
    step
        First steps (batch,), positive: STEP times what t is to be measured with.
    first
        Number of the first element, for the error.

    Raises
    ------
    InputError
        When no step gives differences: values that are not finite, or jump.

    """
    best, error = np.zeros(()), np.full(step.shape, np.inf)
    for _ in range(LEVELS):
        found, found_error = _central(at, step)
        better = found_error < 0.1 * error
        best = np.where(_shaped(better, found), found, best)
        error = np.where(better, found_error, error)
        if (error <= ROUNDED).all():
            break
        step = np.where(error <= ROUNDED, step, SHRINK * step)
    if not (error <= RESOLVED).all():
        raise InputError(
            "differences need element matrices that are finite and smooth around the values, got "
            f"others at element {first + int(np.argmax(~(error <= RESOLVED)))} of this rank; check "
            "its values, or give the kernel a derivative of its own"
        )
    return best


def _central(at: Callable[[Block], Block], step: Block) -> tuple[Block, Block]:
    """Return the eighth order, and how far the sixth one is off, relative to the function."""
    sixth = eighth = size = np.zeros(())
    with np.errstate(all="ignore"):
        for k, weight in EIGHTH.items():
            ahead, behind = at(k * step), at(-k * step)
            slope = (ahead - behind) / _shaped(step, ahead)
            eighth = eighth + weight * slope
            sixth = sixth + SIXTH[k] * slope
            size = np.maximum(size, np.maximum(_largest(ahead), _largest(behind)))
        return eighth, _relative(step * _largest(eighth - sixth), size)


def _largest(block: Block) -> Block:
    """Return the largest entry of every element."""
    return np.asarray(np.abs(block.reshape(len(block), -1)).max(axis=1, initial=0.0))


def _shaped(factor: Block, like: Block) -> Block:
    return factor.reshape(-1, *[1] * (like.ndim - 1))


def scale(x: Block) -> Block:
    """Return what steps are measured with: the size of values, or 1 where they may be zeros."""
    size = np.abs(x)
    return np.where(size >= SMALL, size, 1.0)


def _relative(error: Block, size: Block) -> Block:
    """Return error / size: 0 for 0 / 0, infinite where something overflowed."""
    valid = np.isfinite(size) & np.isfinite(error)
    return np.where(valid, error / np.where(size > 0, size, 1.0), np.inf)
