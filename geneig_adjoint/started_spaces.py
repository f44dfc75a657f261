"""What a space of all adjoint systems begins with: eigenvectors, and the eigensolver's basis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.krylov_space import KrylovSpace, padded
from geneig_adjoint.tall_blocks import sums

if TYPE_CHECKING:
    from mpi4py import MPI

HELD = 1e-10
"""Part of an eigenvector's squared length that a space may lack and still be said to hold it."""
BESIDE = 0.1
"""Eigenvectors with a smaller part of their length along a basis are not in its span."""

Start = tuple[KrylovSpace, Block, Block]
"""A space, and the coordinates and lengths of null vectors in it."""


def held(space: KrylovSpace, null: Block, weighed: Block | None = None) -> Start | None:
    """Return a space with what it knows of null vectors if it holds all of them.

    Collective.

    Parameters
    ----------
    space
        Where they are looked for.
    null
        This rank's rows, (n_local, k).
    weighed
        B null, if it is known and the space is orthonormal in the product of B.

    """
    places, sizes = space.measured(null, weighed)
    inside = np.linalg.norm(space.known.conj().T @ places, axis=0)
    return (space, places, sizes) if np.all(inside >= (1 - HELD) * sizes) else None


def begun(
    transformation: SpectralTransformation, null: Block, factors: Block, *, hermitian: bool
) -> Start:
    """Return a new space of null vectors, and of all the eigensolver has left.

    Collective.

    Parameters
    ----------
    transformation
        The eigensolver's factor.
    null
        Eigenvectors of S, this rank's rows (n_local, k).
    factors
        Their eigenvalues 1 / (lam - sigma), (k,).
    hermitian
        S = K^-H B^H in place of K^-1 B.

    """
    pencil = transformation.pencil
    weighted = pencil.definite and pencil.B_positive
    space = KrylovSpace(transformation, hermitian=hermitian, weighted=weighted)
    vectors = transformation.krylov_basis() if weighted else None
    if vectors is None:
        space.add_eigenvectors(null, factors)
        return space, *space.measured(null)
    weighed = pencil.multiply_b(null)
    along, sizes = _along(pencil.comm, vectors, null, weighed)
    # A search for missed pairs leaves a basis beside those that were found before it.
    found = None
    if np.all(along >= BESIDE * sizes) and space.begin_krylov_basis(vectors):
        found = held(space, null, weighed)
    if found is not None:
        return found
    space = KrylovSpace(transformation, hermitian=hermitian, weighted=weighted)
    places = space.add_eigenvectors(null, factors)
    space.add_krylov_basis(vectors)
    return space, padded(places, space.size), sizes


def _along(comm: MPI.Comm, vectors: Block, null: Block, weighed: Block) -> tuple[Block, Block]:
    """Return the lengths of null vectors along a basis, and their own.  (Collective.)"""
    squares = np.einsum("ij,ij->j", null.conj(), weighed).real[None]
    along, squares = sums(comm, (vectors, weighed), (np.ones((1, 1)), squares))
    sizes = np.sqrt(np.maximum(squares[0].real, 0.0))
    return np.linalg.norm(along, axis=0), sizes
