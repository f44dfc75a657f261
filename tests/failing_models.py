"""Models of studies that ask for trouble; complex Hermitian or general in the complex build."""

import numpy as np
import scipy.linalg
from builders import REAL, chain, chain_parameters, mass, matrix, nonsymmetric, stiffness
from hard_pencils import FLUTTER_LOAD
from lattices import Lattice
from test_completeness import grid

import geneig_adjoint as ga


def phased(array):
    """Return D^H array D: complex in the complex build, with the same eigenvalues and pattern."""
    if REAL:
        return array
    phases = np.exp(0.7j * np.arange(len(array)) ** 2)
    return phases.conj()[:, None] * array * phases


def pencil_model(comm, A, B=None, slope=None):
    """Return the model A + p slope, B and its point; the slope is the unit matrix if left out."""
    slope = np.eye(len(A)) if slope is None else slope
    mats = [None if M is None else matrix(phased(M), comm) for M in (A, B, slope)]
    return ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], None)]}), {"p": np.zeros(1)}


def square(comm, options):
    """Every second value of the Laplacian of a square is double."""
    unit = np.diag(np.eye(100)[13])
    return pencil_model(comm, grid(10), slope=unit)


def long_chain(comm, options):
    return pencil_model(comm, stiffness(200))


def diagonal(comm, options):
    """Values first, first + 1, ...; B = b if that is given."""
    n, first = options.get("n", 8), options.get("first", 1.0)
    A = np.diag(first + np.arange(n)) + options.get("coupling", 0.0) * np.eye(n, k=1)
    B = options.get("B")
    return pencil_model(comm, A, None if B is None else np.diag(np.array(B, dtype=float)))


class Declared:
    """Matrices that are not what they are said to be."""

    def __init__(self, comm):
        self.comm = comm

    def assemble(self, p):
        A = stiffness(8)
        A[6, 1] = 0.5
        return ga.Pencil(matrix(A, self.comm), problem_type="hep", owned=True)

    def contract(self, p, left_a, left_b, right):
        raise AssertionError("there is nothing to contract")


def declared(comm, options):
    return Declared(comm), {"p": np.zeros(1)}


def general_masses(comm, options):
    """A positive or not, B as given: lam = a / b in a basis that is not orthogonal."""
    a, b = np.array(options["a"], dtype=float), np.array(options["b"], dtype=float)
    F = np.eye(len(a)) + 0.3 * np.eye(len(a), k=1) - 0.2 * np.eye(len(a), k=-2)
    return pencil_model(comm, F.T @ np.diag(a) @ F, F.T @ np.diag(b) @ F)


def clamped(comm, options):
    """Rows 0 and 7 are constrained and kept: 1 on both diagonals."""
    A, B = 50 * stiffness(8), mass(8)
    for M in (A, B):
        M[[0, 7], :] = M[:, [0, 7]] = 0.0
        M[0, 0] = M[7, 7] = 1.0
    return pencil_model(comm, A, B, np.diag(np.eye(8)[3]))


def free(comm, options):
    """A free lattice of springs in the plane: three zeros, then elastic modes."""
    lattice = Lattice(2, 1.0)
    return pencil_model(comm, lattice.K, lattice.M, lattice.units[0])


def negative_masses(comm, options):
    model, p = chain(8, comm), chain_parameters(8)
    p["m"][:] = -1.0
    return model, p


def double(comm, options):
    """Values 1, 2, 2, 5."""
    return pencil_model(comm, np.diag([1.0, 2.0, 2.0, 5.0]), slope=np.diag([1.0, 1.0, 2.0, 3.0]))


def flutter(comm, options):
    """Ziegler's pendulum at flutter, beside a mode of its own at 3."""
    K, M, slope = np.zeros((3, 3, 3))
    K[:2, :2] = [[2.0 - FLUTTER_LOAD, FLUTTER_LOAD - 1.0], [-1.0, 1.0]]
    M[:2, :2] = [[3.0, 1.0], [1.0, 1.0]]
    slope[0, :2] = [-1.0, 1.0]
    K[2, 2], M[2, 2], slope[2, 2] = 3.0, 1.0, 1.0
    return pencil_model(comm, K, M, slope)


def convection(comm, options):
    n = options.get("n", 12)
    return pencil_model(comm, nonsymmetric(n), mass(n) + 0.1 * np.eye(n, k=2))


def sensitive(comm, options):
    """An eigenvalue with the condition number 3e6."""
    A = np.array([[1.0, 3e6, 0.5], [0.0, 2.0, 0.3], [0.0, 0.0, 7.5]])
    return pencil_model(comm, A, slope=np.diag([1.0, 2.0, 3.0]))


def poisoned(comm, options):
    """A chain whose spring 5 is NaN in A, or whose derivative is."""
    model, p = chain(8, comm), chain_parameters(8)
    first, *others = model.blocks
    kernel = Poisoned(first.kernel, np.asarray(first.parameters["k"]), options["method"])
    block = ga.ElementBlock("A", first.dofs, kernel, {"k": first.parameters["k"]})
    return ga.ElementModel(8, [block, *others], comm=comm), p


class Poisoned:
    def __init__(self, kernel, ids, method):
        self.kernel, self.ids, self.method = kernel, ids, method

    def matrices(self, values, rows):
        return self.damaged("matrices", self.kernel.matrices(values, rows), rows)

    def derivative(self, values, dots, rows):
        return self.damaged("derivative", self.kernel.derivative(values, dots, rows), rows)

    def vjp(self, values, left, right, rows):
        found = self.kernel.vjp(values, left, right, rows)
        return {"k": self.damaged("vjp", found["k"], rows)}

    def damaged(self, method, found, rows):
        found = np.array(found)
        found[(self.ids[rows] == 5) & (method == self.method)] = np.nan
        return found


def products(comm, options):
    """An operator without entries, whose product with a block fails or gives NaN."""
    calls = iter(range(100_000))
    n_local = 8 // comm.size + (comm.rank < 8 % comm.size)
    scale = np.arange(*_rows(comm, n_local)) + 1.0
    harm = {"raise": _raised, "nan": lambda: np.nan, "none": lambda: 1.0}[options["harm"]]

    def apply_a(p, block):
        factor = harm() if next(calls) >= 5 and comm.rank == comm.size - 1 else 1.0
        return factor * scale[:, None] * block

    def contract(p, left_a, left_b, right):
        return {"p": np.zeros(1)}

    model = ga.OperatorModel(
        8, apply_a, contract, apply_a_hermitian=apply_a, comm=comm, n_local=n_local
    )
    return model, {"p": np.zeros(1)}


def _rows(comm, n_local):
    first = comm.exscan(n_local) or 0
    return first, first + n_local


def _raised():
    raise ArithmeticError("no product today")


def raising(comm, options):
    """The last rank has no model."""
    if comm.rank == comm.size - 1:
        raise KeyError("mine")
    return chain(8, comm), chain_parameters(8)


class Jumping:
    """Values 1 + t, 2 + t, ... of unit vectors; from t = 0.2 on of altogether other vectors."""

    def __init__(self, comm):
        Q = scipy.linalg.hadamard(4) / 2
        values = np.diag(np.arange(1.0, 5.0))
        self.comm = comm
        self.models = [pencil_model(comm, V @ values @ V.T)[0] for V in (np.eye(4), Q)]

    def assemble(self, p):
        return self.models[int(p["p"][0] > 0.2)].assemble(p)

    def contract(self, p, left_a, left_b, right):
        return self.models[int(p["p"][0] > 0.2)].contract(p, left_a, left_b, right)


def jumping(comm, options):
    return Jumping(comm), {"p": np.zeros(1)}


def one_row(comm, options):
    """One row, one element, and a parameter entry that nothing depends on."""
    own = np.arange(1)[comm.rank :: comm.size]
    block = ga.ElementBlock("A", own[:, None], ga.ScaledKernel(np.ones((1, 1))), {"k": own})
    return ga.ElementModel(1, [block], comm=comm), {"k": np.array([2.0, 7.0])}


def unable(model):
    """An objective that the last rank cannot compute."""

    def objective(pairs):
        if pairs.comm.rank == pairs.comm.size - 1:
            raise KeyError("mine")
        return 1.0, ga.EigenCotangent()

    return objective


def complex_valued(model):
    return lambda pairs: (1.0 + 2.0j, ga.EigenCotangent())


def not_a_number(model):
    return lambda pairs: (float("nan"), ga.EigenCotangent())


class Wrong:
    """Its contract is a tenth too large."""

    def __init__(self, model):
        self.model, self.assemble = model, model.assemble

    def contract(self, p, *vectors):
        found = self.model.contract(p, *vectors)
        return {name: 1.1 * np.asarray(part) for name, part in found.items()}


def wrong(comm, options):
    model, p = chain(8, comm), chain_parameters(8)
    return Wrong(model), p
