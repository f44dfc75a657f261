"""What users see of eigenpairs, and what their requests and cotangents mean for the pencil.

Of a plain pencil users see the pairs as they are. The pencil that a nonlinear problem was
linearised to has longer vectors; its view (`QuadraticView`) shows those of the problem itself.
"""

from __future__ import annotations

from typing import Any

from geneig_adjoint._types import Block


class PlainView:
    """The pairs, tangents and cotangents of the pencil itself.  (Collective.)"""

    def rows(self, pencil: Any) -> tuple[int, int]:
        """Return the first row of this rank's part of the pairs and one past its last."""
        rows: tuple[int, int] = pencil.rows
        return rows

    def measured(self, block: Block) -> Block:
        """Return vectors in which only the rows count that fix length and phase."""
        return block

    def measures(self, found: Any, left: Block, plain: tuple[Block, Block]) -> tuple[Block, Block]:
        """Return conditions and errors of eigenvalues, (k,) each, from those of the pencil."""
        del found, left
        return plain

    def scale(self, requested: Any) -> Any:
        """Return what a requested normalization means for vectors of the pencil."""
        return requested

    def pairs(self, pairs: Any) -> Any:
        """Return the pairs as objectives see them."""
        return pairs

    def tangent(self, tangent: Any) -> Any:
        """Return the tangent of pairs as objectives see it."""
        return tangent

    def cotangent(self, cotangent: Any) -> Any:
        """Return the cotangent of an objective as one of vectors of the pencil."""
        return cotangent
