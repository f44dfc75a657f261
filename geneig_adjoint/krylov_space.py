r"""A space that all systems with one factor share.

With K = A - sigma B and S = K^-1 B (for adjoint systems S = K^-H B^H) every system is

    K^-1 (A - lam_j B) = I - s_j S,   s_j = lam_j - sigma,

so that one sequence of blocked solves serves all eigenvalues. The space is an orthonormal
basis W, of which S is known on a subspace: S W E = W H. Vectors that the eigensolve leaves
behind belong to it from the start.
"""

from __future__ import annotations

import weakref

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.tall_blocks import add_product, product, sums

DEPENDENT = 1e-12
"""Directions shorter than this, relative to the vectors they come from, are rounding."""
INDEPENDENT = 1e-4
"""Parts of directions this short, relative to what they come from, are nothing new."""
NEGLIGIBLE = 1e-6
"""Directions with this part of the largest error are not worth a solve yet."""
STRONG = 0.7
"""Directions that keep this part of their length are orthogonal after one pass: errors of
orthogonality then add up, but do not grow."""
GROWTH = 5.0
"""What errors may grow to from residuals, where nothing better is known."""
PASSES = 4
ROUNDING = 100 * EPS
REGULAR = 1e-2
"""Smallest eigenvalue of a Gram matrix of unit vectors that one Cholesky factor is enough for."""
ROOM = 96
"""Columns of memory to begin with; it is the machine's only as far as they are filled."""
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
    weighted : bool
    reach : float
        Norm of S on the directions learned last, 0 without any: where S is self-adjoint, an
        estimate of its norm outside of the space.

    """

    def __init__(
        self, transformation: SpectralTransformation, *, hermitian: bool, weighted: bool
    ) -> None:
        # The factor may keep this space: no cycle, which would live on after the last use.
        self._transformation = weakref.ref(transformation)
        self.pencil = transformation.pencil
        self.comm = self.pencil.comm
        self._hermitian, self.weighted = hermitian, weighted
        self._storage = np.zeros((self.pencil.n_local, ROOM), dtype=PETSc.ScalarType, order="F")
        self.size = 0
        self.known = np.zeros((0, 0), dtype=PETSc.ScalarType)
        self.images = np.zeros((0, 0), dtype=PETSc.ScalarType)
        self.solved = 0
        self.reach = 0.0

    @property
    def _factor(self) -> SpectralTransformation:
        factor = self._transformation()
        assert factor is not None
        return factor

    @property
    def basis(self) -> Block:
        """W, this rank's rows (n_local, m).  (Not collective.)"""
        return self._storage[:, : self.size]

    def solve(self, block: Block) -> Block:
        """Return K^-1 block, or K^-H block.  (Collective.)"""
        self.solved += block.shape[1]
        return self._factor.solve(block, hermitian=self._hermitian)

    def apply(self, block: Block) -> Block:
        """Return S block.  (Collective.)"""
        return self.solve(self.pencil.multiply_b(block, hermitian=self._hermitian))

    def weigh(self, block: Block) -> Block:
        """Return B block where that is the inner product, else the block.  (Collective.)"""
        return self.pencil.multiply_b(block) if self.weighted else block

    def lengths(self, block: Block) -> Block:
        """Return the norms of columns in the inner product.  (Collective.)"""
        return self.weighed_lengths(block, self.weigh(block))

    def weighed_lengths(self, block: Block, weighed: Block) -> Block:
        """Return the lengths of vectors whose weighed ones are known.  (Collective.)"""
        squares = column_dots(self.comm, block, weighed).real
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    def measured(self, block: Block, weighed: Block | None = None) -> tuple[Block, Block]:
        """Return coordinates W^H (weighed block), (m, k), and lengths.  (Collective.)"""
        weighed = self.weigh(block) if weighed is None else weighed
        squares = np.einsum("ij,ij->j", block.conj(), weighed).real[None]
        part, squares = sums(self.comm, (self.basis, weighed), (np.ones((1, 1)), squares))
        return part, np.sqrt(np.maximum(squares[0].real, 0.0))

    def factors_of(self, residuals: Block) -> Block:
        """Return the coordinates of K^-1 residuals along W E, where S is self-adjoint.

        Collective.
        """
        return np.asarray(self.images.conj().T @ sums(self.comm, (self.basis, residuals))[0])

    def growth(self, shifts: Block) -> Block:
        """Return how much larger errors are than residuals of (I - s S), outside of the space.

        Not collective. Where S is self-adjoint, the last expansion tells how large it is there.
        """
        if not self.weighted or not self.reach:
            return np.full(len(shifts), GROWTH)
        return 1.0 / np.maximum(1.0 - np.abs(shifts) * self.reach, 1.0 / GROWTH)

    def append(self, block: Block) -> Block:
        """Add vectors to the basis, and return the coordinates of all of them, (m, k).

        Collective. What depends on the basis already adds nothing. Directions that keep most
        of their length are orthogonal after one pass, the others go through another.
        """
        coordinates = np.zeros((self.size, block.shape[1]))
        # Always: block = W coordinates + rest mix.
        rest, mix = np.asarray(block, dtype=self.basis.dtype, order="F"), np.eye(block.shape[1])
        sizes = 0.0
        for _ in range(PASSES):
            part, gram, noise = self._measured(rest)
            lengths = np.sqrt(np.maximum(np.diag(gram).real, 0.0))
            coordinates = coordinates + part @ mix
            long = lengths > np.maximum(DEPENDENT * sizes, noise)
            if not long.any():
                break
            units, mix = 1.0 / lengths[long], lengths[long, None] * mix[long]
            part, rest = part[:, long] * units, rest if long.all() else rest[:, long]
            gram = gram[long][:, long] * (units[:, None] * units) - part.conj().T @ part
            values, turn = np.linalg.eigh((gram + gram.conj().T) / 2)
            sure = values > np.maximum(STRONG, (noise[long] * units) @ np.abs(turn)) ** 2
            scales = np.where(sure, np.sqrt(np.maximum(values, TINY)), 1.0)
            turn, mix = turn / scales, scales[:, None] * (turn.conj().T @ mix)
            rest = product(rest, units[:, None] * turn)
            rest = add_product(rest, self.basis, part @ turn, -1.0)
            self._keep(rest[:, sure])
            coordinates = np.vstack([coordinates, mix[sure]])
            if sure.all():
                break
            # What remains has come from unit vectors, or from shorter ones made as long.
            sizes = float(np.min(units * sizes)) if sizes else 1.0
            rest, mix = np.asfortranarray(rest[:, ~sure]), mix[~sure]
        self.known = padded(self.known, self.size)
        self.images = padded(self.images, self.size)
        return coordinates

    def image(self, block: Block, coordinates: Block) -> Block:
        """Add S block to the basis, and return its coordinates, (m, k).

        Collective. Only what lies outside of the known part is multiplied: rounding
        along eigenvectors far below the others would be enlarged by the ratio of the shifts.
        """
        inside = self.known.conj().T @ coordinates
        outside = add_product(block.copy(order="F"), self.basis, self.known @ inside, -1.0)
        found = self.append(self.apply(outside))
        return np.asarray(found + self.images @ inside)

    def expand(self, directions: Block) -> bool:
        """Learn S on W directions, (m, k), by one blocked solve; tell whether that was new.

        Collective. The part of directions that is known already is left out; what is short
        beside the others waits.
        """
        rest = directions
        for _ in range(2):
            rest = rest - self.known @ (self.known.conj().T @ rest)
        left, values, _ = np.linalg.svd(rest, full_matrices=False)
        if values.max() <= INDEPENDENT * np.linalg.norm(directions, axis=0).max():
            return False
        fresh = left[:, values > NEGLIGIBLE * values.max()]
        # All of the oldest vectors are known: only rounding is along them.
        first = int(np.argmax(np.abs(fresh).max(axis=1) > DEPENDENT))
        fresh[:first] = 0.0
        images = self.append(self.apply(product(self.basis[:, first:], fresh[first:])))
        fresh = padded(fresh, self.size)
        self.reach = float(np.linalg.norm(fresh.conj().T @ images, 2))
        self._learn(fresh, images)
        return True

    def add_eigenvectors(self, vectors: Block, factors: Block) -> Block:
        """Begin with vectors (n_local, k) that have S vectors = vectors diag(factors).

        Collective. In the real build complex ones are split into halves. Returns coordinates.
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
        return where

    def begin_krylov_basis(self, vectors: Block) -> bool:
        """Begin with V of `add_krylov_basis`, all at once; tell whether that could be.

        Collective. SLEPc turns the vectors that have converged, in place, and leaves the others
        of an orthonormal basis as they were: a Cholesky factor makes all of them orthonormal.
        """
        weighed, lowest = self.weigh(vectors), 0.0
        while lowest < REGULAR:  # a second factor mends the rounding of the first
            gram = sums(self.comm, (vectors, weighed))[0]
            gram = (gram + gram.conj().T) / 2
            lowest = np.linalg.eigvalsh(gram)[0] if np.isfinite(gram).all() else np.nan
            if not lowest >= REGULAR**3:
                return False
            turn = np.linalg.inv(np.linalg.cholesky(gram)).conj().T
            vectors, weighed = product(vectors, turn), product(weighed, turn)
        self._keep(vectors)
        return self._relates(self.size - 1, weighed)

    def add_krylov_basis(self, vectors: Block) -> bool:
        """Add V, (n_local, m), with S V[:, :-1] in its span; tell whether that was true.

        Collective. The relation is checked; the space is unchanged where it does not hold.
        """
        before = (self.size, self.known, self.images)
        self.append(vectors[:, :-1])
        inside = self.size
        self.append(vectors[:, -1:])
        if self.size > inside > 0 and self._relates(inside, self.weigh(self.basis)):
            return True
        self.size, self.known, self.images = before
        return False

    def _relates(self, inside: int, weighed: Block) -> bool:
        """Learn S on the first vectors of the basis if it stays in it; tell whether it does.

        Collective. For a Hermitian K and the inner product of B: with G = W^H K W the images
        are a Schur complement of G^-1, and no solve is needed. weighed: B W.
        """
        shifted = self.times_factor(self.basis, weighed)
        gram = sums(self.comm, (self.basis, shifted))[0]
        lead = np.linalg.inv(gram)[:inside, :inside]
        tail = -(gram[-1:, :inside] @ lead) / gram[-1, -1]
        images = np.vstack([lead, tail])
        wrong = product(shifted, images)
        wrong -= weighed[:, :inside]
        sizes = column_norms(self.comm, weighed[:, :inside])
        if not np.all(column_norms(self.comm, wrong) <= RELATION * sizes):
            return False
        self.known = np.eye(self.size, inside, dtype=self.basis.dtype)
        self.images = images
        return True

    def times_factor(self, block: Block, weighed: Block) -> Block:
        """Return K block for a Hermitian K, of a block and B times it.  (Collective.)"""
        sigma = self._factor.sigma
        assert sigma is not None
        A_block = self.pencil.multiply_a(block)
        return A_block - sigma.real * weighed if sigma else A_block

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

    def _measured(self, block: Block) -> tuple[Block, Block, Block]:
        """Return W^H weighed, block^H weighed, and the lengths that rounding gives columns.

        Collective. Where B is singular there are such lengths.
        """
        weighed = self.weigh(block)
        if not self.weighted:
            part, gram = sums(self.comm, (self.basis, weighed), (block, weighed))
            return part, gram, np.zeros(block.shape[1])
        squares = np.einsum("ij,ij->j", block.conj(), block).real[None]
        one = np.ones((1, 1))
        part, gram, squares = sums(
            self.comm, (self.basis, weighed), (block, weighed), (one, squares)
        )
        size = np.sqrt(ROUNDING * self.pencil.norms[1])
        return part, gram, size * np.sqrt(squares[0].real)


def padded(block: Block, rows: int) -> Block:
    """Return a block with zeros below, up to a number of rows.  (Not collective.)"""
    return np.vstack([block, np.zeros((rows - len(block), block.shape[1]), dtype=block.dtype)])
