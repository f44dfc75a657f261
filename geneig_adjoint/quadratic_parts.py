"""What K, C and M of a quadratic model may be, each seen as a model of one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together, users_code
from geneig_adjoint.entrance import called
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.pencil import Pencil

ROLES = {"K": "stiffness", "C": "damping", "M": "mass"}


class Constant:
    """A matrix of the user that no parameter moves."""

    has_hermitian_tangent = True

    def __init__(self, mat: PETSc.Mat) -> None:
        self.mat = mat
        self.parameter_sizes: dict[str, int] = {}

    def assemble(self, p: Parameters) -> Pencil:
        """Return the matrix of the user.  (Collective.)"""
        del p
        return Pencil(self.mat)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return nothing: there are no parameters.  (Not collective.)"""
        del p, left_a, left_b, right
        return {}

    def contract_tangent(self, p: Parameters, p_dot: Parameters, *blocks: Block) -> Gradient:
        """Return nothing: there are no parameters.  (Not collective.)"""
        del p, p_dot, blocks
        return {}

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return zeros.  (Not collective.)"""
        del p, p_dot, hermitian
        return np.zeros_like(right), np.zeros_like(right)


class NamedPart:
    """One of the matrices of a user's object, as a model."""

    def __init__(self, problem: Any, name: str) -> None:
        self.problem, self.name = problem, name
        self.has_tangent = self.has_hermitian_tangent = hasattr(problem, "tangent")
        if hasattr(problem, "contract_tangent"):
            self.contract_tangent = self._contract_tangent

    def assemble(self, p: Parameters) -> Pencil:
        """Return the matrix of this name, owned.  (Collective.)

        Raises
        ------
        InputError
            Something that is no matrix.
        Exception
            What the object raises, on all ranks, as in the methods below.

        """
        mat = self._asked("matrix", p)
        error = None
        if not isinstance(mat, PETSc.Mat):
            error = InputError(
                f"matrix({self.name!r}, p) must return a PETSc.Mat, got {type(mat).__name__}; "
                "return the assembled matrix"
            )
        raise_together(self.problem.comm, error)
        return Pencil(mat, owned=True)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Any:
        """Return what the object says about the matrix of this name.  (Collective.)"""
        del left_b
        return self._asked("contract", p, left_a, right)

    def _contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Any:
        del left_b
        return self._asked("contract_tangent", p, p_dot, left_a, right)

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return dK @ right, and zeros for the B that there is not.  (Collective.)"""
        return self._asked("tangent", p, p_dot, right, hermitian), np.zeros_like(right)

    def _asked(self, method: str, *arguments: Any) -> Any:
        """Call the object; what it raises on one rank is raised on all.  (Collective.)"""
        with users_code(self.problem.comm):
            function = partial(getattr(self.problem, method), self.name)
            what = method if method.startswith("contract") else ""
            return called(function, *arguments, what=what)


def parameters_of(part: Any, p: Parameters) -> Parameters:
    """Return the parameters that a model has."""
    sizes = getattr(part, "parameter_sizes", None)
    return p if sizes is None else {name: p[name] for name in p if name in sizes}


def parts_error(given: Mapping[str, Any]) -> InputError | None:
    """Return what is wrong with the three parts of a user.  (Not collective.)"""
    for name, part in given.items():
        usable = isinstance(part, PETSc.Mat) or (
            hasattr(part, "assemble") and hasattr(part, "contract")
        )
        if not usable and not (part is None and name == "C"):
            return InputError(
                f"the {ROLES[name]} must be a model of one matrix (with assemble and contract) or "
                f"a PETSc.Mat, got {type(part).__name__}; only the damping may be None"
            )
    return None
