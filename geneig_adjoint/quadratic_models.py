"""Quadratic models made of element matrices, and of given matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import check_equal_input, raise_together
from geneig_adjoint.element_blocks import ElementBlock
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.errors import InputError
from geneig_adjoint.models import MatrixModel
from geneig_adjoint.quadratic import QuadraticModel
from geneig_adjoint.quadratic_parts import ROLES

if TYPE_CHECKING:
    from mpi4py import MPI

MatrixTriple = tuple[PETSc.Mat | None, PETSc.Mat | None, PETSc.Mat | None]


class QuadraticElementModel(QuadraticModel):
    """(lam^2 M + lam C + K) x = 0 with K, C and M summed from element matrices.

    Collective. Each rank brings the elements it owns, in any distribution.

    Parameters
    ----------
    n
        Global number of (free) dofs.
    blocks
        As of `ElementModel`, with matrix="K", "C" or "M". Dampers may touch some dofs only,
        massless dofs are allowed.
    comm
        Communicator; default ``MPI.COMM_WORLD``.
    n_local
        Rows this rank owns; None: PETSc's default.
    form
        "companion" or "symmetric", see `QuadraticPencil`.

    Raises
    ------
    InputError
        As `ElementModel`; another matrix than K, C and M, no K or no M.

    """

    def __init__(
        self,
        n: int,
        blocks: Sequence[ElementBlock],
        *,
        comm: MPI.Comm | None = None,
        n_local: int | None = None,
        form: str = "companion",
    ) -> None:
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        blocks = list(blocks)
        raise_together(comm, _names_error(blocks))
        check_equal_input(comm, "the matrices of element blocks", [b.matrix for b in blocks])
        parts: dict[str, _OneMatrix | None] = dict.fromkeys(ROLES)
        for name in ROLES:
            mine = [replace(block, matrix="A") for block in blocks if block.matrix == name]
            if mine:
                parts[name] = _one_matrix(name, n, mine, comm, n_local)
        present = [part for part in parts.values() if part is not None]
        self.n, self.rows = n, present[0].rows
        raise_together(comm, _orphan_error(self.rows, present))
        super().__init__(*parts.values(), form=form, comm=comm)


class QuadraticMatrixModel(QuadraticModel):
    """K(p) = K + sum_i p_i dK_i, C and M likewise, from matrices of the user.

    Collective. The matrices stay the user's and must not change while the model lives.

    Parameters
    ----------
    K, C, M
        Matrices at p = 0; C may be None.
    derivatives
        Name -> one triple (dK_i, dC_i, dM_i) per entry of the parameter; None: zero.
    form
        "companion" or "symmetric", see `QuadraticPencil`.

    Raises
    ------
    InputError
        Derivatives in another layout, or of a C that does not exist.

    """

    def __init__(
        self,
        K: PETSc.Mat,
        C: PETSc.Mat | None,
        M: PETSc.Mat,
        derivatives: Mapping[str, Sequence[MatrixTriple]],
        *,
        form: str = "companion",
    ) -> None:
        comm = K.comm.tompi4py()
        raise_together(comm, _triples_error(C, derivatives))
        parts = [
            None
            if mat is None
            else MatrixModel(
                mat,
                None,
                {
                    name: [(triple[k], None) for triple in given]
                    for name, given in derivatives.items()
                },
            )
            for k, mat in enumerate((K, C, M))
        ]
        super().__init__(*parts, form=form, comm=comm)


class _OneMatrix(ElementModel):
    """The elements of one of K, C and M: they may leave rows to those of the others."""

    def _orphan_error(self) -> InputError | None:
        return None

    @property
    def touched(self) -> Block:
        """Rows of this rank that an element touches."""
        return self._sums.touched_rows


def _one_matrix(
    name: str, n: int, blocks: Sequence[ElementBlock], comm: MPI.Comm, n_local: int | None
) -> _OneMatrix:
    try:
        return _OneMatrix(n, blocks, comm=comm, n_local=n_local)
    except InputError as error:
        error.add_note(f'counted among the element blocks with matrix="{name}"')
        raise


def _names_error(blocks: Sequence[ElementBlock]) -> InputError | None:
    for index, block in enumerate(blocks):
        if block.matrix not in ROLES:
            return InputError(
                f'element block {index}: matrix must be "K", "C" or "M", got {block.matrix!r}; '
                "correct it"
            )
    for name in ("K", "M"):
        if not any(block.matrix == name for block in blocks):
            return InputError(
                f'the blocks must fill {name}, got none with matrix="{name}"; name the matrix of '
                "each ElementBlock"
            )
    return None


def _orphan_error(rows: tuple[int, int], parts: Sequence[_OneMatrix]) -> InputError | None:
    touched = np.unique(np.concatenate([part.touched for part in parts]))
    missing = np.setdiff1d(np.arange(*rows), touched)
    if missing.size == 0:
        return None
    return InputError(
        f"every dof must belong to an element of K, C or M, got dof {missing[0]} and "
        f"{missing.size - 1} more of this rank's that no element touches; renumber the free dofs "
        "without gaps"
    )


def _triples_error(
    C: PETSc.Mat | None, derivatives: Mapping[str, Sequence[MatrixTriple]]
) -> InputError | None:
    for name, given in derivatives.items():
        for i, triple in enumerate(given):
            if len(triple) != 3:
                return InputError(
                    f"derivatives of {name!r} must be triples (dK_i, dC_i, dM_i), got "
                    f"{len(triple)} items for entry {i}; write None for a zero matrix"
                )
            if C is None and triple[1] is not None:
                return InputError(
                    f"dC_{i} of {name!r} needs a matrix C, got C=None; pass a C of zeros"
                )
    return None
