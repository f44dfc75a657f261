"""What models and objectives of the user's own return as tangents is checked before it is used."""

import numpy as np
import pytest
from builders import chain, chain_parameters

import geneig_adjoint as ga

N = 7
P = chain_parameters(N)
P_DOT = {name: np.cos(np.arange(value.size)) for name, value in P.items()}


class Changed:
    """A model that returns something else from one of its methods."""

    def __init__(self, model, name, change):
        self._model, self._name, self._change = model, name, change

    def __getattr__(self, name):
        method = getattr(self._model, name)
        changes = {self._name: lambda *arguments: self._change(method(*arguments))}
        return changes.get(name, method)

    has_hermitian_tangent = False


def hessian(model, pairs, objective=None):
    objective = objective or ga.objectives.Eigenvalue(0)
    return ga.hessian_vector_product(model, P, pairs, objective, P_DOT)


USES = {
    "jvp": lambda model, pairs: ga.jvp(model, P, pairs, P_DOT),
    "hessian": hessian,
    "directional": lambda model, pairs: ga.directional_derivatives(model, P, pairs, 0, P_DOT),
}


@pytest.fixture(scope="module")
def solved(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        yield model, pairs


COUNTS = {
    "name": (lambda g: {"rho": g["k"], "m": g["m"]}, r"'rho': 8"),
    "missing": (lambda g: {"k": g["k"]}, r"got \{'k': 8\}"),
    "one": (lambda g: {**g, "m": g["m"][:1]}, r"'m': 1"),
    "short": (lambda g: {**g, "m": g["m"][:3]}, r"'m': 3"),
    "table": (lambda g: {**g, "m": g["m"][:, None]}, r"'m': None"),
    "nothing": (lambda g: None, r"got NoneType; return a dict"),
}


@pytest.mark.parametrize("method", ["contract", "contract_tangent"])
@pytest.mark.parametrize("case", COUNTS)
def test_contractions_have_the_structure_of_the_parameters(solved, method, case):
    change, match = COUNTS[case]
    model, pairs = solved
    with pytest.raises(ga.InputError, match=rf"^{method} must return the structure of p.*{match}"):
        hessian(Changed(model, method, change), pairs)


BLOCKS = {
    "one block": (lambda out: out[0], r"got ndarray; return this rank's rows"),
    "three blocks": (lambda out: (*out, out[0]), r"got \[\(7, 1\), \(7, 1\), \(7, 1\)\]"),
    "rows": (lambda out: (out[0][:3], out[1]), r"got \[\(3, 1\), \(7, 1\)\]"),
    "vector": (lambda out: (out[0], out[1][:, 0]), r"got \[\(7, 1\), \(7,\)\]"),
    "none": (lambda out: (out[0], None), r"got \[\(7, 1\), \(\)\]"),
    "nothing": (lambda out: None, r"got NoneType"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("case", BLOCKS)
def test_tangents_of_models_are_two_blocks(solved, use, case):
    change, match = BLOCKS[case]
    model, pairs = solved
    match = rf"tangent of Changed must return .* shape \(7, 1\), {match}"
    with pytest.raises(ga.InputError, match=match):
        USES[use](Changed(model, "tangent", change), pairs)


# -- objectives --


class Square:
    """lam_0^2 times a scale, with a tangent of some signature."""

    def __call__(self, pairs, scale=2.0, unused=None):
        lam = pairs.values[0].real
        return scale * lam**2, ga.EigenCotangent(values=self.bar(pairs, 2 * scale * lam))

    def bar(self, pairs, number):
        values = np.zeros(pairs.count)
        values[0] = number
        return values

    def moved(self, pairs, tangent, scale):
        number = 2 * scale * tangent.values[0].real
        return ga.EigenCotangent(values=self.bar(pairs, number))


class Plain(Square):
    def tangent(self, pairs, tangent):
        return self.moved(pairs, tangent, 2.0)


class OneDefault(Square):
    def tangent(self, pairs, tangent, scale=2.0):
        return self.moved(pairs, tangent, scale)


class TwoDefaults(Square):
    def tangent(self, pairs, tangent, scale=2.0, verbose=False):
        assert verbose is False
        return self.moved(pairs, tangent, scale)


class KeywordOnly(Square):
    def tangent(self, pairs, tangent, *, scale=2.0, verbose=False):
        return self.moved(pairs, tangent, scale)


class AnyNumber(Square):
    def tangent(self, *arguments):
        pairs, tangent = arguments
        return self.moved(pairs, tangent, 2.0)


class AtPoint(Square):
    def tangent(self, pairs, tangent, here, along, scale=2.0):
        assert (here["k"] == P["k"]).all()
        assert (along["k"] == P_DOT["k"]).all()
        return self.moved(pairs, tangent, scale)


class AtOptionalPoint(Square):
    def tangent(self, pairs, tangent, p=None, p_dot=None):
        assert (p["k"] == P["k"]).all()
        assert (p_dot["k"] == P_DOT["k"]).all()
        return self.moved(pairs, tangent, 2.0)


SIGNATURES = [Plain, OneDefault, TwoDefaults, KeywordOnly, AnyNumber, AtPoint, AtOptionalPoint]


@pytest.mark.parametrize("kind", SIGNATURES)
def test_signatures_of_tangents(solved, kind):
    model, pairs = solved
    found, expected = hessian(model, pairs, kind()), hessian(model, pairs, Square())
    for name in P:
        # Without a method of its own: sixth-order differences of the cotangent
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)


class Three(Square):
    def tangent(self, pairs, tangent, p):
        raise AssertionError("not reached")


class Five(Square):
    def tangent(self, pairs, tangent, p, p_dot, more):
        raise AssertionError("not reached")


@pytest.mark.parametrize(("kind", "count"), [(Three, 3), (Five, 5)])
def test_signatures_that_fit_nothing_are_refused(solved, kind, count):
    model, pairs = solved
    match = rf"{kind.__name__}.tangent must take \(pairs, tangent\) or .* got .* {count} arguments"
    with pytest.raises(ga.InputError, match=match):
        hessian(model, pairs, kind())


@pytest.mark.parametrize("parameters", [{"k": np.ones(1)}, {"q": np.ones(8)}])
def test_explicit_parts_of_tangents_must_fit(solved, parameters):
    class Explicit(Square):
        def tangent(self, pairs, tangent):
            return ga.EigenCotangent(parameters=parameters)

    model, pairs = solved
    with pytest.raises(ga.InputError, match=r"explicit derivative for '[kq]'"):
        hessian(model, pairs, Explicit())


def test_lists_of_objectives_have_no_product(solved):
    model, pairs = solved
    with pytest.raises(ga.InputError, match="need one objective, got list; call it for each"):
        hessian(model, pairs, [Square()])
