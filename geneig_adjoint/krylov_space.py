r"""A space that all systems with one factor share.

With K = A - sigma B and S = K^-1 B (for adjoint systems S = K^-H B^H) every system is

    K^-1 (A - lam_j B) = I - s_j S,   s_j = lam_j - sigma,

so that one sequence of blocked solves serves all eigenvalues. The space is an orthonormal
basis W, of which S is known on a subspace: S W E = W H. Vectors that the eigensolve leaves
behind belong to it from the start.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.collective import column_norms, inner
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.normalization import column_dots

DEPENDENT = 1e-12
"""Directions shorter than this, relative to the vectors they come from, are rounding."""
INDEPENDENT = 1e-4
"""Directions this long, relative to others, survive an orthogonalisation by Gram matrices."""
PASSES = 4
ROUNDING = 100 * EPS
RELATION = 1e-9
"""Error of S W E = W H that is accepted of vectors the eigensolver left."""


class KrylovSpace:
    """Orthonormal vectors W with S W E = W H.  (Collective.)

    Blocks are real in the real build: a complex vector is two columns, and complex
    eigenvalues of real pencils need no complex basis.

    Parameters
    ----------
    transformation
        The eigensolver's factor of K.
    hermitian
        The space of S = K^-H B^H, in place of K^-1 B.
    weighted
        Orthonormal in the inner product of B, which is positive (semi)definite; S is
        then self-adjoint.

    Attributes
    ----------
    size : int
        Number m of basis vectors.
    known, images : ndarray
        E with orthonormal columns and H, (m, d) each, the same on all ranks.
    solved : int
        Columns solved with the factor so far.

    """

    def __init__(
        self, transformation: SpectralTransformation, *, hermitian: bool, weighted: bool
    ) -> None:
        self._transformation = transformation
        self.pencil = transformation.pencil
        self.comm = self.pencil.comm
        self._hermitian, self._weighted = hermitian, weighted
        self._storage = np.zeros((self.pencil.n_local, 32), dtype=PETSc.ScalarType, order="F")
        self.size = 0
        self.known = np.zeros((0, 0), dtype=PETSc.ScalarType)
        self.images = np.zeros((0, 0), dtype=PETSc.ScalarType)
        self.solved = 0

    @property
    def basis(self) -> Block:
        """W, this rank's rows (n_local, m).  (Not collective.)"""
        return self._storage[:, : self.size]

    def solve(self, block: Block) -> Block:
        """Return K^-1 block, or K^-H block.  (Collective.)"""
        self.solved += block.shape[1]
        return self._transformation.solve(block, hermitian=self._hermitian)

    def apply(self, block: Block) -> Block:
        """Return S block.  (Collective.)"""
        return self.solve(self.pencil.multiply_b(block, hermitian=self._hermitian))

    def weigh(self, block: Block) -> Block:
        """Return B block where that is the inner product, else the block.  (Collective.)"""
        return self.pencil.multiply_b(block) if self._weighted else block

    def lengths(self, block: Block) -> Block:
        """Return the norms of columns in the inner product.  (Collective.)"""
        return self._roots(block, self.weigh(block))

    def coordinates(self, block: Block) -> Block:
        """Return W^H (weighed block), (m, k).  (Collective.)"""
        return inner(self.comm, self.basis, self.weigh(block))

    def append(self, block: Block) -> Block:
        """Add vectors to the basis, and return the coordinates of all of them, (m, k).

        Collective. What depends on the basis already adds nothing.
        """
        start, coordinates = self.size, np.zeros((self.size, block.shape[1]))
        rest, weighed = block, self.weigh(block)
        sizes = self._roots(rest, weighed)
        for _ in range(PASSES):
            part = inner(self.comm, self.basis, weighed)
            coordinates = coordinates + part
            rest = rest - self.basis @ part
            weighed = self.weigh(rest)
            lengths = self._roots(rest, weighed)
            long = lengths > np.maximum(DEPENDENT * sizes, self._noise(rest))
            if not long.any():
                break
            unit = 1.0 / lengths[long]
            fresh, weighed_fresh = self._orthonormal(rest[:, long] * unit, weighed[:, long] * unit)
            part = inner(self.comm, fresh, weighed)
            coordinates = np.vstack([coordinates, part])
            self._keep(fresh)
            rest, weighed = rest - fresh @ part, weighed - weighed_fresh @ part
            if np.all(self._roots(rest, weighed) <= DEPENDENT * sizes):
                break
        self.known = _padded(self.known, self.size - start)
        self.images = _padded(self.images, self.size - start)
        return coordinates

    def image(self, block: Block) -> Block:
        """Add S block to the basis, and return its coordinates, (m, k).

        Collective. Only what lies outside of the known part is multiplied: rounding
        along eigenvectors far below the others would be enlarged by the ratio of the shifts.
        """
        inside = self.known.conj().T @ self.coordinates(block)
        outside: Block = block - self.basis @ (self.known @ inside)
        found = self.append(self.apply(outside))
        return np.asarray(found + self.images @ inside)

    def expand(self, directions: Block) -> bool:
        """Learn S on W directions, (m, k), by one blocked solve; tell whether that was new.

        Collective. The part of directions that is known already is left out.
        """
        rest = directions / np.maximum(np.linalg.norm(directions, axis=0), TINY)
        for _ in range(2):
            rest = rest - self.known @ (self.known.conj().T @ rest)
        left, values, _ = np.linalg.svd(rest, full_matrices=False)
        fresh = left[:, values > INDEPENDENT]
        if not fresh.shape[1]:
            return False
        images = self.append(self.apply(self.basis @ fresh))
        self._learn(_padded(fresh, self.size - len(fresh)), images)
        return True

    def add_eigenvectors(self, vectors: Block, factors: Block) -> None:
        """Begin with vectors (n_local, k) that have S vectors = vectors diag(factors).

        Collective. In the real build complex ones are split into halves.
        """
        turned = np.diag(factors)
        if np.iscomplexobj(vectors) and not np.iscomplexobj(self.basis):
            vectors = np.hstack([vectors.real, vectors.imag])
            turned = np.block([[turned.real, turned.imag], [-turned.imag, turned.real]])
        elif not np.iscomplexobj(self.basis):
            turned = turned.real
        where = self.append(vectors)
        inverse = np.linalg.pinv(where, rcond=INDEPENDENT)
        self._learn(np.eye(self.size, dtype=self.basis.dtype), where @ turned @ inverse)

    def add_krylov_basis(self, vectors: Block) -> bool:
        """Add V, (n_local, m), with S V[:, :-1] in its span; tell whether that was true.

        Collective. For a Hermitian K and the inner product of B: with G = W^H K W the
        images are a Schur complement of G^-1, and no solve is needed. The relation is
        checked; the space is unchanged where it does not hold.
        """
        before = (self.size, self.known, self.images)
        self.append(vectors[:, :-1])
        inside = self.size
        self.append(vectors[:, -1:])
        if self.size > inside > 0:
            shifted = self.times_factor(self.basis)
            gram = inner(self.comm, self.basis, shifted)
            lead = np.linalg.inv(gram)[:inside, :inside]
            tail = -(gram[-1:, :inside] @ lead) / gram[-1, -1]
            images = np.vstack([lead, tail])
            wanted = self.pencil.multiply_b(self.basis[:, :inside])
            wrong = column_norms(self.comm, wanted - shifted @ images)
            if np.all(wrong <= RELATION * column_norms(self.comm, wanted)):
                self.known = np.eye(self.size, inside, dtype=self.basis.dtype)
                self.images = images
                return True
        self.size, self.known, self.images = before
        return False

    def times_factor(self, block: Block) -> Block:
        """Return K block, or K^H block.  (Collective.)"""
        sigma = self._transformation.sigma
        assert sigma is not None
        sigma = np.conj(sigma) if self._hermitian else sigma
        sigma = sigma if np.iscomplexobj(self.basis) else sigma.real
        A_block = self.pencil.multiply_a(block, hermitian=self._hermitian)
        return A_block - sigma * self.pencil.multiply_b(block, hermitian=self._hermitian)

    def _learn(self, directions: Block, images: Block) -> None:
        self.known = np.hstack([self.known, directions])
        self.images = np.hstack([self.images, images])

    def _keep(self, fresh: Block) -> None:
        end = self.size + fresh.shape[1]
        if end > self._storage.shape[1]:
            larger = np.zeros((len(self._storage), 2 * end), dtype=self.basis.dtype, order="F")
            larger[:, : self.size] = self.basis
            self._storage = larger
        self._storage[:, self.size : end] = fresh
        self.size = end

    def _roots(self, block: Block, weighed: Block) -> Block:
        """Return the lengths of vectors whose weighed ones are known.  (Collective.)"""
        squares = column_dots(self.comm, block, weighed).real
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    def _orthonormal(self, block: Block, weighed: Block) -> tuple[Block, Block]:
        """Return orthonormal columns of the span of unit vectors, but for dependent ones.

        Collective. Vectors come and go with the weighed ones.
        """
        block, weighed = self._normalized(block, weighed, INDEPENDENT)
        # Short directions have lost orthogonality.
        block = block - self.basis @ inner(self.comm, self.basis, weighed)
        return self._normalized(block, self.weigh(block), 0.1)

    def _normalized(self, block: Block, weighed: Block, least: float) -> tuple[Block, Block]:
        gram = inner(self.comm, block, weighed)
        values, vectors = np.linalg.eigh((gram + gram.conj().T) / 2)
        keep = values > least**2 * values.max()
        turn = vectors[:, keep] / np.sqrt(values[keep])
        return block @ turn, weighed @ turn

    def _noise(self, block: Block) -> Block:
        """Return lengths that rounding gives to columns where B is singular.  (Collective.)"""
        if not self._weighted:
            return np.zeros(block.shape[1])
        size = np.sqrt(ROUNDING * self.pencil.norms[1])
        return np.asarray(size * column_norms(self.comm, block))


def _padded(block: Block, rows: int) -> Block:
    return np.vstack([block, np.zeros((rows, block.shape[1]), dtype=block.dtype)])
