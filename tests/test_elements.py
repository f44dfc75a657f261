"""`ElementModel` and `Ghosts`: sums of elements, and element tables that are wrong."""

import numpy as np
import pytest
from builders import C0, K0, M0, REAL, chain, chain_dofs, chain_parameters, dense, mass, stiffness

import geneig_adjoint as ga
from geneig_adjoint import element_blocks

N = 6
DOFS = chain_dofs(N)
IDS = np.arange(N + 1)
P = chain_parameters(N)


def block(**changes):
    fields = {"matrix": "A", "dofs": DOFS, "kernel": ga.ScaledKernel(K0), "parameters": {"k": IDS}}
    return ga.ElementBlock(**{**fields, **changes})


def expected_matrices(p, base=K0):
    """Sum the chain's elements one by one."""
    A, B = np.zeros((N, N)), np.zeros((N, N))
    for e, dofs in enumerate(DOFS):
        for i, row in enumerate(dofs):
            for j, column in enumerate(dofs):
                if min(row, column) >= 0:
                    A[row, column] += (0.01 + p["k"][e] ** 2) * base[i, j]
                    B[row, column] += p["m"][e] * M0[i, j]
    return A, B


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
def test_matrices_are_the_sums_of_the_elements(comm, base):
    A, B = expected_matrices(P, base)
    with chain(N, comm, base=base) as model, model.assemble(P) as pencil:
        # a few roundings per entry
        assert np.allclose(dense(pencil.A), A, rtol=1e-14, atol=1e-15)
        assert np.allclose(dense(pencil.B), B, rtol=1e-14, atol=1e-15)


def test_uniform_chain_is_the_known_matrix(comm):
    p = {"k": np.full(N + 1, np.sqrt(0.99)), "m": np.ones(N + 1)}
    with chain(N, comm).assemble(p) as pencil:
        assert np.allclose(dense(pencil.A), stiffness(N), rtol=1e-14, atol=1e-15)
        assert np.allclose(dense(pencil.B), mass(N), rtol=1e-14, atol=1e-15)


def test_model_without_b_blocks_has_no_b(comm):
    with ga.ElementModel(N, [block()], comm=comm).assemble({"k": P["k"]}) as pencil:
        assert pencil.B is None
        assert pencil.problem_type == "hep"


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int16])
def test_integer_types_of_dofs_and_ids(comm, dtype):
    model = ga.ElementModel(
        N, [block(dofs=DOFS.astype(dtype), parameters={"k": IDS.astype(dtype)})], comm=comm
    )
    with model.assemble({"k": np.ones(N + 1)}) as pencil:
        assert np.allclose(dense(pencil.A), stiffness(N), rtol=1e-14, atol=1e-15)


def test_batches_do_not_change_anything(comm, monkeypatch):
    objective = ga.objectives.LinearOutput(np.arange(1.0, N + 1), 0)
    found = []
    for entries in (4_000_000, 9):  # two elements of four entries at a time
        monkeypatch.setattr(element_blocks, "BATCH_ENTRIES", entries)
        model = chain(N, comm, base=K0 + C0)
        with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            tangent = ga.jvp(model, P, pairs, P).right
            products = dense(ga.derivative_products(model, P, np.ones(N), "k")[0])
            gradient = ga.gradient(model, P, pairs, objective)
            found.append((dense(pencil.A), tangent, products, gradient["k"], gradient["m"]))
    for whole, batched in zip(*found, strict=True):
        assert np.allclose(whole, batched, rtol=1e-12, atol=1e-14)


def test_one_element_and_one_dof(comm):
    model = ga.ElementModel(
        1,
        [block(dofs=np.array([[-1, 0]]), parameters={"k": np.array([0])})],
        comm=comm,
    )
    p = {"k": np.array([3.0])}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        assert np.allclose(pairs.values, 3.0, rtol=1e-14)
        g = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
    assert np.allclose(g["k"], [1.0], rtol=1e-14)


def test_element_with_the_same_dof_twice(comm):
    # Periodic ends: entries of one element that fall on each other are added.
    model = ga.ElementModel(
        1,
        [
            block(
                dofs=np.array([[0, 0]]), kernel=ga.ScaledKernel(M0), parameters={"k": np.array([0])}
            )
        ],
        comm=comm,
    )
    with model.assemble({"k": np.ones(1)}) as pencil:
        assert np.allclose(dense(pencil.A), M0.sum(), rtol=1e-15)


# -- tables that are wrong --

FEW = DOFS[:, :1]
WRONG = {
    "no A": ({"matrix": "B"}, r'must fill A, got none with matrix="A"'),
    "other matrix": ({"matrix": "C"}, r"must fill A"),
    "flat dofs": ({"dofs": DOFS.ravel()}, r"array of shape \(n_elements, nd\), got .*\(14,\)"),
    "float dofs": ({"dofs": DOFS * 1.0}, r"dofs must be integers, got dtype float64; .*astype"),
    "dof too large": ({"dofs": DOFS + 1}, r"lie in -1 ... 5, got 6 at \(5, 1\) and 1 more"),
    "dof below -1": ({"dofs": DOFS - 1}, r"lie in -1 ... 5, got -2 at \(0, 0\) and 1 more"),
    "float ids": ({"parameters": {"k": IDS * 1.0}}, r"ids of 'k' must be integers, one row per el"),
    "few ids": ({"parameters": {"k": IDS[1:]}}, r"one row per element \(7\), got shape \(6,\)"),
    "negative id": ({"parameters": {"k": IDS - 1}}, r"must not be negative, got -1 at element 0"),
    "id below -1": (
        {"parameters": {"k": np.stack([IDS, IDS - 2], axis=1)}},
        r"must not be negative, got -2 at element 0; .*-1, for the value 0, in tables with several",
    ),
    "K0 shape": ({"kernel": ga.ScaledKernel(np.eye(3))}, r"K0 must have shape \(2, 2\) or \(7, "),
    "two parameters": (
        {"parameters": {"k": IDS, "m": IDS}},
        r"takes one parameter with one id .*\['k', 'm'\]",
    ),
    "wide ids": ({"parameters": {"k": DOFS + 1}}, r"takes one parameter with one id per element"),
    "no parameter": ({"parameters": {}}, r"takes one parameter with one id per element, got \[\]"),
    "data": (
        {"kernel": ga.NumpyKernel(lambda k, a: k, {"a": np.ones(3)})},
        r"data 'a' must have 7 rows, one per element, got shape \(3,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_table_is_named(comm, case):
    changes, match = WRONG[case]
    with pytest.raises(ga.InputError, match=match):
        ga.ElementModel(N, [block(**changes)], comm=comm)


def test_unknown_matrix_beside_a(comm):
    with pytest.raises(
        ga.InputError, match=r'element block 1: matrix must be "A" or "B", got \'C\''
    ):
        ga.ElementModel(N, [block(), block(matrix="C")], comm=comm)


def test_note_names_the_block(comm):
    with pytest.raises(ga.InputError, match=r"dofs must lie in") as caught:
        ga.ElementModel(N, [block(), block(matrix="B", dofs=DOFS + 1)], comm=comm)
    assert "in element block 1" in caught.value.__notes__


def test_dof_without_element(comm):
    with pytest.raises(
        ga.InputError, match=r"every dof must belong.*got dof 2 and 1 more.*renumber"
    ):
        ga.ElementModel(N + 2, [block(dofs=np.where(DOFS >= 2, DOFS + 2, DOFS))], comm=comm)


@pytest.mark.parametrize("n_local", [5, 7, 0])
def test_own_rows_must_add_up(comm, n_local):
    with pytest.raises(ga.InputError, match=rf"must add up to n = 6.*got \[{n_local}\]"):
        chain(N, comm, n_local=n_local)


# -- kernels that misbehave --


def model_of(comm, function):
    return ga.ElementModel(N, [block(kernel=ga.NumpyKernel(function))], comm=comm)


def test_kernel_of_wrong_shape(comm):
    model = model_of(comm, lambda k: np.ones((k.size, 3, 3)))
    with pytest.raises(
        ga.InputError, match=r"block 0 must return shape \(7, 2, 2\), got \(7, 3, 3\)"
    ):
        model.assemble({"k": np.ones(7)})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernel_that_is_not_finite_names_the_element(comm, bad):
    def function(k):
        return np.where(np.isin(np.arange(7), [3, 5]), bad, k)[:, None, None] * K0

    with pytest.raises(ga.InputError, match=r"NaN or Inf in 2 elements of block 0, .*element 3"):
        model_of(comm, function).assemble({"k": np.ones(7)})


class ComplexKernel:
    def matrices(self, values, rows):
        return values["k"][:, None, None] * (K0 + 1j * C0)


def complex_is_refused(model, p):
    with pytest.raises(
        ga.InputError, match=r"matrices of element block 0 must be real.*complex build"
    ):
        model.assemble(p)


def complex_is_assembled(model, p):
    with model.assemble(p) as pencil:
        assert np.abs(dense(pencil.A).imag).max() == 0.5


def test_complex_element_matrices(comm):
    check = complex_is_refused if REAL else complex_is_assembled
    check(ga.ElementModel(N, [block(kernel=ComplexKernel())], comm=comm), {"k": np.ones(7)})


@pytest.mark.parametrize("block_type", [float, int, complex])
def test_products_keep_what_blocks_and_elements_hold(comm, block_type):
    model = ga.ElementModel(N, [block(kernel=ga.ScaledKernel(K0 + 1j * C0))], comm=comm)
    p = {"k": np.linspace(1.0, 2.0, 7)}
    right = np.arange(model.rows[0], model.rows[1])[:, None]
    for products in (
        lambda block: model.multiply(p, block)[0],
        lambda block: model.tangent(p, p, block)[0],
        lambda block: model.tangent(p, p, block, hermitian=True)[0],
    ):
        expected = products(right + 0j)
        assert np.abs(expected.imag).max() > 1
        assert np.array_equal(products(right.astype(block_type)), expected)


def test_kernels_own_exception_comes_through(comm):
    def function(k):
        raise ZeroDivisionError("element of no volume")

    with pytest.raises(ZeroDivisionError, match=r"no volume"):
        model_of(comm, function).assemble({"k": np.ones(7)})


# -- Ghosts --


class Watched(ga.ScaledKernel):
    """Notes how many numbers come with a batch."""

    def vjp(self, values, left, right, rows):
        SEEN.append(3 * left.size)
        return super().vjp(values, left, right, rows)

    def derivative(self, values, dots, rows):
        SEEN.append(COLUMNS * len(K0) * len(values["k"]))
        return super().derivative(values, dots, rows)


SEEN: list[int] = []
COLUMNS = 5


def test_batches_are_bounded_in_the_vectors_too(comm, monkeypatch):
    monkeypatch.setattr(element_blocks, "BATCH_ENTRIES", bound := 3 * COLUMNS * 2 * 2)
    model = ga.ElementModel(N, [block(kernel=Watched(K0))], comm=comm)
    p, vectors = {"k": np.ones(7)}, np.ones((N, COLUMNS))
    for use in (
        lambda: model.contract(p, vectors, vectors, vectors),
        lambda: model.tangent(p, p, vectors),
    ):
        SEEN.clear()
        use()
        assert max(SEEN) <= bound
        assert len(SEEN) > 1
