"""`Differenced`: derivatives of any kernel by differences of its matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geneig_adjoint._types import Block
from geneig_adjoint.differentiation import difference
from geneig_adjoint.directions import first_steps, moved, partials
from geneig_adjoint.kernels import Kernel


@dataclass(frozen=True)
class Differenced:
    """The matrices of a kernel, with derivatives by differences of eighth order.

    For routines whose derivatives nobody has written. Where the matrices are smooth functions,
    relative errors are near 1e-12, measured with the sizes of matrix / value; each derivative
    costs eight evaluations of the matrices or more. Every element has its own step, which
    shrinks until sixth and eighth order agree; values move by 2 % at most, or by 0.02 where they
    are below 1e-6. There are no second derivatives.

    Parameters
    ----------
    kernel
        Anything with ``matrices``.

    """

    kernel: Kernel

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return the kernel's."""
        return self.kernel.matrices(values, rows)

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return differences along dots, with steps relative to the values that move most.

        Elements whose dots are 0 get exact zeros.

        Raises
        ------
        InputError
            When the matrices around the values of an element are not finite, or jump.

        """
        if not values:
            return 0 * self.kernel.matrices(values, rows)

        def at(steps: Block) -> Block:
            return self.kernel.matrices(moved(values, dots, steps), rows)

        return difference(at, first_steps(values, dots), rows.start)

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Contract the differences with respect to each value in turn."""

        def slope(unit: Mapping[str, Block], _: Block) -> Block:
            return self.derivative(values, unit, rows)

        return partials(values, slope, left, right)
