r"""Derivatives of repeated eigenvalues: they depend on the direction, and here they are.

For the cluster with right vectors X_c and left vectors Y_c, Y_c^H B X_c = I, and the value lam,
the values at p + t d are lam + t mu_k + O(t^2) with mu_k the eigenvalues of

    Y_c^H (dA - lam dB) X_c = sum_i d_i D_i,     D_i = Y_c^H (A_i - lam B_i) X_c

(van der Aa, ter Morsche & Mattheij, Electron. J. Linear Algebra 16, 2007).

Members of a cluster agree to a relative 1e-6 or to their errors only; here they count as
equal, with their mean as lam. Where their small differences matter, take the eigenvalues of
diag(lam_k) + t sum_i d_i D_i: that is exact to t^2 at both ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from geneig_adjoint import parameters as params
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.clusters import check_differentiable, check_not_constrained, cluster_of
from geneig_adjoint.collective import check_equal_input, from_first_rank, raise_together, users_code
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import DefectiveEigenvalueError, InputError
from geneig_adjoint.gradient_steps import check_point
from geneig_adjoint.indices import single_index_error
from geneig_adjoint.models import Model, checked_tangent
from geneig_adjoint.moving_rows import with_moving_rows
from geneig_adjoint.parameters import Parameters
from geneig_adjoint.reductions import column_norms, inner

LARGEST_CONDITION = 1e6
"""Of a cluster: vectors exact to 1e-12 leave its derivatives exact to 1e-6, and what is split
by less than a relative 1e-6 because it is defective lies beyond."""


@dataclass(frozen=True, eq=False)
class ClusterDerivatives:
    """The matrices D_i of all parameters for one cluster of g eigenvalues.

    Attributes
    ----------
    members : tuple of int
        Indices of the pairs.
    value : float or complex
        Mean of their eigenvalues.
    matrices : mapping
        Name -> (length, g, g): D_i for every entry of the parameter, the same on every rank,
        or this rank's entries of a PETSc.Vec. Units: eigenvalue / parameter. Hermitian for
        Hermitian definite pencils. In another basis, X_c Q, they are Q^-1 D_i Q; the
        eigenvalues of their combinations stay.

    """

    members: tuple[int, ...]
    value: complex
    matrices: Mapping[str, Block]


def cluster_derivatives(
    model: Model, p: Parameters, pairs: Eigenpairs, pair: int
) -> ClusterDerivatives:
    """Return what all derivatives of a repeated eigenvalue are made of.

    Collective. What a min-max design needs: constrain the eigenvalues of lam I + sum_i d_i
    D_i for a step d. g^2 contractions (g (g + 1) / 2 for real symmetric pencils, 2 g^2 for
    other complex vectors), no linear system. A simple eigenvalue gives its gradient, as
    1 x 1 matrices.

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
        A pair that does not exist or differs between ranks, pairs without left vectors,
        a contraction that does not have the structure of p.
    ConstrainedRowError
        When the cluster belongs to rows of constrained dofs.
    DefectiveEigenvalueError
        When the cluster is not semisimple: no derivatives exist.
    StaleError
        As in `gradient`.

    """
    model, p = entered(pairs.comm, model, p)
    cluster = _cluster(model, p, pairs, pair)
    g, dtype = len(cluster.members), cluster.right.dtype
    found = {name: np.zeros((params.local_values(p[name]).size, g, g), dtype=dtype) for name in p}
    for k in range(g):
        for j in range(k if cluster.hermitian else 0, g):
            # The diagonal of a Hermitian matrix has no imaginary part.
            real = dtype.kind == "f" or (cluster.hermitian and j == k)
            for part in (1.0,) if real else (1.0, 1.0j):
                for name, entries in _contracted(model, p, pairs, cluster, (k, j, part)).items():
                    found[name][:, k, j] += part * entries
    if cluster.hermitian:
        found = {name: _hermitian(matrices) for name, matrices in found.items()}
    return ClusterDerivatives(cluster.members, cluster.value, found)


def _contracted(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    cluster: _Cluster,
    place: tuple[int, int, complex],
) -> dict[str, Block]:
    """Return Re((part y_k)^H (A_i - lam B_i) x_j): with part i, the imaginary part.

    Collective. Name -> the entries this rank holds.
    """
    k, j, part = place
    left = part * cluster.left[:, [k]]
    with users_code(pairs.comm):
        total = model.contract(p, left, -np.conj(cluster.value) * left, cluster.right[:, [j]])
    raise_together(pairs.comm, params.structure_error("contract", p, total))
    entries = {name: np.array(params.local_values(total[name]), dtype=float) for name in p}
    params.release(total)
    return entries


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
        pencils, else complex ones by real part (equal to 10 digits: by imaginary part).

    Raises
    ------
    InputError, ConstrainedRowError, DefectiveEigenvalueError, StaleError
        As in `cluster_derivatives`; InputError when the model has no ``tangent``, or one
        that returns anything but two blocks.

    """
    if not hasattr(model, "tangent"):
        raise InputError(
            f"directional_derivatives needs a model with tangent(p, p_dot, right), got "
            f"{type(model).__name__} without; return (dA @ right, dB @ right)"
        )
    model, p, p_dot = entered(pairs.comm, model, p, p_dot)
    cluster = _cluster(model, p, pairs, pair)
    dA_x, dB_x = checked_tangent(pairs.comm, model, (p, p_dot), cluster.right)
    small = inner(pairs.comm, cluster.left, dA_x - cluster.value * dB_x)

    def slopes() -> Block:
        if cluster.hermitian:
            return np.asarray(np.linalg.eigvalsh((small + small.conj().T) / 2))
        return _in_order(np.linalg.eigvals(small))

    return from_first_rank(pairs.comm, slopes)


def _in_order(mu: Block) -> Block:
    """Return mu by real part; rounding must not decide which of two conjugates comes first."""
    digits = np.round(mu.real / max(float(np.abs(mu).max()), TINY), 10)
    return np.asarray(mu[np.lexsort((mu.imag, digits))], dtype=complex)


@dataclass(frozen=True, eq=False)
class _Cluster:
    """Vectors with left^H B right = I."""

    members: tuple[int, ...]
    value: complex
    left: Block
    right: Block
    hermitian: bool


def _cluster(model: Any, p: Parameters, pairs: Eigenpairs, pair: int) -> _Cluster:
    """Return the cluster of a pair.  (Collective.)"""
    pairs = linear_pairs(pairs)
    pairs.check_current()
    check_point(pairs, p)
    check_equal_input(pairs.comm, "pair", pair)
    raise_together(pairs.comm, single_index_error(pairs.count, pair))
    definite, members = pairs.pencil.definite, cluster_of(pairs, int(pair))
    pairs = with_moving_rows(model, p, pairs, members)
    check_not_constrained(pairs, members)
    if not definite and pairs.left is None:
        raise InputError(
            "derivatives of repeated eigenvalues need pairs with left vectors, got pairs solved "
            "with left=False; solve again with left=True"
        )
    if len(members) == 1:
        check_differentiable(pairs, int(pair))  # as for its gradient
    right = pairs.right[:, list(members)]
    left = right if definite or pairs.left is None else pairs.left[:, list(members)]
    B_x = pairs.pencil.multiply_b(right)
    gram = inner(pairs.comm, left, B_x)
    value = complex(pairs.values[list(members)].mean())
    if definite:
        # X^H B X = sign * factor^H factor: x^H B x has one sign in a cluster.
        sign = np.sign(np.trace(gram).real)
        right = right @ np.linalg.inv(scipy.linalg.cholesky(sign * gram))
        return _Cluster(members, value.real, sign * right, right, hermitian=True)
    if len(members) > 1:
        _check_semisimple(pairs, members, (left, B_x), gram)
    return _Cluster(members, value, left @ np.linalg.inv(gram).conj().T, right, hermitian=False)


def _check_semisimple(
    pairs: Eigenpairs, members: tuple[int, ...], sides: tuple[Block, Block], gram: Block
) -> None:
    """Raise when left and right vectors of unit length are orthogonal in some combination.

    Collective: rank 0 decides.
    """
    left, right = (column_norms(pairs.comm, block) for block in sides)
    sizes = np.maximum(np.outer(left, right), TINY)  # a left vector may have been found to be 0
    smallest = pairs.comm.bcast(np.linalg.svd(gram / sizes, compute_uv=False)[-1], root=0)
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
