r"""`hessian_vector_product`: the derivative of the gradient along a direction.

The gradient is a contraction of adjoint vectors a, b with x. Along p_dot

    H p_dot = contract(a_dot, b_dot, x) + contract(a, b, x_dot) + contract_tangent(a, b, x),

and with M = A - lam B the adjoint w = -a follows from the matrix it was solved with:

    M^H w_dot = x_eff_dot - M_dot^H w,    (B x)^H w_dot = -lam_bar_dot - ((B x)_dot)^H w.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint import (
    Contraction,
    check_left,
    conjugate_value,
    in_real_where_real,
)
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.collective import raise_together, users_code
from geneig_adjoint.cotangent_tangents import (
    Direction,
    cotangent_tangent,
    release,
    touched_pairs,
)
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, linear_pairs
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import InputError
from geneig_adjoint.evaluation import Objective, evaluate, objective_name
from geneig_adjoint.gauge import project_cotangent, project_tangent
from geneig_adjoint.gradient_steps import check_explicit, check_point
from geneig_adjoint.models import checked_tangent, has_hermitian_tangent
from geneig_adjoint.moving_rows import with_moving_rows
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pair_systems import Question, Steps, Task, run
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.sensitivity import agreed_settings
from geneig_adjoint.structures import rebuilt
from geneig_adjoint.tangents import tangents


def hessian_vector_product(
    model: Any,
    p: Parameters,
    pairs: Eigenpairs,
    objective: Objective,
    p_dot: Parameters,
    **settings: Any,
) -> Gradient:
    """Return the second derivatives of an objective, applied to a direction.

    Collective. Exact up to the tolerances of the solves: no difference of gradients.
    For every pair the objective looks at, the bordered system is solved for the
    tangent, the adjoint and the tangent of the adjoint.

    Parameters
    ----------
    model
        A model with ``tangent`` (with ``hermitian=True`` unless the pencil is Hermitian
        and definite) and ``contract_tangent``.
    p, p_dot
        Point and direction, in the same structure.
    pairs
        Eigenpairs of ``model.assemble(p)``; those the objective looks at must be simple.
    objective
        The objective. If it has a method ``tangent(pairs, tangent)`` or ``tangent(pairs,
        tangent, p, p_dot)`` that returns the derivative of its cotangent along an
        `EigenTangent`, that is used; else sixth-order differences of the cotangent along
        the exact tangent, for which the model is assembled six times.
    **settings
        As in `gradient`.

    Returns
    -------
    dict
        In the structure of p, as a gradient. Units: objective / parameter^2 x direction.

    Raises
    ------
    InputError
        When model or objective lack what is needed or return what does not fit, or the
        ranks ask for different settings.
    ConvergenceError, DegenerateEigenvalueError, DefectiveEigenvalueError, GaugeError, StaleError
        As in `gradient`. Pairs of a cluster have no second derivatives of their own.

    """
    pairs = linear_pairs(pairs)
    pairs.check_current()
    as_given = p
    model, p, p_dot = entered(pairs.comm, model, p, p_dot)
    check_point(pairs, p)
    chosen = agreed_settings(pairs.comm, **settings)
    _check_model(model, pairs)
    objective, cotangent = _separate(objective, pairs, p)
    columns = touched_pairs(objective, pairs, p, cotangent)
    pairs = with_moving_rows(model, p, pairs, columns)
    job = _Job(model, p, p_dot, pairs, chosen)
    along = job.move(columns)
    second, owned = cotangent_tangent(objective, pairs, along)
    with _petsc.log_stage("adjoint"):
        bars = ((j, _bars(cotangent, j), _bars(second, j)) for j in columns)
        run(pairs, [Task(item[0], item[:1], _pair_steps(job, *item)) for item in bars], chosen)
    _add_matrices(job, cotangent, second)
    check_explicit(second, p)
    total = _contracted(job)
    params.add_scaled(total, 1.0, second.parameters or {})
    if owned:
        release(second)
    result: Gradient = rebuilt(as_given, p, total)
    return result


def _separate(objective: Any, pairs: Eigenpairs, p: Parameters) -> tuple[Objective, EigenCotangent]:
    """Return an objective of single vectors, and its cotangent.  (Collective.)"""
    if not callable(objective):
        raise InputError(
            f"second derivatives need one objective, got {type(objective).__name__}; call it for "
            "each of them"
        )
    objective = separate_form(objective)
    cotangent = evaluate(objective, pairs, p)[1]
    check_explicit(cotangent, p)
    if cotangent.span is not None:
        raise InputError(
            f"second derivatives need the cotangents of single vectors, got span= from "
            f"{objective_name(objective)}; give right= only, for pairs that are simple"
        )
    return objective, cotangent


def separate_form(objective: Any) -> Objective:
    """Return an objective as a sum over simple pairs, if it has such a form.  (Not collective.)"""
    separately = getattr(objective, "separately", None)
    return objective if separately is None else separately()


def _check_model(model: Any, pairs: Eigenpairs) -> None:
    for name in ("tangent", "contract_tangent"):
        if not hasattr(model, name):
            raise InputError(
                f"hessian_vector_product needs a model with {name}, got {type(model).__name__} "
                "without; the README shows the methods of a model"
            )
    if not (pairs.pencil.definite or has_hermitian_tangent(model)):
        raise InputError(
            "hessian_vector_product of a pencil that is not Hermitian and definite needs products "
            f"with dA^H, got {type(model).__name__}.tangent without; let it take hermitian=True"
        )


@dataclass
class _Job:
    """What all pairs share, and the columns collected so far."""

    model: Any
    p: Parameters
    p_dot: Parameters
    pairs: Eigenpairs
    settings: AdjointSettings
    first: Contraction = field(default_factory=Contraction)
    """(a, b, x)."""
    second: Contraction = field(default_factory=Contraction)
    """(a_dot, b_dot, x) and (a, b, x_dot)."""

    def move(self, columns: tuple[int, ...]) -> Direction:
        """Solve for the tangents of some pairs.  (Collective.)"""
        pairs = self.pairs
        self.products = self.moving(pairs.right)
        self.left_products = None
        if pairs.left is not None:
            self.left_products = self.adjoint_products(pairs.left)
        left_products = None if pairs.pencil.definite else self.left_products
        self.tangent = tangents(pairs, self.products, left_products, self.settings, columns=columns)
        return Direction(self.model, self.p, self.p_dot, self.tangent)

    def adjoint_products(self, block: Block) -> tuple[Block, Block]:
        """Return (dA^H @ block, dB^H @ block).  (Collective.)"""
        return self.moving(block, hermitian=not self.pairs.pencil.definite)

    def moving(self, block: Block, *, hermitian: bool = False) -> tuple[Block, Block]:
        """Return the products with dA and dB, or with dA^H and dB^H.  (Collective.)"""
        point = (self.p, self.p_dot)
        return checked_tangent(self.pairs.comm, self.model, point, block, hermitian=hermitian)

    def motion(self, j: int) -> tuple[complex, complex, Block, Block]:
        """Return lam, lam_dot, x_dot and (B x)_dot of a pair.  (Collective.)"""
        x_dot = self.tangent.right[:, j]
        lam, lam_dot = in_real_where_real(
            np.array([self.pairs.values[j], self.tangent.values[j]]), self.pairs
        )
        Bx_dot = self.products[1][:, j] + self.pairs.pencil.multiply_b(x_dot[:, None])[:, 0]
        return lam, lam_dot, x_dot, Bx_dot

    def add(self, here: tuple[Block, Block, Block], dots: tuple[Block, Block, Block]) -> None:
        """Collect columns (a, b, right) and their derivatives."""
        self.first.add(*here)
        self.second.add(dots[0], dots[1], here[2])
        self.second.add(here[0], here[1], dots[2])


@dataclass(frozen=True)
class _Bars:
    """The cotangents of one pair; None: zero."""

    lam: complex
    x: Block | None
    y: Block | None


def _bars(cotangent: EigenCotangent, j: int) -> _Bars:
    right, left = cotangent.right, cotangent.left
    return _Bars(
        0.0 if cotangent.values is None else complex(cotangent.values[j]),
        None if right is None else np.asarray(right)[:, j],
        None if left is None else np.asarray(left)[:, j],
    )


def _pair_steps(job: _Job, j: int, bars: _Bars, dots: _Bars) -> Steps:
    pairs = job.pairs
    x = pairs.right[:, j]
    lam, lam_dot, x_dot, Bx_dot = job.motion(j)
    x_bar, x_bar_dot = (_filled(part, x) for part in (bars.x, dots.x))
    rho, rho_dot = (in_real_where_real(np.array([-item.lam]), pairs) for item in (bars, dots))
    y_bar, y_bar_dot = (_filled(part, x) for part in (bars.y, dots.y))
    if column_norms(pairs.comm, np.column_stack([y_bar, y_bar_dot])).any():
        changes = yield from _add_left(job, j, (y_bar, y_bar_dot))
        x_bar, x_bar_dot = x_bar + changes[0], x_bar_dot + changes[1]
    here = project_cotangent(pairs, j, x_bar)
    dot = project_tangent(pairs, j, (x_bar, x_bar_dot), (x_dot, job.products[1][:, j]))
    w = yield from _adjoint(job, j, (here.x_eff, rho))
    dAh_w, dBh_w = job.adjoint_products(w)
    shift, rate = conjugate_value(lam, w), conjugate_value(lam_dot, w)
    Bh_w = pairs.pencil.multiply_b(w, hermitian=True)
    rhs = dot.x_eff[:, None] - (dAh_w - shift * dBh_w - rate * Bh_w)
    rho_dot = rho_dot - column_dots(pairs.comm, Bx_dot[:, None], w)
    w_dot = (yield Question(rhs, rho_dot, hermitian=True)).v[:, 0]
    w = w[:, 0]
    b = shift * w + here.left_b
    b_dot = rate * w + shift * w_dot + dot.left_b
    job.add((-w, b, x), (-w_dot, b_dot, x_dot))


def _adjoint(job: _Job, j: int, rhs: tuple[Block, Block]) -> Steps:
    """Return w, (n_local, 1); for a function of the eigenvalue it is the left vector."""
    x_eff, rho = rhs
    left = job.pairs.left
    if left is not None and not column_norms(job.pairs.comm, x_eff[:, None]).any():
        return np.asarray(rho * left[:, [j]])
    return (yield Question(x_eff[:, None], rho, hermitian=True)).v


def _filled(part: Block | None, like: Block) -> Block:
    return np.zeros_like(like) if part is None else part


def _add_left(job: _Job, j: int, bars: tuple[Block, Block]) -> Steps:
    """Add what moves y (see `adjoint`), and return what x_bar gains, with its derivative."""
    pairs, (y_bar, y_bar_dot) = job.pairs, bars
    check_left(pairs)
    assert pairs.left is not None
    assert job.tangent.left is not None
    assert job.left_products is not None
    y, x, y_dot = pairs.left[:, j], pairs.right[:, j], job.tangent.left[:, j]
    lam, lam_dot, x_dot, Bx_dot = job.motion(j)
    products = pairs.pencil.multiply_b(np.column_stack([y, y_dot]), hermitian=True)
    Bh_y, Bh_y_dot = products[:, 0], products[:, 1] + job.left_products[1][:, j]
    nu, nu_1, nu_2 = column_dots(
        pairs.comm, np.column_stack([y, y_dot, y]), np.column_stack([y_bar, y_bar, y_bar_dot])
    )
    nu_dot = nu_1 + nu_2

    def solved(rhs: Block, component: complex) -> Steps:
        """Return v with (A - lam B) v = rhs and y^H B v = component."""
        v = (yield Question(rhs[:, None], np.zeros(1), hermitian=False)).v
        rest = component - column_dots(pairs.comm, Bh_y[:, None], v)[0]
        return np.asarray(v[:, 0] + rest * x)

    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    v = yield from solved(y_bar - nu * Bx, 0.0)
    dA_v, dB_v = (item[:, 0] for item in job.moving(v[:, None]))
    moving = dA_v - lam * dB_v - lam_dot * pairs.pencil.multiply_b(v[:, None])[:, 0]
    component = -column_dots(pairs.comm, Bh_y_dot[:, None], v[:, None])[0]
    v_dot = yield from solved(y_bar_dot - nu_dot * Bx - nu * Bx_dot - moving, component)
    shift, rate = conjugate_value(lam, y), conjugate_value(lam_dot, y)
    job.add((-y, shift * y, v), (-y_dot, rate * y + shift * y_dot, v_dot))
    zero = np.zeros_like(y)
    job.add((zero, -np.conj(nu) * y, x), (zero, -np.conj(nu_dot) * y - np.conj(nu) * y_dot, x_dot))
    return -np.conj(nu) * Bh_y, -np.conj(nu_dot) * Bh_y - np.conj(nu) * Bh_y_dot


def _add_matrices(job: _Job, cotangent: EigenCotangent, second: EigenCotangent) -> None:
    if cotangent.matrices is not None:
        zero = np.zeros_like(cotangent.matrices[2])
        job.add(cotangent.matrices, second.matrices or (zero, zero, zero))


def _contracted(job: _Job) -> Gradient:
    """Return contract(second) + contract_tangent(first).  (Collective.)"""
    comm, n_local = job.pairs.comm, job.pairs.pencil.n_local
    with users_code(comm):
        total = job.model.contract(job.p, *job.second.blocks(n_local))
    raise_together(comm, params.structure_error("contract", job.p, total))
    total = {name: total[name] for name in job.p}
    with users_code(comm):
        curved = job.model.contract_tangent(job.p, job.p_dot, *job.first.blocks(n_local))
    raise_together(comm, params.structure_error("contract_tangent", job.p, curved))
    params.add_scaled(total, 1.0, curved)
    params.release(curved)
    return total
