"""Whether an objective is a function of a whole cluster: it is asked again in another basis.

Inside a cluster the eigenvectors are an arbitrary basis U of an invariant subspace. An
objective that is a function of the subspace has U_bar(U Q) = U_bar(U) Q for every unitary
Q; only then its derivative does not depend on the basis the eigensolver happened to find.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.clusters import ADMISSIBLE_ERROR, degenerate_error
from geneig_adjoint.collective import allreduce_same, column_norms, inner
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.evaluation import Objective, evaluate
from geneig_adjoint.invariant_subspace import Group
from geneig_adjoint.normalization import normalized
from geneig_adjoint.parameters import Parameters


def check_cluster_safety(
    objective: Objective, pairs: Eigenpairs, p: Parameters, cotangent: EigenCotangent
) -> None:
    """Raise when an objective tells the vectors of a cluster apart.

    Collective. Calls the objective a second time if it touches vectors of a cluster.
    Hermitian pencils; vectors of other clusters are refused anyway.

    Raises
    ------
    DegenerateEigenvalueError
        When the derivative depends on the basis of the cluster.

    """
    clusters = [group for group in pairs.clusters if len(group) > 1]
    touched = pairs.comm.allreduce(int(cotangent.right is not None or cotangent.left is not None))
    if not (clusters and touched and pairs.pencil.definite):
        return
    turned = _turned(pairs, clusters)
    again = evaluate(objective, turned, p)[1]
    for members in clusters:
        here, there = Group(pairs, members), Group(turned, members)
        basis = inner(pairs.comm, here.duals, there.vectors)  # U' = U basis
        expected = _outside(here, cotangent) @ basis
        found = _outside(there, again)
        sizes = column_norms(pairs.comm, np.hstack([expected, found, found - expected]))
        size, defect = sizes[: -len(members)].max(), sizes[-len(members) :].max()
        if defect > ADMISSIBLE_ERROR * size:
            raise degenerate_error(pairs, members, defect=float(defect / max(size, TINY)))


def _outside(group: Group, cotangent: EigenCotangent) -> Block:
    """Return the cotangents of u outside of the span, (n_local, g)."""
    pairs, members = group.pairs, list(group.members)
    total = np.zeros((pairs.pencil.n_local, len(members)), dtype=complex)
    if cotangent.right is not None:
        total += np.asarray(cotangent.right)[:, members] * group.lengths
    if cotangent.left is not None:  # y = sign u / length
        total += group.sign * np.asarray(cotangent.left)[:, members] / group.lengths
    return group.outside(total)


def _turned(pairs: Eigenpairs, clusters: list[tuple[int, ...]]) -> Eigenpairs:
    """Return the same pairs with another basis in every cluster.  (Collective.)"""
    right = pairs.right.copy(order="F")
    for members in clusters:
        group, g = Group(pairs, members), len(members)
        seed = _petsc.deterministic_block((0, g), 2 * g, seed=17)
        generator = seed[:, :g] + (1j * seed[:, g:] if right.dtype.kind == "c" else 0.0)
        Q, _ = np.linalg.qr(generator + 0.5 * np.eye(g))
        Q = pairs.comm.bcast(Q, root=0)
        right[:, list(members)] = group.vectors @ Q
    phase = None if pairs.phase_rows is None else "largest"
    right, rows = normalized(pairs.pencil, pairs.normalization, right, phase=phase, rows=None)
    left = pairs.left
    if left is not None:
        product = pairs.pencil.multiply_b(right)
        squares = allreduce_same(pairs.comm, np.einsum("ij,ij->j", right.conj(), product).real)
        left = np.asfortranarray(right / squares)
    return replace(pairs, right=right, left=left, phase_rows=rows)
