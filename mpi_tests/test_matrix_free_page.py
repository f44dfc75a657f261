"""The script of examples/docs/matrix_free.md on several ranks: the numbers of one rank."""

import numpy as np
import pytest
from pages import run_page

import geneig_adjoint as ga

pytestmark = pytest.mark.any_scalars


def test_page_gives_the_same_numbers_on_any_ranks(comm):
    page = run_page("matrix_free.md")
    gradient, k = page["gradient"], page["p"]["k"]
    with page["pairs"] as pairs:
        # Euler: lam is homogeneous of degree 1 in k
        assert np.isclose(gradient @ k, pairs.values[0].real, rtol=1e-10)
        # computed on one rank
        assert np.isclose(pairs.values[0].real, REFERENCE, rtol=1e-11)
    page["pencil"].close()
    assert len(set(comm.allgather(gradient.tobytes()))) == 1
    assert ga.check_operator(page["model"], page["p"]).passed


REFERENCE = 162.14509829249783
