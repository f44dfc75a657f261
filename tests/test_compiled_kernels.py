"""`CompiledKernel`: the same numbers as NumPy, JAX and closed forms, from C and from Fortran."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import cffi
import numpy as np
import pytest
from compiled_elements import COMPILERS, compiled, truss
from jax_elements import ND, complex_truss, truss_elements, truss_kernels

import geneig_adjoint as ga

COUNT = 11
POINT, ANGLE = truss_elements(COUNT)
ROWS = slice(0, COUNT)
SOURCES = truss_kernels(ANGLE) | {"lossy": complex_truss(ANGLE)[0]}
ENDINGS = {"tangent": ("", "_tangent"), "vjp": ("", "_vjp"), "both": ("", "_tangent", "_vjp")}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    return {language: compiled(language, folder) for language in COMPILERS}


def part_of(path, name, endings):
    """Return only some routines of a library."""
    library = ctypes.CDLL(str(path))
    return {name + ending: getattr(library, name + ending) for ending in endings}


def sides(columns=2, count=COUNT):
    rng = np.random.default_rng(columns)
    parts = rng.normal(size=(4, count, ND, columns))
    return parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]


def directions():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=value.shape) for name, value in POINT.items()}


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("source", ["closed form", "complex step", "jax"])
@pytest.mark.parametrize("language", COMPILERS)
def test_all_sources_agree_at_every_element(libraries, language, source, endings):
    kernel = truss(part_of(libraries[language], "truss", ENDINGS[endings]), ANGLE)
    # A dozen roundings; second derivatives are differences.
    report = ga.check_kernels(kernel, SOURCES[source], POINT, rtol=1e-12)
    first_order = [one for one in report.comparisons if "vjp_tangent" not in one.quantity]
    assert max(one.relative_error for one in first_order) <= 2e-14, str(report)
    assert report.passed, str(report)
    assert len(report.comparisons) == 1 + 3 * 4


@pytest.mark.parametrize("endings", ENDINGS)
def test_complex_matrices(libraries, endings):
    library = part_of(libraries["C"], "lossy", ENDINGS[endings])
    kernel = truss(library, ANGLE, "lossy", dtype=complex)
    assert kernel.matrices(POINT, ROWS).dtype == complex
    for other in complex_truss(ANGLE):
        report = ga.check_kernels(kernel, other, POINT, rtol=1e-12)
        assert report.passed, str(report)


@pytest.mark.parametrize("name", ["truss", "lossy"])
def test_contraction_conjugates_left_vectors_whatever_their_type(libraries, name):
    expected = SOURCES["closed form" if name == "truss" else name]
    kernel = truss(libraries["C"], ANGLE, name, dtype=[float, complex][name == "lossy"])
    left, right = sides(3)
    for pair in ((left, right), (left.real, right), (left, right.real), (left.real, right.real)):
        for bars, other in zip(
            kernel.vjp(POINT, *pair, ROWS).values(),
            expected.vjp(POINT, *pair, ROWS).values(),
            strict=True,
        ):
            # sums of some 40 products
            np.testing.assert_allclose(bars, other, rtol=0, atol=1e-13 * np.abs(other).max())


def test_taylor_remainder_and_dot_product(libraries):
    kernel, dots, (left, right) = truss(libraries["C"], ANGLE), directions(), sides()
    bars = kernel.vjp(POINT, left, right, ROWS)
    slope = sum(np.sum(bars[name] * dots[name]) for name in POINT)
    forward = np.einsum(
        "eik,eij,ejk->", left.conj(), kernel.derivative(POINT, dots, ROWS), right
    ).real
    assert np.isclose(forward, slope, rtol=1e-12)

    def remainder(step):
        there = {name: POINT[name] + step * dots[name] for name in POINT}
        change = kernel.matrices(there, ROWS) - kernel.matrices(POINT, ROWS)
        return abs(np.einsum("eik,eij,ejk->", left.conj(), change, right).real - step * slope)

    assert np.log2(remainder(2e-3) / remainder(1e-3)) > 1.95


@pytest.mark.parametrize("name", ["truss", "lossy"])
def test_batches_are_cut_from_data(libraries, name):
    kernel = truss(libraries["C"], ANGLE, name, dtype=[float, complex][name == "lossy"])
    rows = slice(4, 9)
    cut = {key: value[rows] for key, value in POINT.items()}
    assert np.array_equal(kernel.matrices(cut, rows), kernel.matrices(POINT, ROWS)[rows])
    left, right = sides()
    whole = kernel.vjp(POINT, left, right, ROWS)
    for key, bars in kernel.vjp(cut, left[rows], right[rows], rows).items():
        assert np.array_equal(bars, whole[key][rows])


def pointers_of(kind, path):
    """Return the routines of a library as users of several tools have them."""
    names = ["truss", "truss_tangent", "truss_vjp"]
    library = ctypes.CDLL(str(path))
    if kind == "ctypes library":
        return library
    if kind == "addresses":
        return {name: ctypes.cast(library[name], ctypes.c_void_p).value for name in names}
    ffi = cffi.FFI()
    last = {"truss": 1, "truss_tangent": 3, "truss_vjp": 3}
    for name in names:
        ffi.cdef(f"int {name}(int{', double *' * (3 + last[name])});")
    found = ffi.dlopen(str(path))
    return found if kind == "cffi library" else {name: getattr(found, name) for name in names}


@pytest.mark.parametrize(
    "kind", ["ctypes library", "addresses", "cffi library", "pointers of cffi"]
)
def test_routines_come_from_ctypes_cffi_or_addresses(libraries, kind):
    kernel = truss(pointers_of(kind, libraries["C"]), ANGLE)
    expected = truss(libraries["C"], ANGLE)
    assert np.array_equal(kernel.matrices(POINT, ROWS), expected.matrices(POINT, ROWS))
    for key, bars in kernel.vjp(POINT, *sides(), ROWS).items():
        assert np.array_equal(bars, expected.vjp(POINT, *sides(), ROWS)[key])


def test_a_library_without_a_folder_in_its_name_is_looked_for_here(libraries, monkeypatch):
    monkeypatch.chdir(libraries["C"].parent)
    assert truss("C.so", ANGLE).matrices(POINT, ROWS).shape == (COUNT, ND, ND)


def test_threads_may_share_a_kernel(libraries):
    count = 4000
    values, angle = truss_elements(count)
    kernel, rows = truss(libraries["C"], angle), slice(0, count)
    vectors = sides(2, count)
    expected = kernel.vjp(values, *vectors, rows)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(kernel.vjp, values, *vectors, rows) for _ in range(12)]
        for job in jobs:
            assert all(np.array_equal(job.result()[name], expected[name]) for name in expected)


def test_elements_that_stand_still_have_exact_zeros(libraries):
    dots = {
        name: value * (np.arange(COUNT) == 3).reshape(-1, *[1] * (value.ndim - 1))
        for name, value in directions().items()
    }
    kernel = truss(libraries["C"], ANGLE)
    moving = np.flatnonzero(kernel.derivative(POINT, dots, ROWS).any(axis=(1, 2)))
    assert moving.tolist() == [3]
    for bars in kernel.vjp_tangent(POINT, dots, *sides(), ROWS).values():
        assert np.flatnonzero(bars.reshape(COUNT, -1).any(axis=1)).tolist() == [3]


def test_differences_must_be_asked_for(libraries):
    plain = truss(part_of(libraries["C"], "truss", ("",)), ANGLE)
    message = r"need the routine 'truss_tangent' or 'truss_vjp'.*neither.*Differenced\(kernel\)"
    with pytest.raises(ga.InputError, match=message):
        plain.vjp(POINT, *sides(), ROWS)
    with pytest.raises(ga.InputError, match=message):
        plain.derivative(POINT, directions(), ROWS)
    # matrix / value: some 10 here
    report = ga.check_kernels(ga.Differenced(plain), SOURCES["closed form"], POINT, rtol=1e-10)
    assert report.passed, str(report)
