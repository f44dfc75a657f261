"""What `CompiledKernel` says about libraries, routines and elements that are not as they must be.

Routines in Python with the calling convention of C: each does one thing wrong.
"""

import ctypes

import cffi
import numpy as np
import pytest

import geneig_adjoint as ga
from geneig_adjoint.compiled_routines import GUARD

ROWS = slice(40, 44)
ONES = np.ones((4, 2, 1))
VALUES = {"a": np.array([1.0, 2.0, 3.0, 4.0])}


def routine(function, pointers=2):
    """Return a function of (count, arrays...) as a C function."""
    double_p = ctypes.POINTER(ctypes.c_double)
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[double_p] * pointers)(function)


def doubled(count, a, K):
    """K = a^2 I, and element 3 of 1, 2, 3, ... only where a is below 100."""
    for e in range(count):
        if a[e] >= 100:
            return e + 1
        K[4 * e] = K[4 * e + 3] = a[e] ** 2
    return 0


def kernel(function=doubled, size=2, values=None, data=None, **more):
    """Return a kernel of routines by their endings."""
    data = data or {}
    names = {"square": routine(function, 2 + len(data))}
    names |= {f"square_{ending}": routine(extra, 3) for ending, extra in more.items()}
    return ga.CompiledKernel(names, "square", size, values or {"a": 1}, data)


def test_routines_may_be_functions_of_ctypes():
    found = kernel().matrices(VALUES, ROWS)
    assert np.array_equal(found, (VALUES["a"] ** 2)[:, None, None] * np.eye(2))


@pytest.mark.parametrize("bad", [0, 2])
def test_an_element_that_a_routine_cannot_do_is_named(bad):
    values = {"a": np.where(np.arange(4) == bad, 500.0, 1.5)}
    message = rf"'square' must return 0, got {bad + 1}: it cannot do element {40 + bad} of this "
    with pytest.raises(ga.InputError, match=message + r"rank \(a = \[500\.\]\); check its values"):
        kernel().matrices(values, ROWS)


@pytest.mark.parametrize("status", [-1, 5])
def test_a_status_that_is_no_element(status):
    message = rf"return 0, or the number of an element from 1 to 4, got {status}; end it with"
    with pytest.raises(ga.InputError, match=message):
        kernel(lambda *_: status).matrices(VALUES, ROWS)


@pytest.mark.parametrize(("size", "doubles"), [(1, 1), (2, 4)])
@pytest.mark.parametrize("beyond", [0, 4, GUARD - 1])
def test_a_routine_that_writes_beyond_its_element(size, doubles, beyond):
    def larger(count, a, K):
        K[doubles + beyond] = 1.0
        return 0

    message = rf"must write {doubles} doubles for one element, got {doubles + beyond + 1}; correct"
    with pytest.raises(ga.InputError, match=message):
        kernel(larger, size).matrices(VALUES, ROWS)


def test_derivatives_that_are_no_numbers_name_the_element():
    def tangent(count, a, dot, K):
        for e in range(count):
            K[4 * e] = np.nan if a[e] == 3 else 1.0
        return 0

    def vjp(count, a, bar, out):
        for e in range(count):
            out[e] = np.inf if a[e] == 3 else 1.0
        return 0

    message = r"of the routine 'square' must be finite.* 1 elements, the first is element 42"
    with pytest.raises(ga.InputError, match=message):
        kernel(tangent=tangent).derivative(VALUES, VALUES, ROWS)
    with pytest.raises(ga.InputError, match=message):
        kernel(vjp=vjp).vjp(VALUES, ONES, ONES, ROWS)


def test_an_element_that_stands_still_has_zeros_where_there_is_no_derivative():
    def tangent(count, a, dot, K):
        for e in range(count):
            K[4 * e] = np.inf * dot[e] if a[e] == 3 else dot[e]
        return 0

    dots = {"a": np.array([1.0, 1.0, 0.0, 1.0])}
    found = kernel(tangent=tangent).derivative(VALUES, dots, ROWS)
    assert np.array_equal(found[:, 0, 0], dots["a"])


@pytest.mark.parametrize(
    "values", [{"b": np.ones(4)}, {"a": np.ones((4, 2))}, {"a": np.ones(4), "b": np.ones(4)}, {}]
)
def test_values_must_be_those_of_the_routine(values):
    message = r"'square' takes values with so many entries per element: \{'a': 1\}, got \{"
    with pytest.raises(ga.InputError, match=message):
        kernel().matrices(values, ROWS)


@pytest.mark.parametrize("data", [np.ones(42), 1j * np.ones(50)], ids=["short", "complex"])
def test_data_must_be_real_with_a_row_per_element(data):
    with pytest.raises(ga.InputError, match=r"data 'x' .* real, one row per element, got \d rows"):
        kernel(data={"x": data}).matrices(VALUES, ROWS)


def test_data_of_any_type_arrive_as_doubles_and_doubles_uncopied():
    seen = []

    def function(count, a, x, K):
        seen.append((ctypes.addressof(a.contents), [x[0], x[1]]))
        return 0

    for data in (np.arange(50), np.arange(50, dtype=np.float32), np.arange(100.0)[::2] / 2):
        kernel(function, data={"x": data}).matrices(VALUES, ROWS)
    assert {address for address, _ in seen} == {VALUES["a"].ctypes.data}
    assert [parts for _, parts in seen] == [[40.0, 41.0]] * 6  # each is tried with one element


def test_kernel_without_parameters():
    base = ga.CompiledKernel({"one": routine(lambda n, K: 0, 1)}, "one", 2, {})
    assert np.array_equal(base.matrices({}, ROWS), np.zeros((4, 2, 2)))
    assert np.array_equal(base.derivative({}, {}, ROWS), np.zeros((4, 2, 2)))
    assert base.vjp({}, ONES, ONES, ROWS) == {}


def test_libraries_that_cannot_be_loaded(tmp_path):
    missing = tmp_path / "element.so"
    with pytest.raises(ga.InputError, match=r"can be loaded, got '.*element\.so' .*cc -O2 -shared"):
        ga.CompiledKernel(missing, "square", 2, {"a": 1})
    missing.write_text("no library, but long enough for a header" * 10)
    with pytest.raises(ga.InputError, match=r"element\.so' \(.*invalid ELF header.*compile it"):
        ga.CompiledKernel(missing, "square", 2, {"a": 1})


def test_routines_that_are_not_there():
    for library in (ctypes.CDLL(None), {}):
        with pytest.raises(ga.InputError, match=r'routine \'sq\', got .* extern "C".*nm -D'):
            ga.CompiledKernel(library, "sq", 2, {"a": 1})


@pytest.mark.parametrize("found", [abs, "square", 0, 1.5])
def test_what_is_no_pointer(found):
    with pytest.raises(ga.InputError, match=r"'sq' must be a function of ctypes, .*ffi\.addressof"):
        ga.CompiledKernel({"sq": found}, "sq", 2, {"a": 1})


def test_a_value_of_cffi_is_no_pointer():
    ffi = cffi.FFI()
    for found in (ffi.new("int *", 3), ffi.new("int *", 3)[0:1], type(ffi.new("int *")), ffi.NULL):
        with pytest.raises(ga.InputError, match="must be a function of ctypes"):
            ga.CompiledKernel({"sq": found}, "sq", 2, {"a": 1})


@pytest.mark.parametrize("dtype", [np.float32, "f8", int])
def test_double_precision_only(dtype):
    with pytest.raises(ga.InputError, match="must be float or complex, got"):
        ga.CompiledKernel({}, "sq", 2, {"a": 1}, dtype=dtype)


@pytest.mark.parametrize("wrap", [lambda one: one, ga.Differenced], ids=["plain", "differenced"])
def test_data_of_a_block_have_its_rows(comm, wrap):
    def block(data):
        found = wrap(kernel(lambda *_: 0, data=data))
        return ga.ElementBlock("A", np.arange(8).reshape(4, 2), found, {"a": np.arange(4)})

    with pytest.raises(ga.InputError, match=r"data 'x' must have 4 rows, one per element"):
        ga.ElementModel(8, [block({"x": np.ones(5)})], comm=comm)
    ga.ElementModel(8, [block({"x": np.ones(4)})], comm=comm).close()
