"""Forms and their derivatives: what is done to UFL expressions, no mesh and no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ufl
from ufl.algorithms import (
    compute_form_data,
    expand_derivatives,
    extract_coefficients,
)
from ufl.algorithms.apply_algebra_lowering import apply_algebra_lowering
from ufl.algorithms.map_integrands import map_integrands
from ufl.classes import Abs, Condition, Conj, Imag, Label, MultiIndex, Operator, Real, Restricted

from geneig_adjoint import _petsc
from geneig_adjoint.errors import InputError

DEGREE = "quadrature_degree"


def prepared(form: ufl.Form, copies: Mapping[Any, Any], real: Iterable[Any]) -> ufl.Form:
    """Return a form with its parameters replaced and its quadrature fixed.

    Parameters
    ----------
    form
        A bilinear form of the user.
    copies
        What to replace -> by what.
    real
        Coefficients known to be real.

    """
    form = ufl.replace(with_sides(with_degrees(form), set(copies)), dict(copies))
    return form if _petsc.REAL_SCALARS else without_conjugates(form, set(real))


def with_sides(form: ufl.Form, replaced: set[Any]) -> ufl.Form:
    """Return a form in which Constants that are replaced have a side where UFL wants one.

    In integrals over interior facets a Constant needs none, but the function in its place does.
    """
    known: dict[Any, Any] = {}

    def sided(expression: Any) -> Any:
        if expression not in known:
            if isinstance(expression, Restricted):
                known[expression] = expression
            elif isinstance(expression, ufl.Constant) and expression in replaced:
                known[expression] = expression("+")
            else:
                operands = expression.ufl_operands
                new = tuple(map(sided, operands))
                same = all(one is other for one, other in zip(operands, new, strict=True))
                known[expression] = expression if same else expression._ufl_expr_reconstruct_(*new)
        return known[expression]

    return ufl.Form(
        [
            integral.reconstruct(integrand=sided(integral.integrand()))
            if integral.integral_type() == "interior_facet"
            else integral
            for integral in form.integrals()
        ]
    )


def with_degrees(form: ufl.Form) -> ufl.Form:
    """Return a form whose integrals say the quadrature degree they would be given anyway.

    The degree that is estimated for a derivative is another one where the form is no
    polynomial of its coefficients. Derivatives of a matrix need the points of the matrix.
    """
    groups: dict[Any, list[Any]] = {}
    for integral in form.integrals():
        key = (
            integral.integral_type(),
            str(integral.subdomain_id()),
            repr(sorted(integral.metadata().items())),
        )
        groups.setdefault(key, []).append(integral)
    fixed = []
    for integrals in groups.values():
        degree = _estimated_degree(ufl.Form(integrals))
        for integral in integrals:
            metadata = {DEGREE: degree, **integral.metadata()}
            fixed.append(integral.reconstruct(metadata=metadata))
    return ufl.Form(fixed)


def _estimated_degree(form: ufl.Form) -> int:
    data = compute_form_data(
        form,
        do_apply_function_pullbacks=True,
        do_apply_integral_scaling=True,
        do_apply_geometry_lowering=True,
        do_append_everywhere_integrals=False,
        complex_mode=not _petsc.REAL_SCALARS,
    )
    key = "estimated_polynomial_degree"
    found = [
        integral.metadata().get(key, 0)
        for group in data.integral_data
        for integral in group.integrals
    ]
    return max(found, default=0)


def without_conjugates(form: ufl.Form, real: set[Any]) -> ufl.Form:
    """Return a form in which no real coefficient is conjugated or cut to its real part.

    ``inner(rho * grad(u), rho * grad(v))`` conjugates the second rho. Its derivative would
    contain the direction both conjugated and not, which is no form to UFL.
    """
    known: dict[Any, Any] = {}

    def cleaned(expression: Any) -> Any:
        if expression not in known:
            operands = expression.ufl_operands
            new = tuple(cleaned(operand) for operand in operands)
            same = all(one is other for one, other in zip(operands, new, strict=True))
            if isinstance(expression, Condition):
                known[expression] = expression  # here UFL wants to read that numbers are real
            elif isinstance(expression, Conj):
                known[expression] = conjugated(new[0])
            elif isinstance(expression, Real) and new[0] in real:
                known[expression] = new[0]
            else:
                known[expression] = expression if same else expression._ufl_expr_reconstruct_(*new)
        return known[expression]

    def conjugated(expression: Any) -> Any:
        unchanged = (MultiIndex, Label, Condition, Real, Imag, Abs)
        if expression in real or isinstance(expression, unchanged):
            return expression
        if isinstance(expression, Conj):
            return expression.ufl_operands[0]
        if not isinstance(expression, Operator) or not real & set(extract_coefficients(expression)):
            return ufl.conj(expression)
        # Sums, products, derivatives, functions: the conjugate of each is that of its operands.
        return expression._ufl_expr_reconstruct_(*map(conjugated, expression.ufl_operands))

    return map_integrands(cleaned, apply_algebra_lowering(form))


def scalar(terms: Iterable[tuple[ufl.Form | None, Any]], x: Any) -> ufl.Form:
    """Return sum_k form_k(x, y_k): bilinear forms with functions for their arguments.

    The test function, which the complex build conjugates, becomes y.
    """
    parts = []
    for form, y in terms:
        if form is not None:
            test, trial = form.arguments()
            parts.append(ufl.replace(form, {trial: x, test: y}))
    return _sum(parts)


def gradient(form: ufl.Form | None, coefficient: Any) -> ufl.Form | None:
    """Return the derivative with respect to a coefficient as a linear form; None: zero."""
    direction = ufl.TestFunction(coefficient.function_space)
    form = _nonzero([ufl.derivative(form, coefficient, direction)])
    if form is None or _petsc.REAL_SCALARS:
        return form
    # Of a form in UFL's complex mode the test function must be conjugated; basis functions are
    # real. Afterwards, because UFL knows no gradient of a conjugated vector as a direction.
    return ufl.replace(form, {direction: ufl.conj(direction)})


def directional(form: ufl.Form | None, pairs: Sequence[tuple[Any, Any]]) -> ufl.Form | None:
    """Return the derivative along directions, for pairs (coefficient, direction); None: zero."""
    if form is None:
        return None
    there = set(form.coefficients())
    return _nonzero([ufl.derivative(form, old, dot) for old, dot in pairs if old in there])


def _nonzero(forms: Sequence[ufl.Form]) -> ufl.Form | None:
    expanded = [expand_derivatives(form) for form in forms]
    kept = [form for form in expanded if form.integrals()]
    return _sum(kept) if kept else None


def _sum(forms: Sequence[ufl.Form]) -> ufl.Form:
    return ufl.Form([integral for form in forms for integral in form.integrals()])


def argument_error(name: str, form: Any, space: Any = None) -> InputError | None:
    """Return an error unless something is a bilinear form on one space.  (Not collective.)"""
    if not isinstance(form, ufl.Form):
        return InputError(
            f"{name} must be a bilinear UFL form, got {type(form).__name__}; pass the form itself, "
            "not what dolfinx.fem.form makes of it"
        )
    arguments = form.arguments()
    spaces = [argument.ufl_function_space() for argument in arguments]
    parts = [argument.part() for argument in arguments if argument.part() is not None]
    if len(arguments) != 2 or spaces[0] != spaces[1] or parts or (space and spaces[0] != space):
        return InputError(
            f"{name} must have one trial and one test function of the same space"
            f"{' as a' if space else ''}, got {len(arguments)} argument(s) of "
            f"{len(set(map(str, spaces)))} space(s); for systems use one mixed element"
        )
    return None


def depends(forms: Iterable[ufl.Form | None], terminal: Any) -> bool:
    """Tell whether some form contains a Function or Constant.  (Not collective.)"""
    return any(
        form is not None and terminal in (*form.coefficients(), *form.constants()) for form in forms
    )


def tensor(entries: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return scalars, the last index fastest, as one expression of a shape."""
    if len(shape) == 1:
        return ufl.as_tensor(list(entries))
    step = len(entries) // shape[0]
    rows = [tensor(entries[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
    return ufl.as_tensor(rows)
