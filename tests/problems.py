"""Gallery of small pencils.

Every problem is asymmetric on purpose (no equal entries, B far from the identity, derivatives of
another pattern than the matrices) and has simple, well separated eigenvalues near its target.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import scipy.linalg
from assembled_chain import assembled_problem
from element_problems import advection_problem, bar_problem
from pencils import COMPLEX_BUILD, Array, Problem, petsc_matrix

import geneig_adjoint as ga


def matrix_problem(name, A, B, derivatives, traits, **changes) -> Problem:
    """A(p) = A + sum p_i dA_i, B likewise, for pairs (dA_i, dB_i) of dense matrices or None."""
    rng = np.random.default_rng(11)
    m = len(derivatives)

    def dense(p):
        result = [A.copy(), None if B is None else B.copy()]
        for weight, pair in zip(p["p"], derivatives, strict=True):
            result = [
                base if d is None else base + weight * d
                for base, d in zip(result, pair, strict=True)
            ]
        return tuple(result)

    @contextmanager
    def model(comm):
        mats = []

        def distributed(matrix):
            mats.append(petsc_matrix(comm, matrix))
            return mats[-1]

        def optional(matrix):
            return None if matrix is None else distributed(matrix)

        pairs = [tuple(optional(d) for d in pair) for pair in derivatives]
        with ga.MatrixModel(distributed(A), optional(B), {"p": pairs}) as made:
            yield made
        for mat in reversed(mats):
            mat.destroy()

    p, p_dot = {"p": rng.uniform(0.1, 0.3, m)}, {"p": rng.uniform(0.5, 1.0, m)}
    return replace(Problem(name, A.shape[0], dense, model, p, p_dot, frozenset(traits)), **changes)


def sparse_direction(rng, n, *, hermitian=False, complex_=False) -> Array:
    """A matrix with few entries, in places that depend on the generator."""
    M = 0.3 * rng.standard_normal((n, n)) * (rng.uniform(size=(n, n)) < 0.3)
    M[rng.integers(n), rng.integers(n)] = 0.4
    if complex_:
        M = M + 0.2j * rng.standard_normal((n, n)) * (rng.uniform(size=(n, n)) < 0.3)
    return (M + M.conj().T) / 2 if hermitian else M


def three_kinds(draw: Callable[[], Array]) -> list[tuple[Array | None, Array | None]]:
    """Only dA acts, only dB acts (weaker: it meets lam), both act."""
    return [(draw(), None), (None, 0.4 * draw()), (draw(), 0.3 * draw()), (draw(), None)]


def well_conditioned(rng, n, *, complex_=False) -> Array:
    M = np.eye(n) + 0.25 * rng.standard_normal((n, n))
    return M + 0.2j * rng.standard_normal((n, n)) if complex_ else M


VALUES = np.array([1.0, 1.9, 3.1, 4.6, 6.4, 8.3, 10.1, 12.7])
SIGNED = np.array([1.3, -1.1, 2.8, -3.6, 5.0, -6.4, 8.0, 9.5])


def hermitian_problem(
    name, seed, *, complex_, generalized=True, signs=False, infinite=0
) -> Problem:
    """L Q diag Q^H L^H: eigenvalues known at p = 0.  With signs, B carries them (indefinite)."""
    rng = np.random.default_rng(seed)
    n = len(VALUES)
    Q, _ = np.linalg.qr(well_conditioned(rng, n, complex_=complex_))
    L = well_conditioned(rng, n, complex_=complex_) if generalized else np.eye(n)
    A = L @ Q @ np.diag(VALUES) @ Q.conj().T @ L.conj().T
    B = L @ L.conj().T
    if signs:
        inverses = np.where(np.arange(n) < n - infinite, 1 / SIGNED, 0.0)
        A, B = B, L @ Q @ np.diag(inverses) @ Q.conj().T @ L.conj().T
    A, B = (A + A.conj().T) / 2, (B + B.conj().T) / 2

    def draw():
        return sparse_direction(rng, n, hermitian=True, complex_=complex_)

    derivatives = three_kinds(draw) if generalized else [(draw(), None) for _ in range(4)]
    if signs:  # B is small here
        derivatives = [
            tuple(None if d is None else w * d for w, d in zip((0.4, 0.05), pair, strict=True))
            for pair in derivatives
        ]
    # Real vectors of a negative x^T B x (real build) cannot have x^T B x = 1.
    bilinear = not complex_ and (COMPLEX_BUILD or not signs)
    traits = {"hermitian"} | ({"complex"} if complex_ else set())
    traits |= {"symmetric"} if bilinear else set()
    traits |= set() if signs else {"definite", "positive"}
    return matrix_problem(name, A, B if generalized else None, derivatives, traits)


def buckling_problem(name, seed, *, singular=False) -> Problem:
    """A definite, B indefinite, near 0: solved in 1 / lam.  Singular: two values are infinite."""
    made = hermitian_problem(name, seed, complex_=False, signs=True, infinite=2 * singular)
    return replace(made, solver={"count": 3, "target": 0.0})


# lam = 0.9 +- 0.5i has x^H B x = 0; the signs of x^H B x of real values do not follow theirs.
NEUTRAL = (np.array([[0.5, 0.9], [0.9, -0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]]))
GHIEP_VALUES = np.array([1.7, -1.4, 3.1, -2.9, 4.6, 6.0])
GHIEP_SIGNS = np.array([1.0, 1.0, -1.0, -1.0, -1.0, 1.0])


def ghiep_problem(name, seed, *, complex_, traits) -> Problem:
    """A and B Hermitian, neither definite: a conjugate pair among real eigenvalues."""
    rng = np.random.default_rng(seed)
    n = 2 + len(GHIEP_VALUES)
    L = well_conditioned(rng, n, complex_=complex_)
    A, B = (
        L @ scipy.linalg.block_diag(block, np.diag(diagonal)) @ L.conj().T
        for block, diagonal in zip(NEUTRAL, (GHIEP_SIGNS * GHIEP_VALUES, GHIEP_SIGNS), strict=True)
    )
    A, B = (A + A.conj().T) / 2, (B + B.conj().T) / 2

    def draw():
        return 0.3 * sparse_direction(rng, n, hermitian=True, complex_=complex_)

    return matrix_problem(name, A, B, three_kinds(draw), {"complex", *traits})


def semidefinite_problem() -> Problem:
    """Symmetric, B = F F^T of lower rank for every p: two eigenvalues are infinite."""
    rng = np.random.default_rng(33)
    n = len(VALUES)
    made = hermitian_problem("semidefinite", 33, complex_=False)
    A, _ = made.dense({"p": np.zeros(4)})
    F = well_conditioned(rng, n)[:, : n - 2]
    dB = 0.3 * F @ sparse_direction(rng, n - 2, hermitian=True) @ F.T
    dA = [sparse_direction(rng, n, hermitian=True) for _ in range(3)]
    derivatives = [(dA[0], None), (None, 0.4 * dB), (dA[1], dB), (dA[2], None)]
    return matrix_problem("semidefinite", A, F @ F.T, derivatives, made.traits)


def saddle_point_problem() -> Problem:
    """Velocities and pressures, K + C the friction and convection, G^T u = 0 the constraint.

    The infinite eigenvalues form Jordan blocks of size 2.
    """
    rng = np.random.default_rng(34)
    velocities, pressures = 7, 2
    K = np.diag([1.1, 1.9, 2.8, 4.1, 5.0, 6.2, 7.7]) - 0.4 * np.eye(7, k=1) - 0.3 * np.eye(7, k=-1)
    M = np.diag(rng.uniform(0.8, 1.4, velocities)) + 0.1 * np.eye(7, k=1) + 0.1 * np.eye(7, k=-1)
    G = rng.standard_normal((velocities, pressures))
    zero = np.zeros((pressures, pressures))

    def flow(block, coupling=0 * G):
        return np.block([[block, coupling], [coupling.T, zero]])

    def draw(**kind):
        return sparse_direction(rng, velocities, **kind)

    dB = flow(0.3 * draw(hermitian=True))
    derivatives = [
        (flow(draw()), None),
        (None, 0.4 * dB),
        (flow(draw()), dB),
        (flow(0 * K, 0.3 * rng.standard_normal(G.shape)), None),
    ]
    A, B = flow(K, G), flow(M)
    return matrix_problem("saddle_point", A, B, derivatives, {"positive", "hermitian"})


def nonsymmetric_problem(name, seed, D, *, generalized=True, complex_=False, traits=()) -> Problem:
    """B X D X^-1 with nonsymmetric B: the eigenvalues of D at p = 0."""
    rng = np.random.default_rng(seed)
    n = D.shape[0]
    X = well_conditioned(rng, n, complex_=complex_)
    B = well_conditioned(rng, n, complex_=complex_) if generalized else np.eye(n)
    A = B @ X @ D @ np.linalg.inv(X)

    def draw():
        return sparse_direction(rng, n, complex_=complex_)

    derivatives = three_kinds(draw) if generalized else [(draw(), None) for _ in range(4)]
    return matrix_problem(name, A, B if generalized else None, derivatives, traits)


def rotation(real: float, imag: float) -> Array:
    return np.array([[real, imag], [-imag, real]])


def two_group_problem() -> Problem:
    """Loss phi = (1 / k) fission phi with fission in the first group only: B singular."""
    cells = 4
    neighbours = np.eye(cells, k=1) + 0.9 * np.eye(cells, k=-1)
    loss_1 = np.diag([2.6, 3.3, 2.9, 3.7]) - 0.8 * neighbours
    loss_2 = np.diag([1.9, 2.5, 2.2, 1.7]) - 0.4 * neighbours
    down = np.diag([0.9, 0.7, 1.1, 0.8])
    nothing = np.zeros((cells, cells))
    A = np.block([[loss_1, nothing], [-down, loss_2]])
    B = np.block([[np.diag([0.3, 0.5, 0.2, 0.4]), np.diag([1.4, 1.1, 0.9, 1.6])], [nothing] * 2])
    rows = [np.zeros((2 * cells, 2 * cells)) for _ in range(4)]
    rows[0][1, 1], rows[0][5, 5] = 0.6, 0.3  # absorption
    rows[1][2, 6] = 0.7  # fission (B)
    rows[2][4, 0], rows[2][0, 0] = -0.5, 0.5  # scattering
    rows[3][7, 6], rows[3][6, 7] = -0.2, -0.3  # diffusion
    derivatives = [(rows[0], None), (None, rows[1]), (rows[2], 0.4 * rows[1]), (rows[3], None)]
    return matrix_problem("two_group", A, B, derivatives, {"positive"})


def tiny_problem(n: int) -> Problem:
    """Fewer rows than ranks."""
    A = np.array([[2.0, 0.7], [-0.3, 3.5]])[:n, :n]
    B = np.array([[1.5, 0.2], [0.4, 1.1]])[:n, :n]
    dA = np.array([[0.3, 0.9], [0.5, -0.2]])[:n, :n]
    dB = np.array([[0.4, -0.1], [0.2, 0.6]])[:n, :n]
    return matrix_problem(
        f"tiny_{n}",
        A,
        B,
        [(dA, None), (None, dB)],
        {"positive"} | ({"hermitian", "symmetric", "definite"} if n == 1 else set()),
        solver={"count": 1, "target": 0.4},
    )


def problems() -> list[Problem]:
    """Return what this scalar build can hold; real problems serve both builds."""
    pair = scipy.linalg.block_diag(
        rotation(1.2, 0.9), rotation(5.0, 2.0), np.diag([2.6, 7.0, 8.5, 9.7])
    )
    real = [
        hermitian_problem("symmetric", 1, complex_=False),
        hermitian_problem("symmetric_standard", 2, complex_=False, generalized=False),
        hermitian_problem("indefinite", 3, complex_=False, signs=True),
        nonsymmetric_problem("nonsymmetric", 4, np.diag(VALUES), traits={"positive"}),
        nonsymmetric_problem("complex_pair", 5, pair, traits={"complex"}),
        nonsymmetric_problem(
            "nonsymmetric_standard",
            6,
            np.diag(VALUES),
            generalized=False,
            traits={"positive", "hermitian"},
        ),
        two_group_problem(),
        bar_problem("bar", complex_=False),
        advection_problem(),
        advection_problem("jax_advection", traced=True),
        assembled_problem(),
        buckling_problem("buckling", 31),
        buckling_problem("buckling_singular", 32, singular=True),
        ghiep_problem("ghiep", 35, complex_=False, traits={"symmetric"}),
        semidefinite_problem(),
        saddle_point_problem(),
    ]
    return real + (complex_problems() if COMPLEX_BUILD else [])


def complex_problems() -> list[Problem]:
    values = np.array([1 + 0.6j, 1.8 - 1j, 3.9 + 0.3j, 6.4, 6 + 3j, 7 - 2j, 9.0, 10 + 1j])
    return [
        hermitian_problem("hermitian", 21, complex_=True),
        hermitian_problem("hermitian_standard", 22, complex_=True, generalized=False),
        hermitian_problem("hermitian_indefinite", 23, complex_=True, signs=True),
        nonsymmetric_problem(
            "complex_nonsymmetric", 24, np.diag(values), complex_=True, traits={"complex"}
        ),
        complex_symmetric_problem(values),
        ghiep_problem("hermitian_ghiep", 36, complex_=True, traits=set()),
        bar_problem("complex_bar", complex_=True),
    ]


def complex_symmetric_problem(values: Array) -> Problem:
    """A = A^T and B = B^T, neither Hermitian: left vectors are conjugated right ones."""
    rng = np.random.default_rng(25)
    n = len(values)
    V = well_conditioned(rng, n, complex_=True)

    def draw():
        M = sparse_direction(rng, n, complex_=True)
        return (M + M.T) / 2

    return matrix_problem(
        "complex_symmetric",
        V @ np.diag(values) @ V.T,
        V @ V.T,
        three_kinds(draw),
        {"complex", "symmetric"},
    )
