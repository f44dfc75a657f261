"""Every kind of objective: the package's next to a dense formula of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg
from dense_reference import State
from pencils import Problem, petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as o


@dataclass(frozen=True, eq=False)
class Spec:
    """An objective: how to make it on this rank's rows, and its value from dense arrays."""

    name: str
    make: Callable[[Problem, ga.Eigenpairs], Any]
    dense: Callable[[Problem, State], float]
    needs: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


def own(problem: Problem, pairs: ga.Eigenpairs, seed: int) -> np.ndarray:
    return problem.vector(seed)[slice(*pairs.rows)]


def columns(pairs: ga.Eigenpairs, found: dict[int, np.ndarray]) -> np.ndarray:
    block = np.zeros(pairs.right.shape, dtype=complex)
    for j, column in found.items():
        block[:, j] = column
    return block


def at(pairs: ga.Eigenpairs, found: dict[int, complex]) -> np.ndarray:
    return np.array([found.get(j, 0.0) for j in range(pairs.count)])


def square(pairs: ga.Eigenpairs, block: np.ndarray, j: int) -> float:
    return float(pairs.inner(block[:, [j]], block[:, [j]])[0, 0].real)


def with_parameters(problem, pairs):
    """Re(lam_0) sum_i p_i^2 + |x_0|^2 sum_i p_i."""

    def objective(pairs, p):
        lam, length = pairs.values[0].real, square(pairs, pairs.right, 0)
        squares, total = sum((v**2).sum() for v in p.values()), sum(v.sum() for v in p.values())
        return lam * squares + length * total, ga.EigenCotangent(
            values=at(pairs, {0: squares}),
            right=columns(pairs, {0: 2 * total * pairs.right[:, 0]}),
            parameters={name: 2 * lam * v + length for name, v in p.items()},
        )

    return objective


def left_output(problem, pairs):
    """Re(c^H y_0) + |y_2|^2."""
    c, last = own(problem, pairs, 3), pairs.count - 1

    def objective(pairs):
        output = pairs.inner(c[:, None], pairs.left[:, [0]])[0, 0].real
        y_bar = columns(pairs, {last: 2 * pairs.left[:, last]})
        y_bar[:, 0] += c
        return output + square(pairs, pairs.left, last), ga.EigenCotangent(left=y_bar)

    return objective


def both_lengths(problem, pairs):
    """|x_0|^2 |y_0|^2: what a condition number is made of."""

    def objective(pairs):
        x, y = square(pairs, pairs.right, 0), square(pairs, pairs.left, 0)
        return x * y, ga.EigenCotangent(
            right=columns(pairs, {0: 2 * y * pairs.right[:, 0]}),
            left=columns(pairs, {0: 2 * x * pairs.left[:, 0]}),
        )

    return objective


def energies(problem, pairs):
    """Re(x_0^H A x_0) + 2 Re(x_last^H B x_last), with A and B of the pencil."""
    last = pairs.count - 1

    def objective(pairs):
        pencil, first, final = pairs.pencil, pairs.right[:, [0]], pairs.right[:, [last]]
        Ax, Bx = pencil.multiply_a(first), pencil.multiply_b(final)
        Ahx = pencil.multiply_a(first, hermitian=True)
        Bhx = pencil.multiply_b(final, hermitian=True)
        x_bar = columns(pairs, {last: 2 * (Bx + Bhx)[:, 0]})
        x_bar[:, 0] += (Ax + Ahx)[:, 0]
        zero = 0 * first
        value = pairs.inner(first, Ax)[0, 0].real + 2 * pairs.inner(final, Bx)[0, 0].real
        return value, ga.EigenCotangent(
            right=x_bar,
            matrices=(
                np.hstack([first, zero]),
                np.hstack([zero, 2 * final]),
                np.hstack([first, final]),
            ),
        )

    return objective


def length_of_x(problem, pairs):
    """(|x_0|^2)^2: moves with nothing but the length."""

    def objective(pairs):
        s = square(pairs, pairs.right, 0)
        return s * s, ga.EigenCotangent(right=columns(pairs, {0: 4 * s * pairs.right[:, 0]}))

    return objective


def dense_square(x: np.ndarray) -> float:
    return float((x.conj() @ x).real)


def dense_ks(f: np.ndarray, rho: float) -> float:
    return float(-np.log(np.exp(-rho * f).sum()) / rho)


def dense_match(r: np.ndarray, x: np.ndarray) -> float:
    return float(abs(r.conj() @ x) ** 2 / (dense_square(r) * dense_square(x)))


def dense_petermann(d: State) -> float:
    x, y = d.right[:, 0], d.left[:, 0]
    return dense_square(x) * dense_square(y) / abs(y.conj() @ d.B @ x) ** 2


@cache
def smooth_weight(problem: Problem) -> np.ndarray:
    """Return a weight of the rows where neither x_0 nor y_0 is small: |x_i| has a kink at 0."""
    values, left, right = scipy.linalg.eig(*problem.dense(problem.p), left=True)
    distance = np.where(np.isfinite(values), np.abs(values - problem.solver["target"]), np.inf)
    first = int(np.argmin(distance))
    sizes = [np.abs(block[:, first]) for block in (left, right)]
    large = np.logical_and(*(size > 0.2 * size.max() for size in sizes))
    assert large.any()
    return problem.vector(2).real * large


def frequencies(values: np.ndarray) -> np.ndarray:
    return np.sqrt(values.real) / (2 * np.pi)


def dense_energy(x, M) -> float:
    return float((x.conj() @ M @ x).real)


POSITIVE = frozenset({"positive"})
OBJECTIVES = [
    Spec("eigenvalue", lambda q, s: o.Eigenvalue(1), lambda q, d: d.values[1].real),
    Spec("imaginary", lambda q, s: o.Eigenvalue(0, part="imag"), lambda q, d: d.values[0].imag),
    Spec("frequency", lambda q, s: o.Frequency(0), lambda q, d: frequencies(d.values)[0], POSITIVE),
    Spec("keff", lambda q, s: o.KEffective(0), lambda q, d: 1 / d.values[0].real, POSITIVE),
    Spec(
        "ks_frequency",
        lambda q, s: o.KSMinimum(rho=9.0),
        lambda q, d: dense_ks(frequencies(d.values), 9.0),
        POSITIVE,
    ),
    Spec(
        "ks_eigenvalue",
        lambda q, s: o.KSMinimum(rho=0.7, pairs=(0, 2), of="eigenvalue"),
        lambda q, d: dense_ks(d.values[[0, 2]].real, 0.7),
    ),
    Spec(
        "quadratic",
        lambda q, s: o.QuadraticForm(petsc_matrix(s.comm, q.hermitian_weight()), pairs=(1,)),
        lambda q, d: dense_energy(d.right[:, 1], q.hermitian_weight()),
    ),
    Spec(
        "quadratic_several",
        lambda q, s: o.QuadraticForm(own(q, s, 2).real, pairs=(0, 2)),
        lambda q, d: sum(dense_energy(d.right[:, j], np.diag(q.vector(2).real)) for j in (0, 2)),
    ),
    Spec(
        "output_real",
        lambda q, s: o.LinearOutput(own(q, s, 3), pair=1),
        lambda q, d: (q.vector(3).conj() @ d.right[:, 1]).real,
    ),
    Spec(
        "output_imag",
        lambda q, s: o.LinearOutput(own(q, s, 3), pair=0, part="imag"),
        lambda q, d: (q.vector(3).conj() @ d.right[:, 0]).imag,
    ),
    Spec(
        "match",
        lambda q, s: o.ModeShapeMatch(own(q, s, 4), pair=2),
        lambda q, d: dense_match(q.vector(4), d.right[:, 2]),
    ),
    Spec(
        "with_parameters",
        with_parameters,
        lambda q, d: d.values[0].real * (d.p**2).sum() + dense_square(d.right[:, 0]) * d.p.sum(),
    ),
    Spec(
        "left_output",
        left_output,
        lambda q, d: (q.vector(3).conj() @ d.left[:, 0]).real + dense_square(d.left[:, -1]),
    ),
    Spec(
        "both_lengths",
        both_lengths,
        lambda q, d: dense_square(d.right[:, 0]) * dense_square(d.left[:, 0]),
    ),
    Spec(
        "energies",
        energies,
        lambda q, d: dense_energy(d.right[:, 0], d.A) + 2 * dense_energy(d.right[:, -1], d.B),
    ),
    Spec("petermann", lambda q, s: o.PetermannFactor(0), lambda q, d: dense_petermann(d)),
    Spec(
        "structural",
        lambda q, s: o.StructuralSensitivity(smooth_weight(q)[slice(*s.rows)], pair=0),
        lambda q, d: float(smooth_weight(q) @ (abs(d.right[:, 0]) * abs(d.left[:, 0]))),
    ),
    Spec("length", length_of_x, lambda q, d: dense_square(d.right[:, 0]) ** 2),
]


# Objectives that look at pairs 1 or 2 need a problem that has them.
SINGLE = {"imaginary", "frequency", "keff", "output_imag", "with_parameters", "energies", "length"}
SINGLE |= {"left_output", "both_lengths", "petermann", "structural"}


def objectives_for(problem: Problem) -> list[Spec]:
    enough = {spec.name for spec in OBJECTIVES} if problem.solver["count"] > 2 else SINGLE
    return [spec for spec in OBJECTIVES if spec.name in enough and spec.needs <= problem.traits]
