"""Users' products on any number of ranks: what they give, and what their exceptions do."""

import numpy as np
import pytest
import scipy.linalg
from builders import chain, chain_parameters
from distributed_operators import (
    CASES,
    POINT,
    N,
    arrays,
    derivative_arrays,
    operator,
    product,
    solved,
)
from mpi4py import MPI
from ranks import assert_from_the_last_rank, last, raised_everywhere

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

pytestmark = pytest.mark.timeout(60)


def dense_slopes(name):
    """Return the largest eigenvalue and its derivatives for b_0, b_1, a."""
    A, B = arrays(name, POINT)
    values, left, right = scipy.linalg.eig(A, B, left=True)
    j = np.argmax(values.real)
    y, x = left[:, j], right[:, j]
    slopes = [
        (y.conj() @ (dA - values[j] * dB) @ x / (y.conj() @ B @ x)).real
        for dA, dB in zip(*derivative_arrays(name), strict=True)
    ]
    return values[j], slopes


def linear(pairs):
    """Return an objective that solves a bordered system: sum of c_i Re x_i."""
    return obj.LinearOutput(np.linspace(1.0, 2.0, N)[slice(*pairs.rows)], 0)(pairs)


@pytest.mark.parametrize("name", CASES)
def test_largest_value_and_its_gradient(comm, name):
    model = operator(name, comm)
    value, slopes = dense_slopes(name)
    with solved(model) as pairs:
        found = ga.gradient(model, POINT, pairs, obj.Eigenvalue(0))
    # eps_tol 1e-12 (and 1e-13 of the inner solves with B) times conditions below 100
    assert np.isclose(pairs.values[0], value, rtol=1e-9)
    assert np.allclose(np.r_[found["b"], found["a"]], slopes, rtol=1e-8, atol=1e-9)


def difference_alone(name, h=1e-3):
    """Return the derivative for b rising and a falling by differences, on one rank."""
    model = operator(name, MPI.COMM_SELF)

    def value(step, pairs):
        moved = {"b": POINT["b"] + step, "a": POINT["a"] - step}
        with solved(model, moved, 1, like=pairs) as there:
            return linear(there)[0]

    with solved(model, count=1) as pairs:
        near, far = (value(step, pairs) - value(-step, pairs) for step in (h, 2 * h))
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_vector_objective_agrees_with_differences(comm, name):
    model = operator(name, comm)
    with solved(model, count=1) as pairs:
        gradient = ga.gradient(model, POINT, pairs, linear)

    expected = comm.bcast(difference_alone(name) if comm.rank == 0 else None)
    # h^4 times fifth derivatives of order 100, and 1e-12 / h of the eigensolver
    assert np.isclose(gradient["b"].sum() - gradient["a"][0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("matrix", ["a", "b"])
def test_missing_or_wrong_transpose_is_told_to_every_rank(comm, matrix):
    name = f"apply_{matrix}_hermitian"
    missing = operator("nonsymmetric B", comm, **{name: None})
    raised_everywhere(comm, ga.InputError, rf"pass {name}", missing.assemble, POINT)
    forward = product(comm, lambda p: arrays("nonsymmetric B", p)["ab".index(matrix)])
    wrong = operator("nonsymmetric B", comm, **{name: forward})
    raised_everywhere(comm, ga.InputError, rf"so {name} contradicts", wrong.assemble, POINT)


# -- exceptions in the middle of something --


class WornOutError(Exception):
    """Not one of the package's, nor one that Python raises by itself."""


class Fuse:
    """A product that raises at its n-th call, on the ranks where it is ``armed``."""

    def __init__(self, apply, call, armed):
        self.apply, self.left, self.armed = apply, call, armed

    def __call__(self, p, block):
        self.left -= 1
        result = self.apply(p, block)  # the others wait in here until all have come
        if self.left < 0 and self.armed:
            raise WornOutError("worn out")
        return result


def assembled(model):
    model.assemble(POINT).close()


def eigensolve(model):
    with solved(model, count=1):
        pass


def whole_chain(model):
    with solved(model, count=1) as pairs:
        return ga.gradient(model, POINT, pairs, linear)


STAGES = {"assemble": assembled, "solve": eigensolve, "gradient": whole_chain}
PRODUCTS = ["a", "a_hermitian", "b", "b_hermitian"]


def products_of(comm):
    """Return the four products of a good model, named as in `PRODUCTS`."""
    model = operator("nonsymmetric B", comm)
    return dict(zip(PRODUCTS, [*model._a, *model._b], strict=True))


@pytest.fixture(scope="module")
def calls(comm):
    """Return how often each stage calls each product, by fuses that never blow."""
    counts = {}
    for stage, action in STAGES.items():
        fuses = {name: Fuse(good, 10**9, armed=True) for name, good in products_of(comm).items()}
        action(operator("nonsymmetric B", comm, **{f"apply_{name}": fuses[name] for name in fuses}))
        counts[stage] = {name: 10**9 - fuse.left for name, fuse in fuses.items()}
    return counts


def works_again(comm):
    found = whole_chain(operator("nonsymmetric B", comm))
    assert np.isfinite(np.r_[found["b"], found["a"]]).all()


@pytest.mark.failure("exception in a callback", through="api")
@pytest.mark.parametrize(
    ("call", "everywhere"), [(0, False), (2, False), (7, False), (19, False), (7, True)]
)
def test_exception_of_an_early_call_reaches_the_user(comm, call, everywhere):
    model = operator("nonsymmetric B", comm)
    fuse = Fuse(model._a[0], call, armed=everywhere or last(comm))
    worn = operator("nonsymmetric B", comm, apply_a=fuse)
    error = raised_everywhere(comm, WornOutError, r"^worn out", whole_chain, worn)
    {True: lambda *_: None, False: assert_from_the_last_rank}[everywhere](comm, error)
    works_again(comm)


@pytest.mark.parametrize("product_of", PRODUCTS)
def test_exception_of_the_last_call_of_a_stage(comm, calls, product_of):
    good = products_of(comm)[product_of]
    # All at once is what one rank does, too: once is enough.
    everywhere = [("gradient", True)] * (product_of == "a_hermitian")
    for stage, armed in [*((stage, last(comm)) for stage in STAGES), *everywhere]:
        fuse = Fuse(good, calls[stage][product_of] - 1, armed=armed)
        worn = operator("nonsymmetric B", comm, **{f"apply_{product_of}": fuse})
        raised_everywhere(comm, WornOutError, r"^worn out", STAGES[stage], worn)
    works_again(comm)


def test_stages_call_the_product_in_turn(calls):
    counts = [calls[stage]["a_hermitian"] for stage in STAGES]
    assert 0 < counts[0] < counts[1] < counts[2]


def test_vjp_that_raises(comm):
    def vjp(*_):
        raise WornOutError("worn out")

    model = operator("nonsymmetric", comm, vjp=vjp)
    raised_everywhere(comm, WornOutError, r"worn out", whole_chain, model)
    works_again(comm)


def test_other_models_still_work(comm):
    model, p = chain(N, comm), chain_parameters(N)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        assert np.isfinite(ga.gradient(model, p, pairs, linear)["k"]).all()
