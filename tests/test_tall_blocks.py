"""Products of tall blocks with small matrices, in place where that is possible."""

import numpy as np
import pytest

from geneig_adjoint.tall_blocks import add_product, product, sums


def block(rows, columns, dtype, order="F"):
    values = np.random.default_rng(rows + columns).normal(size=(2, rows, columns))
    mixed = values[0] + 1j * values[1]
    return np.array(mixed if dtype is complex else mixed.real, order=order)


KINDS = [(float, float), (float, complex), (complex, float), (complex, complex)]


@pytest.mark.parametrize("rows", [0, 30])
@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize(("tall", "small"), KINDS)
def test_products_are_those_of_matrices(tall, small, order, rows):
    W, c = block(rows, 5, tall, order), block(5, 3, small)
    target = block(rows, 3, np.result_type(tall, small).type, order)
    expected = target - 2 * (W @ c)
    assert np.allclose(product(W, c), W @ c, rtol=1e-13, atol=1e-13)  # rounding of 5 terms
    assert np.allclose(add_product(target, W, c, -2.0), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [float, complex])
def test_products_are_added_in_place(kind):
    W, target = block(30, 5, kind), block(30, 3, kind)
    assert np.shares_memory(add_product(target, W[:, 1:], block(4, 3, kind)), target)
    assert product(W, block(5, 3, kind)).flags.f_contiguous


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize(("first", "second"), KINDS)
def test_sums_are_conjugate_products(comm, first, second, order):
    u, v, w = block(30, 5, first, order), block(30, 3, second, order), block(30, 2, second)
    found = sums(comm, (u, v), (v, w))
    expected = comm.size * (u.conj().T @ v), comm.size * (v.conj().T @ w)
    for item, right in zip(found, expected, strict=True):
        assert np.allclose(item, right, rtol=1e-13, atol=1e-12)  # rounding of 30 terms
