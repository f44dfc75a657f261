"""What elements prove about B is not measured; what they do not prove is."""

import numpy as np
import pytest
from builders import K0, M0, chain_dofs, chain_parameters, matrix, nonsymmetric, shares
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga
from geneig_adjoint import pencil as module

N = 9
P = chain_parameters(N)
NEGATIVE = {**P, "m": P["m"] - 2.0 * (np.arange(N + 1) == 4)}


@pytest.fixture
def measured(monkeypatch):
    """Record which matrices are measured for definiteness."""
    seen, measure = [], module.is_positive

    def recorded(mat, **settings):
        seen.append(mat.handle)
        return measure(mat, **settings)

    monkeypatch.setattr(module, "is_positive", recorded)
    return seen


def model_of(comm, kernel):
    own = shares(N + 1, comm)
    dofs = chain_dofs(N)[own]
    return ga.ElementModel(
        N,
        [
            ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"k": own}),
            ga.ElementBlock("B", dofs, kernel, {"m": own}),
        ],
        comm=comm,
    )


def scaled(m):
    return m[:, None, None] * M0


class Opposite(ga.ScaledKernel):
    """Another class with other matrices, whose K0 and law say nothing of them."""

    def matrices(self, values, rows):
        return -super().matrices(values, rows)


TURNED = M0 + [0.0, 0.1j][COMPLEX_BUILD] * np.array([[0, 1], [-1, 0]])
SKEWED = M0 + np.array([[0.0, 1e-3], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("kernel", "p", "proved"),
    [
        (ga.ScaledKernel(M0), P, True),
        (ga.ScaledKernel(M0, ga.PowerLaw(2.0)), NEGATIVE, True),
        (ga.ScaledKernel(M0), NEGATIVE, False),
        (ga.ScaledKernel(-M0), P, False),
        (ga.ScaledKernel(K0), P, False),
        (ga.ScaledKernel(SKEWED), P, False),
        (ga.ScaledKernel(TURNED), P, not COMPLEX_BUILD),
        (ga.ScaledKernel(np.stack([M0] * (N + 1))), P, False),
        (ga.NumpyKernel(scaled), P, False),
        (Opposite(M0), P, False),
    ],
    ids=["mass", "squares", "one negative", "negative", "semidefinite", "skewed", "complex",
         "of every element", "own routine", "made of it"],
)  # fmt: skip
def test_what_the_elements_prove(comm, kernel, p, proved):
    with model_of(comm, kernel).assemble(p) as pencil:
        assert pencil.B_proved is proved


def test_proved_b_is_not_measured(comm, measured):
    with model_of(comm, ga.ScaledKernel(M0)).assemble(P) as pencil:
        assert pencil.definite
    assert measured == []


def test_negative_mass_is_measured(comm, measured):
    with model_of(comm, ga.ScaledKernel(M0)).assemble(NEGATIVE) as pencil:
        assert not pencil.B_positive
        assert measured == [pencil.B.handle]


def test_laws_are_not_asked_where_there_are_no_elements(comm):
    """Here in a block of none; on several ranks where one has none, the others would wait."""
    full = model_of(comm, ga.ScaledKernel(M0))
    none = np.zeros(0, dtype=int)

    def law(rho):
        return rho * (1.0 + 0.0 * rho.max())  # refuses arrays without entries

    empty = ga.ElementBlock("B", full.blocks[1].dofs[:0], ga.ScaledKernel(M0, law), {"m": none})
    with ga.ElementModel(N, [*full.blocks, empty], comm=comm).assemble(P) as pencil:
        assert pencil.B_proved


def test_refilled_pencil_forgets_the_proof(comm):
    model = model_of(comm, ga.ScaledKernel(M0))
    with model.assemble(P) as pencil:
        assert pencil.B_positive
        model.assemble(NEGATIVE, out=pencil)
        assert not pencil.B_positive
        model.assemble(P, out=pencil)
        assert pencil.B_positive


def test_pencil_changed_by_hand_forgets_the_proof(comm):
    with model_of(comm, ga.ScaledKernel(M0)).assemble(P) as pencil:
        pencil.B.scale(-1.0)
        pencil.entries_changed()
        assert not pencil.B_positive


def test_proof_of_b_says_nothing_of_a(comm):
    with model_of(comm, ga.ScaledKernel(M0)).assemble(P) as pencil:
        changed = matrix(nonsymmetric(N), comm)
        changed.copy(pencil.A, structure=changed.Structure.DIFFERENT_NONZERO_PATTERN)
        changed.destroy()
        pencil.entries_changed()
        pencil.B_proved = True
        assert not pencil.hermitian
        assert not pencil.definite


def test_shifted_matrix_has_all_entries(comm):
    """A and B of different patterns, and of the same one."""
    for a, b in ((np.eye(N), np.eye(N, k=1) + np.eye(N, k=-1)), (nonsymmetric(N),) * 2):
        with ga.Pencil(matrix(a, comm), matrix(b, comm), owned=True) as pencil:
            mat = pencil.shifted(0.5)
            columns = [mat.getValue(i, j) for i in range(N) for j in range(N)]
            mat.destroy()
        np.testing.assert_array_equal(np.reshape(columns, (N, N)), a - 0.5 * b)
