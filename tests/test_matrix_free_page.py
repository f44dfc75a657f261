"""The script of examples/docs/matrix_free.md: what the page says about it is true."""

import numpy as np
from pages import run_page

import geneig_adjoint as ga


def test_page_has_the_values_of_the_closed_form_and_a_right_gradient():
    page = run_page("matrix_free.md")
    with page["pairs"] as pairs:
        value = pairs.values[0].real
        # Euler: lam is homogeneous of degree 1 in k
        assert np.isclose(page["gradient"] @ page["p"]["k"], value, rtol=1e-10)
        assert "gmres" in pairs.info.notes[0]  # 150 lies inside the spectrum
    page["pencil"].close()
    assert ga.check_operator(page["model"], page["p"]).passed
    h, numbers = page["h"], np.arange(1, page["n"] + 1)
    squares = 4 * np.sin(numbers * np.pi * h / 2) ** 2 / h**2
    exact = np.sort(np.add.outer(squares, squares).ravel())
    with page["model"].assemble({"k": np.ones(5)}) as pencil:
        for target in (0.0, 100.0):
            wanted = exact[np.argsort(np.abs(exact - target), kind="stable")][:3]
            with ga.solve_eigenproblem(pencil, 3, target=target) as pairs:
                # eps_tol 1e-12 of values 1e-3 of the largest
                assert np.allclose(np.sort(pairs.values.real[:3]), np.sort(wanted), rtol=1e-9)
