"""The same elements three times: closed form, NumPy (complex step) and JAX."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

import geneig_adjoint as ga

ND = 3


def numpy_truss(area, length, angle):
    """A batch: one parameter of (batch, 2), one of (batch,), and data; not symmetric."""
    stiff = area[:, 0] ** 2 * area[:, 1] / length
    rows = np.stack([np.cos(angle), np.sin(angle), -np.cos(angle)], axis=1)
    columns = np.stack([np.cos(angle), 2 * np.sin(angle), 0.5 + 0 * angle], axis=1)
    return stiff[:, None, None] * rows[:, :, None] * columns[:, None, :]


def jax_truss(area, length, angle):
    """One element."""
    stiff = area[0] ** 2 * area[1] / length
    rows = jnp.stack([jnp.cos(angle), jnp.sin(angle), -jnp.cos(angle)])
    columns = jnp.stack([jnp.cos(angle), 2 * jnp.sin(angle), jnp.asarray(0.5)])
    return stiff * jnp.outer(rows, columns)


@dataclass(frozen=True)
class ClosedTruss:
    """The same with derivatives by hand: g and H are those of s = a^2 b / l in (a, b, l)."""

    angle: np.ndarray
    factor: complex = 1.0

    def _base(self, rows):
        ones = np.ones(len(self.angle[rows]))
        return self.factor * numpy_truss(np.stack([ones, ones], 1), ones, self.angle[rows])

    def _slopes(self, values):
        a, b = values["area"].T
        length = values["length"]
        return np.stack([2 * a * b / length, a**2 / length, -(a**2) * b / length**2])

    def _energy(self, left, right, rows):
        return np.einsum("eik,eij,ejk->e", left.conj(), self._base(rows), right).real

    def matrices(self, values, rows):
        a, b = values["area"].T
        return (a**2 * b / values["length"])[:, None, None] * self._base(rows)

    def derivative(self, values, dots, rows):
        moves = np.stack([*dots["area"].T, dots["length"]])
        return np.sum(self._slopes(values) * moves, axis=0)[:, None, None] * self._base(rows)

    def vjp(self, values, left, right, rows):
        bars = self._slopes(values) * self._energy(left, right, rows)
        return {"area": bars[:2].T, "length": bars[2]}

    def vjp_tangent(self, values, dots, left, right, rows):
        a, b = values["area"].T
        length = values["length"]
        moves = np.stack([*dots["area"].T, dots["length"]])
        zero = 0 * a
        hessian = np.array(
            [
                [2 * b / length, 2 * a / length, -2 * a * b / length**2],
                [2 * a / length, zero, -(a**2) / length**2],
                [-2 * a * b / length**2, -(a**2) / length**2, 2 * a**2 * b / length**3],
            ]
        )
        bars = np.einsum("ije,je->ie", hessian, moves) * self._energy(left, right, rows)
        return {"area": bars[:2].T, "length": bars[2]}


def truss_elements(count, seed=7):
    """Return values and angles of so many elements."""
    rng = np.random.default_rng(seed)
    values = {"area": rng.uniform(0.5, 1, (count, 2)), "length": rng.uniform(1, 2, count)}
    return values, rng.uniform(0.2, 1.4, count)


def truss_kernels(angle, **options):
    """Return the three sources by name."""
    return {
        "closed form": ClosedTruss(angle),
        "complex step": ga.NumpyKernel(numpy_truss, {"angle": angle}),
        "jax": ga.JaxKernel(jax_truss, {"angle": angle}, **options),
    }


def complex_truss(angle):
    """Return a kernel of complex matrices, closed form and JAX."""
    factor = 0.8 + 0.3j
    lossy = ga.JaxKernel(lambda **given: factor * jax_truss(**given), {"angle": angle})
    return ClosedTruss(angle, factor), lossy
