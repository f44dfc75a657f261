"""`enzyme_kernel`: derivatives of C and C++ by Enzyme."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from jax_elements import truss_elements, truss_kernels

import geneig_adjoint as ga
from geneig_adjoint import enzyme_kernels

HERE = Path(__file__).parent
STIFFNESS = HERE.parent / "examples" / "compiled_element" / "stiffness.c"
COUNT = 11
ROWS = slice(0, COUNT)
POINT = {"a": np.linspace(0.5, 2.0, COUNT)}
ONES = np.ones((COUNT, 1, 1))


def beam(width, height, nodes):
    """The stiffness of stiffness.c in NumPy."""
    edge = nodes[:, 1] - nodes[:, 0]
    length = np.linalg.norm(edge, axis=1)
    c, s = (edge / length[:, None]).T
    zero, half, one = 0 * c, 0 * c + 0.5, 0 * c + 1
    stretch = np.stack([-c, -s, zero, c, s, zero], axis=1)
    bend = np.stack([zero, zero, -one, zero, zero, one], axis=1)
    shear = np.stack([-s / length, c / length, half, s / length, -c / length, half], axis=1)
    outer = [v[:, :, None] * v[:, None, :] for v in (stretch, bend, shear)]
    area = 210e9 * (width * height / length)[:, None, None]
    return area * (outer[0] + (height**2 / 12)[:, None, None] * (outer[1] + 12 * outer[2]))


def kernel(folder, text, **options):
    """Return the kernel of a routine f of one parameter, with a matrix of one entry."""
    path = folder / "element.cpp"
    path.write_text(text)
    return ga.enzyme_kernel(path, "f", 1, {"a": 1}, **options)


def test_the_beam_of_the_examples_agrees_with_numpy():
    nodes = np.random.default_rng(0).normal(size=(COUNT, 2, 2))
    values = {"width": np.linspace(0.1, 0.2, COUNT), "height": np.linspace(0.3, 0.1, COUNT)}
    sizes, data = {"width": 1, "height": 1}, {"nodes": nodes}
    found = ga.enzyme_kernel(STIFFNESS, "stiffness", 6, sizes, data)
    report = ga.check_kernels(found, ga.NumpyKernel(beam, data), values, rtol=1e-12)
    assert report.passed, str(report)


@pytest.mark.parametrize("source", ["closed form", "complex step", "jax"])
def test_all_sources_agree_at_every_element(tmp_path, source):
    values, angle = truss_elements(COUNT)
    text = (HERE / "compiled_truss.c").read_text().split("int truss_tangent")[0]
    lines = [line for line in text.splitlines() if "complex" not in line]
    (tmp_path / "truss.cpp").write_text("\n".join(lines))
    sizes, data = {"area": 2, "length": 1}, {"angle": angle}
    found = ga.enzyme_kernel(tmp_path / "truss.cpp", "truss", 3, sizes, data)
    report = ga.check_kernels(found, truss_kernels(angle)[source], values, rtol=1e-12)
    assert report.passed, str(report)


def test_loops_branches_and_the_library_of_cpp(tmp_path):
    text = """
    #include <cmath>
    #include <vector>
    int f(int count, const double *a, double *K)
    {
        for (int e = 0; e < count; ++e) {
            std::vector<double> terms(3);
            for (auto &term : terms) term = a[e] > 1 ? std::exp(-a[e]) : std::pow(a[e], 1.5);
            for (auto term : terms) K[e] += term * std::sqrt(a[e] + 1);
        }
        return 0;
    }"""
    expected = ga.NumpyKernel(
        lambda a: 3 * (np.where(a.real > 1, np.exp(-a), a**1.5) * np.sqrt(a + 1))[:, None, None]
    )
    report = ga.check_kernels(kernel(tmp_path, text), expected, POINT, rtol=1e-11)
    assert report.passed, str(report)


def test_complex_matrices(tmp_path):
    text = """
    #include <math.h>
    int f(int count, const double *a, double *K)
    {
        for (int e = 0; e < count; ++e) { K[2 * e] = a[e] * a[e]; K[2 * e + 1] = sin(a[e]); }
        return 0;
    }"""
    expected = ga.NumpyKernel(lambda a: (a[:, None, None] ** 2, np.sin(a)[:, None, None]))
    report = ga.check_kernels(kernel(tmp_path, text, dtype=complex), expected, POINT, rtol=1e-11)
    assert report.passed, str(report)


def test_elements_that_the_routine_cannot_do_are_named(tmp_path):
    text = """int f(int count, const double *a, double *K)
    {
        for (int e = 0; e < count; ++e) { if (a[e] < 0) return e + 1; K[e] = a[e] * a[e]; }
        return 0;
    }"""
    found, values = kernel(tmp_path, text), {"a": np.where(np.arange(COUNT) == 4, -1.0, 1.0)}
    uses = [lambda: found.matrices(values, ROWS), lambda: found.derivative(values, values, ROWS)]
    for use in [*uses, lambda: found.vjp(values, ONES, ONES, ROWS)]:
        with pytest.raises(ga.InputError, match=r"must return 0, got 5: it cannot do element 4 of"):
            use()


WRONG = {
    "syntax": "int f(int count, const double *a, double *K) { retrun 0; }",
    "arguments": "int f(int count, double *K) { return 0; }",
    "unknown": 'extern "C" double g(double);\n'
    "int f(int count, const double *a, double *K) { K[0] = g(a[0]); return 0; }",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compiled_or_differentiated(tmp_path, name):
    with pytest.raises(ga.InputError, match=r"differentiate '.*element\.cpp' as C\+\+, got "):
        kernel(tmp_path, WRONG[name])


def test_a_file_that_is_not_there():
    with pytest.raises(ga.InputError, match=r"must be a file, got 'element\.c'; correct the path"):
        ga.enzyme_kernel("element.c", "f", 1, {"a": 1})


def test_without_enzyme_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.delitem(enzyme_kernels.sys.modules, enzyme_kernels.MODULE, raising=False)
    with pytest.raises(ga.errors.MissingPackageError, match=r"install --no-deps enzyme-ad==0\.0"):
        ga.enzyme_kernel(STIFFNESS, "stiffness", 6, {"width": 1, "height": 1})
