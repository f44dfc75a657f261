"""B has no entries where its element matrices have zeros at every p: masses of vector fields."""

import numpy as np
import pytest
from builders import dense
from petsc4py import PETSc

import geneig_adjoint as ga

CELLS, PARTS = 7, 3
N = CELLS * PARTS
BAR = np.array([[1.0, -1.0], [-1.0, 1.0]])
COUPLED = np.array([[2.0, 0.5, 0.3], [0.5, 3.0, 0.2], [0.3, 0.2, 4.0]])
M0 = np.kron(np.array([[2.0, 1.0], [1.0, 2.0]]) / 6, np.eye(PARTS))
K0 = np.kron(BAR, COUPLED) + 0.1 * np.kron(np.ones((2, 2)), COUPLED)
P = {"density": np.linspace(0.5, 1.5, CELLS)}
DIFFERENT = np.kron(np.ones((2, 2)), COUPLED)  # fills all of the pattern


class Louder(ga.ScaledKernel):
    """A class made of a kernel, with entries where K0 has none."""

    def matrices(self, values, rows):
        return super().matrices(values, rows) + 0.01


class Mixed:
    """A kernel of one's own: nobody knows its zeros."""

    def matrices(self, values, rows):
        rho = next(iter(values.values()))
        return rho[:, None, None] * (M0 + 0.01 * (rho > 1.0)[:, None, None])


def tables(comm):
    """Return this rank's dofs and ids: every other element, most rows are of another rank."""
    nodes = np.column_stack([np.arange(CELLS) - 1, np.arange(CELLS)])
    dofs = np.where(nodes < 0, -1, PARTS * nodes)[:, :, None] + np.arange(PARTS)
    dofs = np.where(np.repeat(nodes[:, :, None], PARTS, axis=2) < 0, -1, dofs)
    mine = np.arange(comm.rank, CELLS, comm.size)
    return dofs.reshape(CELLS, -1)[mine], mine


def vector_chain(comm, kernel):
    dofs, ids = tables(comm)
    stiff = ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"density": ids})
    return ga.ElementModel(
        N, [stiff, ga.ElementBlock("B", dofs, kernel, {"density": ids})], comm=comm
    )


def expected_mass(p, element):
    """Sum element matrices, element(e, rho), one by one."""
    total = np.zeros((N + PARTS, N + PARTS))
    for e, rho in enumerate(p["density"]):
        part = slice(PARTS * e, PARTS * (e + 2))
        total[part, part] += rho * element(e, rho)
    return total[PARTS:, PARTS:]


def entries(mat):
    return int(mat.getInfo(PETSc.Mat.InfoType.GLOBAL_SUM)["nz_used"])


def test_masses_of_components_have_their_own_pattern(comm):
    with vector_chain(comm, ga.ScaledKernel(M0)) as model, model.assemble(P) as pencil:
        expected = expected_mass(P, lambda e, rho: M0)
        assert entries(pencil.B) == np.count_nonzero(expected)
        assert PARTS * entries(pencil.B) == entries(pencil.A)
        assert pencil.structure == PETSc.Mat.Structure.SUBSET_NONZERO_PATTERN
        np.testing.assert_allclose(dense(pencil.B), expected, rtol=1e-14)
        other = {"density": P["density"][::-1] ** 2}
        model.assemble(other, out=pencil)
        np.testing.assert_allclose(
            dense(pencil.B), expected_mass(other, lambda e, rho: M0), rtol=1e-14
        )


def test_a_base_of_every_element_has_the_entries_of_all(comm):
    bases = np.where((np.arange(CELLS) == 2)[:, None, None], DIFFERENT, M0)
    expected = expected_mass(P, lambda e, rho: bases[e])
    kernel = ga.ScaledKernel(bases[tables(comm)[1]])
    with vector_chain(comm, kernel) as model, model.assemble(P) as pencil:
        assert entries(pencil.B) == np.count_nonzero(expected) < entries(pencil.A)
        np.testing.assert_allclose(dense(pencil.B), expected, rtol=1e-14)


def test_the_diagonal_is_kept_for_factors_of_b(comm):
    ahead = np.kron(np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(PARTS))
    with vector_chain(comm, ga.ScaledKernel(ahead)) as model, model.assemble(P) as pencil:
        expected = expected_mass(P, lambda e, rho: ahead)
        assert entries(pencil.B) == np.count_nonzero(expected) + N
        np.testing.assert_allclose(dense(pencil.B), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("kernel", "element"),
    [
        (Louder(M0), lambda e, rho: M0 + 0.01 / rho),
        (Mixed(), lambda e, rho: M0 + 0.01 * (rho > 1.0)),
        (ga.ScaledKernel(DIFFERENT), lambda e, rho: DIFFERENT),
    ],
    ids=["a class made of a kernel", "a kernel of one's own", "a full matrix"],
)
def test_what_is_not_known_to_be_zero_stays(comm, kernel, element):
    with vector_chain(comm, kernel) as model, model.assemble(P) as pencil:
        assert entries(pencil.B) == entries(pencil.A)
        assert pencil.structure == PETSc.Mat.Structure.UNKNOWN_NONZERO_PATTERN
        np.testing.assert_allclose(dense(pencil.B), expected_mass(P, element), rtol=1e-13)


def test_a_base_that_loses_its_zeros_is_an_error(comm):
    base = M0.copy()
    with vector_chain(comm, ga.ScaledKernel(base)) as model, model.assemble(P) as pencil:
        base[0, 1] = base[1, 0] = 0.1
        for out in (None, pencil):
            with pytest.raises(ga.InputError, match=r"must keep its zeros .* got \d+ entries of B"):
                model.assemble(P, out=out)


@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_shifted_matrices_have_all_entries(comm, sigma):
    with vector_chain(comm, ga.ScaledKernel(M0)) as model, model.assemble(P) as pencil:
        mat = pencil.shifted(sigma)
        assert entries(mat) == entries(pencil.A)
        # a rounding per entry
        np.testing.assert_allclose(
            dense(mat), dense(pencil.A) - sigma * dense(pencil.B), rtol=1e-14, atol=1e-15
        )
        mat.destroy()


class Known(ga.ScaledKernel):
    """The same kernel by another name, of which nothing is known."""


@pytest.mark.parametrize("target", [0.0, 0.9])
def test_loops_find_what_they_find_with_a_full_pattern(comm, target):
    def objective(pairs):
        weight = np.cos(np.arange(*pairs.rows)) ** 2
        return ga.objectives.QuadraticForm(weight, (0, 1))(pairs)

    found = []
    for kind in (ga.ScaledKernel, Known):
        with (
            vector_chain(comm, kind(M0)) as model,
            ga.value_and_gradient(model, objective, count=3, target=target) as f,
        ):
            # The factor of A - sigma B is made, and then refilled.
            found += [f({"density": P["density"] * scale}) for scale in (1.0, 1.2, 0.9)]
    for (value, gradient), (other, full) in zip(found[:3], found[3:], strict=True):
        assert abs(value - other) <= 1e-9 * abs(other)  # residuals of 1e-12, gaps above 1e-2
        size = np.abs(full["density"]).max()
        assert np.abs(gradient["density"] - full["density"]).max() <= 1e-7 * size  # rtol 1e-10
