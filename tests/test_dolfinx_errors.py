"""What `FormModel` refuses, and what a machine without dolfinx is told."""

import subprocess
import sys
import time

import numpy as np
import pytest
import ufl
from builders import REAL
from dolfinx import fem, jit
from forms_of_tests import clamped, everywhere, rectangle, scalar, space

import geneig_adjoint as ga
from geneig_adjoint.adapters.dolfinx import FormModel


class Parts:
    """What forms are made of."""

    def __init__(self, comm):
        self.domain = rectangle(comm, (2, 2))
        self.V = space(self.domain)
        self.u, self.v = ufl.TrialFunction(self.V), ufl.TestFunction(self.V)
        self.c = fem.Constant(self.domain, scalar(2.0))
        self.f = fem.Function(self.V)
        self.b = ufl.inner(self.u, self.v) * ufl.dx
        self.a = self.c * self.b

    def model(self, **changes):
        chosen = {"a": self.a, "b": self.b, "parameters": {"c": self.c}} | changes
        return FormModel(chosen.pop("a"), chosen.pop("b"), **chosen)


@pytest.fixture
def parts(comm):
    return Parts(comm)


def complex_parameter(parts):
    parts.c.value = 1 + 2j
    return parts.model()


def other_argument(parts):
    w = ufl.TestFunction(space(parts.domain, degree=2))
    return parts.model(b=ufl.inner(parts.u, w) * ufl.dx)


BY_BUILD = {
    True: {"vector": (lambda q: q.model().eigenfunction(1j * np.ones(9)), r"complex build")},
    False: {"complex": (complex_parameter, r"'c' must be real, .* of two parameters")},
}
REFUSED = {
    "compiled": (lambda q: q.model(a=fem.form(q.a)), r"a must be a bilinear UFL form, got Form"),
    "linear": (lambda q: q.model(a=q.c * ufl.conj(q.v) * ufl.dx), r"a must .* got 1 argument"),
    "spaces": (other_argument, r"b must have one trial .* of the same space as a, got 2"),
    "number": (
        lambda q: q.model(parameters={"c": 2.0}),
        r"'c' must be a dolfinx Function or Constant, got float",
    ),
    "absent": (lambda q: q.model(parameters={"f": q.f}), r"parameter 'f' must be in a form"),
    "values": (
        lambda q: q.model(bcs=[clamped(q.V, everywhere, 0.5)]),
        r"boundary values must be zero, got .*0\.5",
    ),
    "field": (
        lambda q: q.model().field("c", {"c": np.ones(1)}),
        r"'c' must be a Function to be a field, got a Constant",
    ),
    "length": (
        lambda q: q.model().assemble({"c": np.ones(2)}),
        r"parameter 'c' must have 1 entries",
    ),
    "twice": (
        lambda q: q.model(parameters={"c": q.c, "other": q.c}),
        r"got the same Constant as 'c' and 'other'; give it one name",
    ),
    "names": (lambda q: q.model(parameters=[q.c]), r"must map names to Functions .*, got list"),
    "one condition": (
        lambda q: q.model(bcs=clamped(q.V, everywhere)),
        r"bcs must be a list of Dirichlet conditions, got \w*DirichletBC",
    ),
    "foreign condition": (
        lambda q: q.model(bcs=[clamped(space(q.domain, degree=2), everywhere)]),
        r"bcs\[0\] must be a condition on the space of a and b",
    ),
    "no field": (lambda q: q.model().field("d", {}), r"name must be one of \['c'\], got 'd'"),
    "short field": (
        lambda q: q.model(a=ufl.inner(q.f * q.u, q.v) * ufl.dx, parameters={"f": q.f}).field(
            "f", {"f": np.ones(2)}
        ),
        r"parameter 'f' must have shape \(9,\), got \(2,\)",
    ),
    "short column": (
        lambda q: q.model().eigenfunction(np.ones(2)),
        r"column must have shape \(9,\), got \(2,\)",
    ),
    "out": (
        lambda q: q.model().assemble(
            {"c": np.ones(1)}, out=q.model(b=None).assemble({"c": np.ones(1)})
        ),
        r"out must be a pencil of this model",
    ),
    **BY_BUILD[REAL],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(parts, case):
    action, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        action(parts)


def test_form_that_another_process_compiles_is_waited_for(parts, tmp_path, monkeypatch):
    places = (tmp_path, "where compiled forms are kept")
    monkeypatch.setitem(jit.DOLFINX_DEFAULT_JIT_PARAMETERS, "cache_dir", places)
    p = {"c": np.ones(1)}
    parts.model().assemble(p).close()
    markers = list(tmp_path.glob("*.cached"))
    for marker in markers:
        marker.rename(marker.with_suffix(".not_yet"))
    naps = []

    def nap(seconds):
        naps.append(seconds)
        for marker in markers[: len(naps) > 20 and None]:
            marker.with_suffix(".not_yet").rename(marker)

    monkeypatch.setattr(time, "sleep", nap)
    parts.model().assemble(p).close()
    assert len(naps) > 20


def test_infinite_derivative_names_the_parameter(parts):
    a = ufl.inner(ufl.sqrt(parts.f) * parts.u, parts.v) * ufl.dx
    model = parts.model(a=a, parameters={"f": parts.f})
    ones = np.ones((9, 1))
    match = r"with respect to 'f' must be finite, got .* at entry"
    with pytest.raises(ga.InputError, match=match):
        model.contract({"f": np.zeros(9)}, ones, ones, ones)


def test_matrices_that_are_not_finite_are_refused(parts):
    a = ufl.inner(ufl.ln(parts.f) * parts.u, parts.v) * ufl.dx
    model = parts.model(a=a, parameters={"f": parts.f})
    with pytest.raises(ga.InputError, match=r"A must be finite"):
        model.assemble({"f": np.zeros(9)})


def test_machine_without_dolfinx_is_told_the_remedy():
    code = "import sys; sys.modules['dolfinx'] = None; import geneig_adjoint.adapters.dolfinx"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "MissingPackageError: geneig_adjoint.adapters.dolfinx needs dolfinx" in done.stderr
    assert "bash docker/setup-debian.sh --with-dolfinx" in done.stderr
