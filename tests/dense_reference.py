"""Dense reference that shares no code with the package: derivatives by expansion.

All eigenpairs come from LAPACK (QZ).  The tangent of one vector x with left vector w is
expanded in what is orthogonal to it,

    x_dot = X c,   W^H (A - lam B) X c = -W^H (dA - lam dB - lam_dot B) x,   X _|_ x,  W _|_ w,

(W^H (A - lam B) X is regular whatever the other eigenvalues are: infinite, in Jordan blocks),
then carried through the quotient rule of the normalization.  Derivatives of matrices and
objectives are central differences of sixth order.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

Array = np.ndarray


class State(NamedTuple):
    """What an objective may look at; also the derivative of all that along a direction."""

    values: Array
    right: Array
    left: Array
    A: Array
    B: Array
    p: Array

    def moved(self, step: float, tangent: "State") -> "State":
        return State(*(here + step * dot for here, dot in zip(self, tangent, strict=True)))


def sixth_order_difference(function, step: float) -> Any:
    """Return the derivative at 0, exact for polynomials up to degree six."""
    pairs = [np.asarray(function(k * step)) - np.asarray(function(-k * step)) for k in (1, 2, 3)]
    return (45 * pairs[0] - 9 * pairs[1] + pairs[2]) / (60 * step)


def principal_sign(entry: complex) -> float:
    """Return the sign that makes the real part positive, the imaginary one if that is zero."""
    part = np.where(abs(entry.real) > 1e-8 * abs(entry), entry.real, entry.imag)
    return float(np.where(part < 0, -1.0, 1.0))


@dataclass(frozen=True)
class Scale:
    """How vectors are normalised: kind "B", "2", "linear" (with c) or "bilinear"."""

    kind: str
    c: Array | None = None

    def applied(self, z, z_dot, B, B_dot) -> tuple[Array, Array]:
        """Return the normalised vector and its tangent."""
        length, length_dot = getattr(self, f"_{self.kind.lower()}")(z, z_dot, B, B_dot)
        x, x_dot = z / length, z_dot / length - z * length_dot / length**2
        row = int(np.argmax(np.abs(x) >= (1 - 1e-6) * np.abs(x).max()))
        turn, rate = {
            "linear": (1.0, 0.0),
            "bilinear": (principal_sign(x[row]), 0.0),
        }.get(self.kind, (np.exp(-1j * np.angle(x[row])), np.imag(x_dot[row] / x[row])))
        return x * turn, x_dot * turn - 1j * rate * x * turn

    def _b(self, z, z_dot, B, B_dot):
        square = (z.conj() @ B @ z).real
        square_dot = (2 * z.conj() @ B @ z_dot + z.conj() @ B_dot @ z).real
        length = np.sqrt(abs(square))
        return length, np.sign(square) * square_dot / (2 * length)

    def _2(self, z, z_dot, B, B_dot):
        length = np.linalg.norm(z)
        return length, (z.conj() @ z_dot).real / length

    def _linear(self, z, z_dot, B, B_dot):
        return self.c.conj() @ z, self.c.conj() @ z_dot

    def _bilinear(self, z, z_dot, B, B_dot):
        length = np.sqrt(z @ B @ z + 0j)
        return length, (2 * z @ B @ z_dot + z @ B_dot @ z) / (2 * length)


class DenseReference:
    """All eigenpairs of a dense pencil, and the derivatives of the wanted ones."""

    def __init__(self, problem, scale: Scale) -> None:
        self.problem, self.scale = problem, scale
        A, B = problem.dense(problem.p)
        self.A, self.B = A, np.eye(problem.n) if B is None else B
        (alpha, beta), self.W, self.X = scipy.linalg.eig(
            self.A, self.B, left=True, right=True, homogeneous_eigvals=True
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(np.abs(beta) > 1e-10 * np.abs(alpha), alpha / beta, np.inf)
        distance = np.round(np.abs(values - problem.solver["target"]), 9)
        self.chosen = np.lexsort((-values.imag, distance))[: problem.solver["count"]]
        self.lam = values

    @cached_property
    def state(self) -> State:
        return self._assembled(np.zeros_like(self.A), np.zeros_like(self.B))[0]

    def tangent(self, p_dot) -> State:
        """Return the derivative of everything along a direction of the parameters."""
        p = self.problem.p
        flat_dot = np.concatenate(list(p_dot.values()))

        def matrices(step):
            A, B = self.problem.dense({name: p[name] + step * p_dot[name] for name in p})
            return np.stack([A, self.B if B is None else B])

        # Polynomials of low degree: a large step costs no accuracy.
        dA, dB = sixth_order_difference(matrices, 0.1)
        return self._assembled(dA, dB)[1]._replace(A=dA, B=dB, p=flat_dot)

    def derivative(self, objective, tangent: State) -> float:
        """Return the derivative of objective(State) by differences along an exact tangent."""
        state = self.state
        step = 4e-3 / max(1.0, *(np.abs(part).max() for part in tangent[1:3]))
        return float(sixth_order_difference(lambda h: objective(state.moved(h, tangent)), step))

    def _assembled(self, dA, dB) -> tuple[State, State]:
        here, dots = [], []
        for j in self.chosen:
            value, dot = self._pair(j, dA, dB)
            here.append(value)
            dots.append(dot)
        p = np.concatenate(list(self.problem.p.values()))
        return self._stacked(here, self.A, self.B, p), self._stacked(dots, dA, dB, 0 * p)

    def _stacked(self, parts, A, B, p) -> State:
        values, right, left = zip(*parts, strict=True)
        return State(np.array(values), np.column_stack(right), np.column_stack(left), A, B, p)

    def _pair(self, j, dA, dB):
        lam, z, w = self.lam[j], self.X[:, j], self.W[:, j]
        change = dA - lam * dB
        lam_dot = (w.conj() @ change @ z) / (w.conj() @ self.B @ z)
        X, W = (scipy.linalg.null_space(vector[None, :].conj()) for vector in (z, w))
        small = W.conj().T @ (self.A - lam * self.B) @ X
        total = change - lam_dot * self.B
        z_dot = -X @ np.linalg.solve(small, W.conj().T @ total @ z)
        w_dot = -W @ np.linalg.solve(small.conj().T, X.conj().T @ total.conj().T @ w)
        x, x_dot = self.scale.applied(z, z_dot, self.B, dB)
        # y^H B x = 1
        s = w.conj() @ self.B @ x
        s_dot = w_dot.conj() @ self.B @ x + w.conj() @ dB @ x + w.conj() @ self.B @ x_dot
        y = w / s.conj()
        y_dot = w_dot / s.conj() - y * (s_dot / s).conj()
        return (lam, x, y), (lam_dot, x_dot, y_dot)
