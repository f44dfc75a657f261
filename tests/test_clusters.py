"""Repeated and nearly repeated eigenvalues: what is a function of the whole cluster is exact."""

import warnings

import numpy as np
import pytest
from pencils import COMPLEX_BUILD, petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

GAPS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 0.0]
SCALES = [1e-6, 1.0, 1e6]
N = 9
RHO = 3.0


def orthogonal(rng, n):
    draws = [rng.standard_normal((n, n)), 1j * rng.standard_normal((n, n))]
    return np.linalg.qr(sum(draws[1 : 1 + COMPLEX_BUILD], draws[0]))[0]


class Cluster:
    """A = scale L Q diag Q^H L^H, B = L L^H: a double value with a relative gap, known vectors."""

    def __init__(self, comm, gap, scale):
        rng = np.random.default_rng(3)
        self.lam = scale * np.r_[1.0, 2.0, 2.0 * (1 + gap), 3.7, 5.0, 6.4, 7.9, 9.1, 10.4]
        L = np.eye(N) + 0.2 * orthogonal(rng, N)
        Q = orthogonal(rng, N)
        self.V = np.linalg.solve(L.conj().T, Q)  # V^H B V = 1
        self.A = L @ Q @ np.diag(self.lam) @ Q.conj().T @ L.conj().T
        self.B = L @ L.conj().T
        self.A, self.B = ((M + M.conj().T) / 2 for M in (self.A, self.B))
        self.directions = [
            tuple((M + M.conj().T) / 2 for M in (scale * orthogonal(rng, N), orthogonal(rng, N)))
            for _ in range(3)
        ]
        self.mats = [petsc_matrix(comm, M) for M in (self.A, self.B)]
        pairs = [tuple(petsc_matrix(comm, M) for M in pair) for pair in self.directions]
        self.mats += [M for pair in pairs for M in pair]
        self.model = ga.MatrixModel(*self.mats[:2], {"p": pairs})
        self.p = {"p": np.zeros(3)}
        self.weight = np.linspace(0.3, 2.0, N) ** 2

    def close(self):
        for mat in self.mats:
            mat.destroy()

    def gradients(self, objectives, count=3, **settings):
        with (
            self.model.assemble(self.p) as pencil,
            ga.solve_eigenproblem(pencil, count) as pairs,
        ):
            assert pairs.count == count
            found = ga.gradient(self.model, self.p, pairs, objectives, **settings)
        return [item["p"] for item in found]

    def spectral(self, f, slope):
        """Derivative of sum f(lam_j) v_j^H D v_j over the first three by divided differences of
        exact values: shares no code with the package."""
        lam, V = self.lam, self.V
        D = V.conj().T @ np.diag(self.weight) @ V
        inside = np.arange(N) < 3
        F = np.where(inside, f(lam), 0.0)
        close = np.abs(lam[:, None] - lam) < 1e-4 * np.abs(lam)

        def differences(values, derivative):
            with np.errstate(all="ignore"):
                quotient = (values[:, None] - values) / (lam[:, None] - lam)
            middle = 0.5 * (lam[:, None] + lam)
            limit = np.where(inside[:, None] & inside, derivative(middle), 0.0)
            return np.where(close, limit, quotient)

        first = differences(F, slope)
        second = differences(lam * F, lambda at: f(at) + at * slope(at))
        return np.array(
            [
                np.sum(D.T * (first * (V.conj().T @ dA @ V) - second * (V.conj().T @ dB @ V))).real
                for dA, dB in self.directions
            ]
        )


@pytest.fixture(params=SCALES, ids="scale={:g}".format)
def scale(request):
    return request.param


@pytest.fixture(params=GAPS, ids="gap={:g}".format)
def cluster(comm, request, scale):
    made = Cluster(comm, request.param, scale)
    yield made
    made.close()


def whole_sum(pairs):
    return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(3))


def relative(found, exact):
    return np.abs(found - exact).max() / np.abs(exact).max()


def test_cluster_safe_objectives_on_the_ladder_of_gaps(comm, cluster, scale):
    own = slice(*cluster.mats[0].getOwnershipRange())
    weight = cluster.weight[own]

    def exponential(lam):
        return np.exp(-lam / scale)

    def its_slope(lam):
        return -np.exp(-lam / scale) / scale

    found = cluster.gradients(
        [
            obj.QuadraticForm(weight, pairs=(0, 1, 2)),
            obj.SpectralFunction(weight),
            obj.SpectralFunction(weight, exponential),
            obj.SpectralFunction(weight, exponential, its_slope),
            whole_sum,
            obj.KSMinimum(rho=RHO / scale, of="eigenvalue"),
        ]
    )
    projector = cluster.spectral(np.ones_like, np.zeros_like)
    smooth = cluster.spectral(exponential, its_slope)
    V, lam = cluster.V, cluster.lam
    rates = np.array(
        [
            [(V[:, j].conj() @ (dA - lam[j] * dB) @ V[:, j]).real for j in range(3)]
            for dA, dB in cluster.directions
        ]
    )
    w = np.exp(-RHO / scale * (lam[:3] - lam[0]))
    for gradient, exact in zip(
        found,
        [projector, projector, smooth, smooth, rates.sum(axis=1), rates @ w / w.sum()],
        strict=True,
    ):
        assert relative(gradient, exact) < 1e-8


# -- what is not a function of the cluster --


@pytest.fixture
def double(comm):
    made = Cluster(comm, 0.0, 1.0)
    yield made
    made.close()


def one_member(weight):
    return obj.QuadraticForm(weight, pairs=(1,))


def unequal(weight):
    def objective(pairs):
        x = pairs.right[:, 1:3] * np.array([1.0, 2.0])
        value = pairs.comm.allreduce(float(np.sum(weight[:, None] * np.abs(x) ** 2)))
        x_bar = np.zeros_like(pairs.right)
        x_bar[:, 1:3] = 2 * weight[:, None] * x * np.array([1.0, 2.0])
        return value, ga.EigenCotangent(right=x_bar)

    return objective


def left_member(weight):
    def objective(pairs):
        y_bar = np.zeros_like(pairs.left)
        y_bar[:, 2] = 2 * weight * pairs.left[:, 2]
        value = pairs.comm.allreduce(float(np.sum(weight * np.abs(pairs.left[:, 2]) ** 2)))
        return value, ga.EigenCotangent(left=y_bar)

    return objective


@pytest.mark.parametrize("make", [one_member, unequal, left_member])
def test_members_told_apart_are_refused(comm, double, make):
    own = slice(*double.mats[0].getOwnershipRange())
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"different weights") as caught:
        double.gradients([make(double.weight[own])])
    assert set(caught.value.members) == {1, 2}
    assert caught.value.gap < 1e-12


def test_a_constant_form_on_the_cluster_does_not_hide_a_single_member(comm):
    """On the square's first double value a linear weight is a multiple of the identity: the value
    of x^T D x is the same for every x there, its derivative is not."""
    n = 4
    line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A = petsc_matrix(comm, np.kron(line, np.eye(n)) + np.kron(np.eye(n), line))
    unit = petsc_matrix(comm, np.diag(np.eye(n * n)[3]))
    model = ga.MatrixModel(A, None, {"p": [(unit, None)]})
    p = {"p": np.zeros(1)}
    weight = 1.0 + np.arange(*A.getOwnershipRange())
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        assert pairs.clusters == ((0,), (1, 2))
        with pytest.raises(ga.DegenerateEigenvalueError, match=r"different weights"):
            ga.gradient(model, p, pairs, obj.QuadraticForm(weight, (1,)))
        ga.gradient(model, p, pairs, obj.QuadraticForm(weight, (1, 2)))
    A.destroy()
    unit.destroy()


def test_half_a_cluster_is_no_spectral_function(comm, double):
    own = slice(*double.mats[0].getOwnershipRange())
    function = obj.SpectralFunction(double.weight[own], pairs=(0, 1))
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"whole cluster"):
        double.gradients([function])


WRONG_FUNCTIONS = {
    "pairs must be indices": {"pairs": (0, 7)},
    "finite numbers": {"function": lambda lam: np.full(lam.shape, np.nan)},
    "analytic": {"function": abs},
}


@pytest.mark.parametrize("match", WRONG_FUNCTIONS)
def test_wrong_spectral_functions(comm, double, match):
    own = slice(*double.mats[0].getOwnershipRange())
    with pytest.raises(ga.errors.InputError, match=match):
        double.gradients([obj.SpectralFunction(double.weight[own], **WRONG_FUNCTIONS[match])])


def test_spectral_functions_need_b_orthonormal_vectors(comm, double):
    with (
        double.model.assemble(double.p) as pencil,
        ga.solve_eigenproblem(pencil, 3, normalization="2") as pairs,
    ):
        weight = double.weight[slice(*pairs.rows)]
        with pytest.raises(ga.errors.InputError, match="normalization"):
            ga.gradient(double.model, double.p, pairs, obj.SpectralFunction(weight))


def test_span_needs_a_hermitian_pencil(comm):
    A = petsc_matrix(comm, np.diag([1.0, 2.0, 3.0]) + 0.5 * np.eye(3, k=1))
    dA = petsc_matrix(comm, np.eye(3))
    model = ga.MatrixModel(A, None, {"p": [(dA, None)]})
    p = {"p": np.zeros(1)}

    def objective(pairs):
        return 1.0, ga.EigenCotangent(span=(np.eye(2), np.eye(2)))

    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
        pytest.raises(ga.errors.InputError, match="span= needs"),
    ):
        ga.gradient(model, p, pairs, objective)
    A.destroy()
    dA.destroy()


def test_messages_name_what_was_asked_for(comm):
    # A semisimple double value of a matrix that is not symmetric: each remedy is one that helps.
    S = np.eye(4) + 0.3 * np.eye(4, k=1)
    A = S @ np.diag([1.0, 1.0, 3.0, 5.0]) @ np.linalg.inv(S)
    mat = petsc_matrix(comm, A)
    with ga.MatrixModel(mat, None, {"p": [(petsc_matrix(comm, np.eye(4, k=2)), None)]}) as model:
        p, p_dot = {"p": np.zeros(1)}, {"p": np.ones(1)}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
            refused = pytest.raises(ga.DegenerateEigenvalueError, match=r"vectors of clusters")
            with refused:
                ga.gradient(model, p, pairs, obj.QuadraticForm(np.ones(4), (0, 1)))
            with pytest.raises(ga.DegenerateEigenvalueError, match=r"simple to have.*columns= of"):
                ga.jvp(model, p, pairs, p_dot)
            found = ga.jvp(model, p, pairs, p_dot, columns=[2])
            assert np.isfinite(found.values).all()


@pytest.mark.parametrize(("rho", "warned"), [(1.0, True), (40.0, False)])
def test_smooth_minimum_that_depends_on_what_was_not_computed_warns(comm, rho, warned):
    mat = petsc_matrix(comm, np.diag([1.0, 1.1, 1.7, 2.0, 3.0]))
    with ga.Pencil(mat) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            obj.KSMinimum(rho=rho, of="eigenvalue")(pairs)
            obj.KSMinimum(rho=rho, of="eigenvalue", pairs=(0, 1, 2))(pairs)
        assert [issubclass(item.category, ga.TruncationWarning) for item in seen] == [True] * warned
    with (
        ga.Pencil(mat) as pencil,
        ga.solve_eigenproblem(pencil, 5) as pairs,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        obj.KSMinimum(rho=rho, of="eigenvalue")(pairs)  # all there are
