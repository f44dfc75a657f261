"""Contractions and products of elements against the plain sums over their dense matrices."""

from functools import partial

import numpy as np
import pytest
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import contraction, energies, laws

N, COUNT, ND = 23, 40, 4
RTOL = 1e-13
"""Sums of some hundred products of numbers of order 1, in another order."""


def numbers(rng, shape, kind):
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind == "complex" else 0)


def dofs_of(rng, nd=ND, count=COUNT):
    """All rows, in elements in which a dof may come twice, and constrained ones."""
    return np.vstack([
        rng.integers(-1, N, size=(count - N, nd)),
        np.column_stack([np.arange(N), np.full((N, nd - 1), -1)]),
    ])  # fmt: skip


class Own:
    """A kernel of ones own with the same matrices: contracted by its own rule."""

    def __init__(self, base):
        self.base = base

    def matrices(self, values, rows):
        return next(iter(values.values()))[:, None, None] ** 3 * self.base

    def derivative(self, values, dots, rows):
        (rho,), (dot,) = values.values(), dots.values()
        return (3 * rho**2 * dot)[:, None, None] * self.base

    def vjp(self, values, left, right, rows):
        name, rho = next(iter(values.items()))
        assert left.flags.c_contiguous and right.flags.c_contiguous  # noqa: PT018
        return {name: 3 * rho**2 * np.einsum(
            "eaj,ab,ebj->e", left.conj(), self.base, right, optimize=True).real}  # fmt: skip

    def vjp_tangent(self, values, dots, left, right, rows):
        (rho,), (name, dot) = values.values(), *dots.items()
        return {name: 6 * rho * dot * np.einsum(
            "eaj,ab,ebj->e", left.conj(), self.base, right, optimize=True).real}  # fmt: skip


def blocks_of(rng, base):
    """A and B share a mesh, a second A block has other elements; ids repeat, or are in order."""
    dofs, other = dofs_of(rng), dofs_of(rng, 3, 30)
    K = numbers(rng, (4, ND, ND), base)
    stored = numbers(rng, (30, 3, 3), base)
    cube = partial(ga.ScaledKernel, law=ga.PowerLaw(3.0))
    return [
        ga.ElementBlock("A", dofs, cube(K[0]), {"q": np.arange(COUNT)}),
        ga.ElementBlock("B", dofs, cube(K[1]), {"q": np.arange(COUNT)[::-1].copy()}),
        ga.ElementBlock("A", other, cube(stored), {"q": rng.integers(0, COUNT, 30)}),
        ga.ElementBlock("B", dofs, Own(K[2]), {"one": np.zeros(COUNT, dtype=int)}),
        ga.ElementBlock("A", dofs, Own(K[3]), {"one": np.zeros(COUNT, dtype=int)}),
    ]


def dense_sums(blocks, p, weight):
    """Return A and B as sums over elements, each weighted by weight(value, id, name)."""
    sums = np.zeros((2, N + 1, N + 1), dtype=complex)
    for block in blocks:
        (name, ids), K = next(iter(block.parameters.items())), block.kernel.base
        for e, row in enumerate(block.dofs):  # the row -1 is the last one
            matrix = K if K.ndim == 2 else K[e]
            np.add.at(sums["AB".index(block.matrix)], (row[:, None], row), matrix
                      * weight(p[name][ids[e]], ids[e], name))  # fmt: skip
    return sums[:, :N, :N]


def expected_gradient(blocks, p, sides, weight):
    found = {name: np.zeros(len(value)) for name, value in p.items()}
    for name, value in found.items():
        for i in range(len(value)):
            dA, dB = dense_sums(blocks, p, lambda v, j, other, at=(i, name): (
                weight(v, j, other) * (at == (j, other))))  # fmt: skip
            left_a, left_b, right = sides
            value[i] = np.sum(left_a.conj() * (dA @ right) + left_b.conj() * (dB @ right)).real
    return found


def slope(value, _id, _name):
    return 3 * value**2


P = {"q": np.linspace(0.5, 1.5, COUNT), "one": np.array([0.7])}
P_DOT = {"q": np.cos(np.arange(COUNT)), "one": np.array([-0.4])}


def bend(value, i, name):
    return 6 * value * P_DOT[name][i]


VECTORS = ["real", "complex", "left complex", "right complex"]


def sides_of(rng, kind, k=3):
    """Left vectors of A and B, and right ones of which one comes twice."""
    left = "complex" if kind in {"complex", "left complex"} else "real"
    right = "complex" if kind in {"complex", "right complex"} else "real"
    X = numbers(rng, (N, k), right)
    return (
        numbers(rng, (N, k + 1), left),
        numbers(rng, (N, k + 1), left),
        np.asfortranarray(np.hstack([X, X[:, :1]])),
    )


def same(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=RTOL * np.abs(value).max())


@pytest.mark.parametrize("base", ["real", "complex"])
@pytest.mark.parametrize("kind", VECTORS)
def test_contractions_are_sums_over_elements(comm, monkeypatch, base, kind):
    monkeypatch.setattr(energies, "CACHED_ENTRIES", 70)  # several batches
    rng = np.random.default_rng(3)
    blocks, sides = blocks_of(rng, base), sides_of(rng, kind)
    with ga.ElementModel(N, blocks, comm=comm) as model:
        same(model.contract(P, *sides), expected_gradient(blocks, P, sides, slope))
        same(model.contract_tangent(P, P_DOT, *sides), expected_gradient(blocks, P, sides, bend))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_any_number_of_vectors(comm, k):
    rng = np.random.default_rng(4)
    blocks, sides = blocks_of(rng, "real"), [rng.normal(size=(N, k)) for _ in range(3)]
    with ga.ElementModel(N, blocks, comm=comm) as model:
        found = model.contract(P, *sides)
    expected = expected_gradient(blocks, P, sides, slope)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-11)


@pytest.mark.parametrize("base", ["real", "complex"])
@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("hermitian", [False, True])
def test_products_are_sums_over_elements(comm, monkeypatch, base, kind, hermitian):
    monkeypatch.setattr(energies, "CACHED_ENTRIES", 70)
    rng = np.random.default_rng(5)
    blocks, right = blocks_of(rng, base), sides_of(rng, kind)[2]
    dense = dense_sums(blocks, P, lambda v, i, name: slope(v, i, name) * P_DOT[name][i])
    turned = {False: dense, True: dense.conj().transpose(0, 2, 1)}[hermitian]
    with ga.ElementModel(N, blocks, comm=comm) as model:
        found = model.tangent(P, P_DOT, right, hermitian=hermitian)
        values = model.multiply(P, right)
    expected = dense_sums(blocks, P, lambda v, i, name: v**3)
    for i in range(2):
        np.testing.assert_allclose(found[i], turned[i] @ right, rtol=0, atol=1e-12)
        np.testing.assert_allclose(values[i], expected[i] @ right, rtol=0, atol=1e-12)
        assert found[i].dtype == np.result_type(right, blocks[0].kernel.base)


def test_distributed_parameters_get_the_same_sums(comm):
    rng = np.random.default_rng(6)
    blocks, sides = blocks_of(rng, "real"), sides_of(rng, "real")
    q = PETSc.Vec().createMPI(COUNT, comm=comm)
    q.array[:] = P["q"]
    with ga.ElementModel(N, blocks, comm=comm) as model:
        found, expected = model.contract({**P, "q": q}, *sides), model.contract(P, *sides)
    same({"q": found["q"].array_r.real, "one": found["one"]}, expected)
    for vector in (q, found["q"]):
        vector.destroy()


# -- what is left out --


def counted(monkeypatch):
    """Return a list that gets the doubles of every gathered array."""
    taken = []

    def at(self, table, rows, plain=ga.Ghosts.at):
        found = plain(self, table, rows)
        taken.append(found.nbytes // 8)
        return found

    monkeypatch.setattr(ga.Ghosts, "at", at)
    return taken


def plain_model(comm):
    blocks = blocks_of(np.random.default_rng(7), "real")[:2]
    return ga.ElementModel(N, blocks, comm=comm), {"q": P["q"]}


CASES = {
    "all differ": (lambda a, b, x: (a, b, x), 3 * 3),
    "repeated": (lambda a, b, x: (np.hstack([a, b]), np.hstack([b, a]), np.hstack([x, x])), 3 * 3),
    "zero B": (lambda a, b, x: (a, 0 * b, x), 2 * 3),
    "zero A": (lambda a, b, x: (0 * a, b, x), 2 * 3),
    "nothing": (lambda a, b, x: (0 * a, 0 * b, x), 0),
    "no imaginary part": (lambda a, b, x: (a + 0j, b + 0j, x + 0j), 3 * 3),
    "one imaginary part": (lambda a, b, x: (a, b, x + 1j * (np.arange(N) == N - 1)[:, None]), 18),
}


@pytest.mark.parametrize("case", CASES)
def test_doubles_gathered_per_dof(comm, monkeypatch, case):
    rng = np.random.default_rng(8)
    change, columns = CASES[case]
    sides = change(*(rng.normal(size=(N, 3)) for _ in range(3)))
    model, p = plain_model(comm)
    taken = counted(monkeypatch)
    with model:
        found = model.contract(p, *sides)
    assert sum(taken) == COUNT * ND * columns
    expected = expected_gradient(model.blocks, p, sides, slope)
    np.testing.assert_allclose(found["q"], expected["q"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("row", [0, 11, N - 1])
def test_columns_that_differ_in_one_row_are_not_added(comm, row):
    x = np.random.default_rng(9).normal(size=(N, 1))
    sides = contraction.sides(comm, *[np.hstack([x, x + (np.arange(N) == row)[:, None]])] * 3)
    assert sides.right.shape == (N, 2)


def test_rows_between_the_probes_count():
    block = np.zeros((10 * contraction.PROBES, 2))
    block[7, 1] = 1e-300
    assert not contraction._vanishes(block)
    assert not contraction._equal_columns(block)[0, 1]
    assert contraction._equal_columns(block[:, [0, 0]]).all()


# -- laws --


class Doubled(ga.PowerLaw):
    def __call__(self, rho):
        return 2 * super().__call__(rho)


@pytest.mark.parametrize(
    ("law", "at", "expected"),
    [
        (ga.Linear(), 0.3, 1.0),
        (ga.PowerLaw(3.0, 0.1), 0.5, 0.75),
        (ga.PowerLaw(2.5), 0.25, 2.5 * 0.125),
        (ga.PowerLaw(0.0), 0.0, 0.0),
        (Doubled(3.0), 0.5, 1.5),
        (np.exp, 0.0, 1.0),
    ],
)
def test_slopes_of_laws(law, at, expected):
    assert laws.slope(law, np.array([at]))[0] == pytest.approx(expected, rel=1e-14)


def test_laws_with_complex_coefficients_are_refused():
    with pytest.raises(ga.InputError, match=r"a law must return real numbers .* complex128"):
        laws.slope(ga.PowerLaw(3.0, 1j), np.ones(4))


class Destructive(Own):
    """A kernel that changes what it gets."""

    def vjp(self, values, left, right, rows):
        found = super().vjp(values, left, right, rows)
        left[:], right[:] = np.nan, np.nan
        return found


def test_kernels_may_change_the_arrays_they_get(comm):
    rng = np.random.default_rng(10)
    dofs, bases = dofs_of(rng), rng.normal(size=(3, ND, ND))
    cube = ga.ScaledKernel(bases[2], ga.PowerLaw(3.0))
    kernels = [Destructive(bases[0]), Destructive(bases[1]), cube]
    blocks = [ga.ElementBlock("A", dofs, kernel, {"q": np.arange(COUNT)}) for kernel in kernels]
    sides = [rng.normal(size=(N, 2)) for _ in range(3)]
    with ga.ElementModel(N, blocks, comm=comm) as model:
        found = model.contract({"q": P["q"]}, *sides)
    same(found, expected_gradient(blocks, {"q": P["q"]}, sides, slope))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_taken_as_numbers(comm, dtype):
    rng = np.random.default_rng(11)
    right = (rng.normal(size=(N, 2)) * np.ones(1, dtype=dtype)).astype(dtype)
    model, p = plain_model(comm)
    expected = dense_sums(model.blocks, p, lambda v, i, name: v**3)
    with model, model.assemble(p) as pencil:
        found = model.multiply(p, right)
        ghosts = ga.Ghosts(pencil, np.arange(N))
        total = np.zeros((N, 2), dtype=dtype)
        ghosts.add(right, total)
    assert np.array_equal(total, right)
    for i in range(2):
        np.testing.assert_allclose(found[i], expected[i] @ right, rtol=0, atol=1e-12)
