r"""Derivatives of repeated eigenvalues: they depend on the direction, and here they are.

For the cluster with right vectors X_c and left vectors Y_c, Y_c^H B X_c = I, and the value lam,
the values at p + t d are lam + t mu_k + O(t^2) with mu_k the eigenvalues of

    Y_c^H (dA - lam dB) X_c = sum_i d_i D_i,     D_i = Y_c^H (A_i - lam B_i) X_c

(van der Aa, ter Morsche & Mattheij, Electron. J. Linear Algebra 16, 2007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from geneig_adjoint import parameters as params
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.clusters import cluster_of
from geneig_adjoint.collective import column_norms, inner, raise_together
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import DefectiveEigenvalueError, InputError
from geneig_adjoint.models import Model
from geneig_adjoint.parameters import Parameters
from geneig_adjoint.sensitivity import check_point

LARGEST_CONDITION = 1e6
"""Of a cluster; beyond, it is not semisimple to working accuracy."""


@dataclass(frozen=True)
class ClusterDerivatives:
    """The matrices D_i of all parameters for one cluster of g eigenvalues.

    Attributes
    ----------
    members : tuple of int
        Indices of the pairs.
    value : complex
        Mean of their eigenvalues.
    matrices : mapping
        Name -> (length, g, g): D_i for every entry of the parameter, the same on every rank,
        or this rank's entries of a PETSc.Vec. Hermitian for Hermitian definite pencils. In
        another basis Q of the cluster they are Q^-1 D_i Q; their eigenvalues stay.

    """

    members: tuple[int, ...]
    value: complex
    matrices: Mapping[str, Block]


def cluster_derivatives(
    model: Model, p: Parameters, pairs: Eigenpairs, pair: int
) -> ClusterDerivatives:
    """Return what all derivatives of a repeated eigenvalue are made of.

    Collective. What a min-max design needs: constrain the eigenvalues of lam I + sum_i d_i
    D_i for a step d. g^2 contractions (g (g + 1) / 2 for Hermitian pencils, twice for complex
    vectors), no linear system. A simple eigenvalue gives its gradient, as 1 x 1 matrices.

    Parameters
    ----------
    model
        Anything with ``contract``.
    p
        Parameters at which ``pairs`` were solved.
    pairs
        Eigenpairs of ``model.assemble(p)``; with left vectors unless the pencil is
        Hermitian definite.
    pair
        Any member of the cluster.

    Raises
    ------
    InputError
        A pair that does not exist, pairs without left vectors.
    DefectiveEigenvalueError
        When the cluster is not semisimple: no derivatives exist.
    StaleError
        As in `gradient`.

    """
    cluster = _cluster(p, pairs, pair)
    g = len(cluster.members)
    real = cluster.right.dtype.kind == "f"
    found: dict[str, Block] = {}
    for k in range(g):
        for j in range(k if cluster.hermitian else 0, g):
            for part in (1.0,) if real else (1.0, 1.0j):
                # Re((part y)^H M x): the real part of y^H M x, then the imaginary one.
                left = part * cluster.left[:, [k]]
                left_b = -np.conj(cluster.value) * left
                entries = model.contract(p, left, left_b, cluster.right[:, [j]])
                raise_together(pairs.comm, params.structure_error("contract", p, entries))
                for name in p:
                    local = np.array(params.local_values(entries[name]), dtype=float)
                    if name not in found:
                        found[name] = np.zeros((local.size, g, g), dtype=cluster.right.dtype)
                    found[name][:, k, j] += part * local
                params.release(entries)
    if cluster.hermitian:
        found = {name: _hermitian(matrices) for name, matrices in found.items()}
    return ClusterDerivatives(cluster.members, cluster.value, found)


def directional_derivatives(
    model: Any, p: Parameters, pairs: Eigenpairs, pair: int, p_dot: Parameters
) -> Block:
    """Return the derivatives of the members of a repeated eigenvalue along a direction.

    Collective. Where the eigenvalues of the cluster go: lam + t mu_k + O(t^2).

    Parameters
    ----------
    model
        A model with ``tangent``.
    p, p_dot
        Point and direction, in the same structure.
    pairs, pair
        As in `cluster_derivatives`.

    Returns
    -------
    ndarray
        mu, (g,), the same on every rank: ascending real numbers for Hermitian definite
        pencils, else complex ones by real, then imaginary part.

    Raises
    ------
    InputError, DefectiveEigenvalueError, StaleError
        As in `cluster_derivatives`; InputError when the model has no ``tangent``.

    """
    if not hasattr(model, "tangent"):
        raise InputError(
            f"directional_derivatives needs a model with tangent(p, p_dot, right), got "
            f"{type(model).__name__} without; return (dA @ right, dB @ right)"
        )
    cluster = _cluster(p, pairs, pair)
    dA_x, dB_x = model.tangent(p, p_dot, cluster.right)
    small = inner(pairs.comm, cluster.left, dA_x - cluster.value * dB_x)
    if cluster.hermitian:
        return np.asarray(pairs.comm.bcast(np.linalg.eigvalsh((small + small.conj().T) / 2)))
    return np.asarray(pairs.comm.bcast(np.sort_complex(np.linalg.eigvals(small))))


@dataclass(frozen=True)
class _Cluster:
    """Vectors with left^H B right = I."""

    members: tuple[int, ...]
    value: complex
    left: Block
    right: Block
    hermitian: bool


def _cluster(p: Parameters, pairs: Eigenpairs, pair: int) -> _Cluster:
    pairs.check_current()
    check_point(pairs, p)
    if not isinstance(pair, int | np.integer) or not 0 <= pair < pairs.count:
        raise InputError(
            f"pair must be in 0 ... {pairs.count - 1}, got {pair!r}; raise count in the solve"
        )
    pencil, members = pairs.pencil, cluster_of(pairs, int(pair))
    right = pairs.right[:, list(members)]
    if not pencil.definite and pairs.left is None:
        raise InputError(
            "derivatives of repeated eigenvalues need pairs with left vectors, got pairs solved "
            "with left=False; solve again with left=True"
        )
    left = right if pencil.definite or pairs.left is None else pairs.left[:, list(members)]
    Bx = pencil.multiply_b(right)
    gram = inner(pairs.comm, left, Bx)
    value = complex(pairs.values[list(members)].mean())
    if right.dtype.kind == "f" or pencil.definite:
        value = value.real
    if pencil.definite:
        # u_k B-orthonormal up to the sign of x^H B x, which the left vectors carry.
        sign = np.sign(np.trace(gram).real)
        factor = scipy.linalg.cholesky(sign * gram)  # gram = factor^H factor
        right = right @ np.linalg.inv(factor)
        left = sign * right
    else:
        _check_semisimple(pairs, members, (left, Bx), gram)
        left = left @ np.linalg.inv(gram).conj().T
    return _Cluster(members, value, left, right, pencil.definite)


def _check_semisimple(
    pairs: Eigenpairs, members: tuple[int, ...], sides: tuple[Block, Block], gram: Block
) -> None:
    """Raise when left and right vectors of unit length are orthogonal in some combination."""
    left, right = (column_norms(pairs.comm, block) for block in sides)
    smallest = np.linalg.svd(gram / np.outer(left, right), compute_uv=False)[-1]
    if not smallest * LARGEST_CONDITION >= 1:
        condition = float(1 / max(smallest, TINY))
        raise DefectiveEigenvalueError(
            f"the cluster of pairs {list(members)} must be semisimple, got a condition number of "
            f"{condition:.1e}: left and right vectors are orthogonal to working accuracy; move "
            "the parameters away from this exceptional point",
            condition=condition,
        )


def _hermitian(matrices: Block) -> Block:
    """Fill the lower triangles from the upper ones."""
    upper = np.triu(matrices)
    diagonal = np.einsum("ikk->ik", upper)
    full = upper + np.conj(np.swapaxes(upper, 1, 2))
    np.einsum("ikk->ik", full)[:] = diagonal.real
    return full
