"""What a test problem is: the package's model next to plain dense NumPy matrices."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI
from petsc4py import PETSc

Array = np.ndarray
Point = dict[str, Array]

COMPLEX_BUILD = issubclass(PETSc.ScalarType, complex)


def factors_by_cholmod() -> bool:
    """Try it: what the library is called differs between versions of PETSc."""
    mat = PETSc.Mat().createAIJ((1, 1), nnz=1, comm=MPI.COMM_SELF)
    mat.setValue(0, 0, 1.0)
    mat.assemble()
    pc = PETSc.PC().create(MPI.COMM_SELF)
    pc.setOperators(mat)
    pc.setType("cholesky")
    pc.setFactorSolverType("cholmod")
    try:
        pc.setUp()
    except PETSc.Error:
        return False
    finally:
        pc.destroy()
        mat.destroy()
    return True


# CHOLMOD's interface has real matrices only, and PETSc may have been built without it.
HAS_CHOLMOD = not COMPLEX_BUILD and factors_by_cholmod()


def petsc_matrix(comm: MPI.Comm, dense: Array) -> PETSc.Mat:
    """Distribute a dense matrix by PETSc's default split, zeros left out but on the diagonal."""
    n = dense.shape[0]
    mat = PETSc.Mat().createAIJ((n, n), comm=comm)
    mat.setUp()
    mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    for row in range(*mat.getOwnershipRange()):
        columns = np.union1d(np.flatnonzero(dense[row]), row).astype(PETSc.IntType)
        mat.setValues(row, columns, dense[row, columns])
    mat.assemble()
    return mat


@dataclass(frozen=True, eq=False)
class Problem:
    """A model, the same matrices as a dense function of p, and where to look.

    Traits: "definite" (A and B Hermitian, B positive), "hermitian" (B Hermitian), "symmetric"
    (A = A^T, B = B^T), "positive" (wanted eigenvalues real and positive), "complex" (vectors).
    """

    name: str
    n: int
    dense: Callable[[Point], tuple[Array, Array | None]]
    model: Callable[[MPI.Comm], Any]
    p: Point
    p_dot: Point
    traits: frozenset[str]
    solver: Mapping[str, Any] = field(default_factory=lambda: {"count": 3, "target": 0.4})

    def __str__(self) -> str:
        return self.name

    def vector(self, seed: int) -> Array:
        """Return a constant complex vector: real problems must cope with it too."""
        rng = np.random.default_rng(seed)
        return rng.uniform(0.5, 1.5, self.n) + 1j * rng.uniform(-0.5, 0.5, self.n)

    def hermitian_weight(self) -> Array:
        """Return a constant Hermitian matrix, real in the real build."""
        off_diagonal = 0.2 + 0.3j if COMPLEX_BUILD else 0.2
        D = np.diag(np.linspace(0.5, 1.0, self.n)) + off_diagonal * np.eye(self.n, k=1)
        return D + D.conj().T

    @cached_property
    def component(self) -> int:
        """Row where every wanted vector is large: fit for ("component", k)."""
        return int(np.argmax(np.abs(self._vectors).min(axis=1)))

    @cached_property
    def functional(self) -> Array:
        """A vector c that no wanted vector is close to orthogonal to; real for real vectors."""
        drawn = [self.vector(seed) for seed in range(10, 40)]
        if "complex" not in self.traits:
            drawn = [c.real for c in drawn]
        return max(drawn, key=lambda c: np.abs(c.conj() @ self._vectors).min())

    @cached_property
    def _vectors(self) -> Array:
        values, vectors = scipy.linalg.eig(*self.dense(self.p))
        distance = np.where(np.isfinite(values), np.abs(values - self.solver["target"]), np.inf)
        wanted = vectors[:, np.argsort(distance)[: self.solver["count"]]]
        return wanted / np.linalg.norm(wanted, axis=0)


def moved(p: Point, step: float, p_dot: Point) -> Point:
    return {name: value + step * p_dot[name] for name, value in p.items()}


def flat(p: Mapping[str, Array]) -> Array:
    return np.concatenate(list(p.values()))


def directions(p: Point) -> Iterator[Point]:
    """Yield the unit direction of every entry of every parameter, in the order of `flat`."""
    for name, value in p.items():
        for i in range(value.size):
            zero = {other: np.zeros_like(entry) for other, entry in p.items()}
            yield {**zero, name: np.eye(value.size)[i]}
