"""`check_kernels` finds what is wrong in a kernel, and at which element."""

from dataclasses import dataclass

import numpy as np
import pytest
from jax_elements import ND, ClosedTruss, truss_elements, truss_kernels

import geneig_adjoint as ga
from geneig_adjoint import kernel_checks

COUNT, BAD = 9, 5
VALUES, ANGLE = truss_elements(COUNT)
KERNELS = truss_kernels(ANGLE)


@dataclass(frozen=True)
class Spoilt(ClosedTruss):
    """Off by a factor at one element, in one quantity."""

    quantity: str = ""
    factor_there: float = 1 + 1e-6

    def _spoilt(self, quantity, block, rows):
        wrong = (np.arange(COUNT)[rows] == BAD) & (quantity == self.quantity)
        return block * np.where(wrong, self.factor_there, 1.0).reshape(-1, *[1] * (block.ndim - 1))

    def matrices(self, values, rows):
        return self._spoilt("matrices", super().matrices(values, rows), rows)

    def derivative(self, values, dots, rows):
        return self._spoilt("derivative", super().derivative(values, dots, rows), rows)

    def vjp(self, values, left, right, rows):
        bars = super().vjp(values, left, right, rows)
        return bars | {"length": self._spoilt("vjp", bars["length"], rows)}

    def vjp_tangent(self, values, dots, left, right, rows):
        bars = super().vjp_tangent(values, dots, left, right, rows)
        return bars | {"length": self._spoilt("vjp_tangent", bars["length"], rows)}


WRONG = {
    "matrices": "matrices",
    "derivative": "derivative in ",
    "vjp": "second vjp in length[0]",
    "vjp_tangent": "vjp_tangent in length[0]",
}


@pytest.mark.parametrize("source", KERNELS)
@pytest.mark.parametrize("quantity", WRONG)
def test_the_worst_element_of_the_wrong_quantity_is_named(source, quantity):
    report = ga.check_kernels(KERNELS[source], Spoilt(ANGLE, quantity=quantity), VALUES)
    assert not report.passed
    assert report.worst.element == BAD
    failed = [one for one in report.failures if one.quantity.startswith(WRONG[quantity])]
    assert failed
    for one in failed:  # the error that was put in, at its entry
        assert abs(one.second / one.first - 1) == pytest.approx(1e-6, rel=1e-2)
        assert one.relative_error <= 1.01e-6


def test_a_small_element_counts_as_much_as_a_large_one():
    small = VALUES | {"area": VALUES["area"] * np.where(np.arange(COUNT) == BAD, 1e-8, 1)[:, None]}
    report = ga.check_kernels(KERNELS["jax"], Spoilt(ANGLE, quantity="matrices"), small)
    assert report.worst.element == BAD


@pytest.mark.parametrize("source", KERNELS)
def test_differences_are_a_source_for_any_kernel(source):
    report = ga.check_kernels(KERNELS[source], None, VALUES)
    assert report.passed, str(report)
    assert not ga.check_kernels(Spoilt(ANGLE, quantity="derivative"), None, VALUES).passed
    assert not ga.check_kernels(Spoilt(ANGLE, quantity="vjp"), None, VALUES).passed


def test_elements_are_compared_in_batches(monkeypatch):
    whole = ga.check_kernels(KERNELS["jax"], Spoilt(ANGLE, quantity="vjp"), VALUES)
    monkeypatch.setattr(kernel_checks, "ENTRIES", 2 * ND * ND)
    cut = ga.check_kernels(KERNELS["jax"], Spoilt(ANGLE, quantity="vjp"), VALUES)
    assert cut.worst.element == whole.worst.element == BAD
    assert [one.quantity for one in cut.comparisons] == [one.quantity for one in whole.comparisons]


def test_a_difference_that_is_no_number_fails():
    nan = Spoilt(ANGLE, quantity="derivative", factor_there=np.nan)
    report = ga.check_kernels(KERNELS["closed form"], nan, VALUES)
    assert not report.passed
    assert report.worst.element == BAD


def test_the_report_prints_as_a_table():
    text = str(ga.check_kernels(KERNELS["jax"], KERNELS["complex step"], VALUES))
    assert "derivative in area[1]" in text
    assert text.endswith("verdict: passed (bound 1e-09)")
    wrong = ga.check_kernels(KERNELS["jax"], Spoilt(ANGLE, quantity="vjp"), VALUES, rtol=1e-12)
    assert str(wrong).endswith("FAILED, worst at element 5 (bound 1e-12)")


@pytest.mark.parametrize("values", [{}, {"a": np.ones(0)}, {"a": np.ones(2), "b": np.ones(3)}])
def test_values_must_be_those_of_some_elements(values):
    with pytest.raises(ga.InputError, match=r"values of at least one element.*got \[.*\] values"):
        ga.check_kernels(KERNELS["jax"], None, values)


def test_kernels_must_be_of_the_same_elements():
    other = ga.NumpyKernel(lambda area, length: np.ones((len(area), 2, 2)))
    with pytest.raises(
        ga.InputError, match=r"matrices of two kernels.*\(9, 3, 3\) and \(9, 2, 2\)"
    ):
        ga.check_kernels(KERNELS["jax"], other, VALUES)


def test_differences_of_large_matrices_are_not_asked_for_digits_they_do_not_have():
    # A derivative 1e-8 of the matrix: 1e-16 / 1e-8 are left of its digits.
    weak = ga.NumpyKernel(lambda a: (1 + 1e-8 * a**2)[:, None, None] * np.eye(2))
    assert ga.check_kernels(weak, None, {"a": np.linspace(1.0, 2.0, 50)}).passed
