"""Products of tall blocks with small matrices, without copies and temporary blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas

from geneig_adjoint._types import Block
from geneig_adjoint.reductions import reduced

if TYPE_CHECKING:
    from mpi4py import MPI


def product(block: Block, small: Block) -> Block:
    """Return block @ small in Fortran order.  (Not collective.)"""
    kind = np.result_type(block, small)
    result = np.zeros((block.shape[0], small.shape[1]), dtype=kind, order="F")
    return add_product(result, block, small)


def add_product(target: Block, block: Block, small: Block, factor: float = 1.0) -> Block:
    """Return target + factor * block @ small, in the target's memory where it fits.

    Not collective. It fits in Fortran order and with the data type of the block.
    """
    if np.iscomplexobj(small) and not np.iscomplexobj(block):
        change = product(block, small.real) + 1j * product(block, small.imag)
        return np.asarray(target + factor * change)
    fits = target.flags.f_contiguous and block.flags.f_contiguous and target.dtype == block.dtype
    if not fits or 0 in (*block.shape, *small.shape):
        return np.asarray(target + factor * (block @ small))
    gemm = blas.zgemm if np.iscomplexobj(target) else blas.dgemm
    return np.asarray(gemm(factor, block, small, beta=1.0, c=target, overwrite_c=1))


def sums(comm: MPI.Comm, *pairs: tuple[Block, Block]) -> list[Block]:
    """Return u^H v of several pairs of blocks by one reduction, the same on every rank.

    Collective.
    """
    return reduced(comm, [_local(u, v) for u, v in pairs])


def _local(u: Block, v: Block) -> Block:
    if np.iscomplexobj(v) and not np.iscomplexobj(u):
        return np.asarray(_local(u, v.real) + 1j * _local(u, v.imag))
    fits = u.flags.f_contiguous and v.flags.f_contiguous and u.dtype == v.dtype
    if not fits or 0 in (*u.shape, *v.shape):
        return np.asarray(u.conj().T @ v)
    gemm = blas.zgemm if np.iscomplexobj(u) else blas.dgemm
    return np.asarray(gemm(1.0, u, v, trans_a=2))
