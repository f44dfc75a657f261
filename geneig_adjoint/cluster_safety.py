"""Whether an objective is a function of a whole cluster: it is asked again in another basis.

Inside a cluster the eigenvectors are an arbitrary basis U of an invariant subspace. An
objective that is a function of the subspace has U_bar(U Q) = U_bar(U) Q for every unitary
Q; only then its derivative does not depend on the basis the eigensolver happened to find.
Outside of the span all of U_bar matters. Inside, with G = U^H U_bar, its anti-Hermitian part
meets dA - lam dB over the gap, and its Hermitian part meets dB together with what the objective
says about B itself. All of it is measured against the whole cotangent: what remains where that
vanishes on a cluster is rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.clusters import ADMISSIBLE_ERROR, degenerate_error
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.evaluation import Objective, evaluate
from geneig_adjoint.invariant_subspace import Group, explicit_size
from geneig_adjoint.mixing import measured_mixing
from geneig_adjoint.normalization import column_dots, normalized
from geneig_adjoint.parameters import Parameters
from geneig_adjoint.reductions import allreduce_same, column_norms, inner

ROUNDING = 1e3 * EPS
"""Rounding of a cotangent, relative to the products with A and B it comes from."""


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
    size, noise = _sizes(pairs, cotangent)
    for members in clusters:
        here, there = Group(pairs, members), Group(turned, members)
        Q = inner(pairs.comm, here.duals, there.vectors)  # U' = U Q
        expected, found = (
            _cotangents(given, pairs.right, list(members), group.lengths, group.sign)
            for group, given in ((here, cotangent), (there, again))
        )
        moved: Block = there.outside(found) - here.outside(expected) @ Q
        defect = float(column_norms(pairs.comm, moved).max())
        if cotangent.span is None:
            before, after = _inside(here, expected, cotangent), _inside(there, found, again)
            lengths = column_norms(pairs.comm, np.hstack([here.vectors, there.vectors]))
            turn = np.abs(after - Q.conj().T @ before @ Q).max() / max(lengths.max(), TINY)
            defect = max(defect, float(turn))
        else:  # the members may differ: it matters as far as they are mixed
            defect *= min(1.0, float(measured_mixing(pairs, members).vectors.max()))
        if defect > max(ADMISSIBLE_ERROR * size, noise):
            raise degenerate_error(pairs, members, defect=defect / max(size, TINY))


def _sizes(pairs: Eigenpairs, cotangent: EigenCotangent) -> tuple[float, float]:
    """Return the largest cotangent of a vector u, and the rounding in it.  (Collective.)"""
    BX = pairs.pencil.multiply_b(pairs.right)
    lengths = np.sqrt(np.maximum(np.abs(column_dots(pairs.comm, pairs.right, BX)), TINY))
    total = _cotangents(cotangent, pairs.right, list(range(pairs.count)), lengths)
    noise = ROUNDING * explicit_size(pairs, cotangent)
    return float(column_norms(pairs.comm, total).max()), noise


def _cotangents(
    cotangent: EigenCotangent, right: Block, columns: list[int], lengths: Block, sign: float = 1.0
) -> Block:
    """Return the cotangents of u = x / length, (n_local, g).  (Not collective.)"""
    total = np.zeros((len(right), len(columns)), dtype=complex)
    if cotangent.right is not None:
        total += np.asarray(cotangent.right)[:, columns] * lengths
    if cotangent.left is not None:  # y = sign u / length
        total += sign * np.asarray(cotangent.left)[:, columns] / lengths
    return total


def _inside(group: Group, U_bar: Block, cotangent: EigenCotangent) -> Block:
    """Return what must turn like a matrix inside the span, (g, g).  (Collective.)"""
    pairs = group.pairs
    G = inner(pairs.comm, group.vectors, U_bar)
    turning = (G - G.conj().T) / 2
    if pairs.pencil.B is None or pairs.normalization.kind != "B":
        return np.asarray(turning)  # nothing meets dB, or not in this way
    stretching = (G + G.conj().T) / 2
    if cotangent.matrices is not None:
        alpha, beta = (inner(pairs.comm, group.duals, part) for part in cotangent.matrices[1:])
        explicit = beta @ alpha.conj().T  # Re tr(explicit U^H dB U)
        stretching = stretching - group.sign * (explicit + explicit.conj().T)
    return np.asarray(turning + stretching)


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
