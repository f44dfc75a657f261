"""Small problems with nothing in common with the package: dense arrays and their PETSc matrices."""

import numpy as np
from petsc4py import PETSc

import geneig_adjoint as ga

REAL = not issubclass(PETSc.ScalarType, complex)


def own_rows(n, comm):
    """Return the rows of this rank in PETSc's default split."""
    sizes = [n // comm.size + (rank < n % comm.size) for rank in range(comm.size)]
    first = sum(sizes[: comm.rank])
    return first, first + sizes[comm.rank]


def matrix(array, comm, n_local=None):
    """Return a dense array, the same on every rank, as a distributed AIJ matrix."""
    array = np.asarray(array)
    n = array.shape[0]
    size = (PETSc.DECIDE if n_local is None else n_local, n)
    mat = PETSc.Mat().createAIJ((size, size), nnz=n, comm=comm)
    mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    for row in range(*mat.getOwnershipRange()):
        columns = np.flatnonzero(array[row])
        mat.setValues([row], columns.astype(PETSc.IntType), array[row, columns])
        mat.setValue(row, row, array[row, row])
    mat.assemble()
    return mat


def dense(mat):
    """Return a distributed matrix as a dense array on every rank."""
    offsets, columns, values = mat.getValuesCSR()
    local = np.zeros((offsets.size - 1, mat.getSize()[1]), dtype=values.dtype)
    for row in range(offsets.size - 1):
        part = slice(offsets[row], offsets[row + 1])
        local[row, columns[part]] += values[part]
    return np.vstack(mat.comm.tompi4py().allgather(local))


def whole(pairs, block):
    """Return all rows of a row block on every rank."""
    return np.concatenate(pairs.comm.allgather(np.asarray(block)))


def stiffness(n):
    """Return the chain's tridiagonal matrix: eigenvalues 2 - 2 cos(k pi / (n + 1))."""
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


def mass(n):
    """Return the consistent mass matrix of the chain."""
    return (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6


def nonsymmetric(n):
    """Return a banded matrix with complex conjugate pairs among its eigenvalues."""
    return np.diag(np.arange(1.0, n + 1)) + 2 * np.eye(n, k=1) - 1.5 * np.eye(n, k=-1)


def rotation(n=6):
    """Return a block-diagonal matrix with eigenvalues j +- i j, j = 1, 2, ..."""
    array = np.zeros((n, n))
    for j in range(n // 2):
        array[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = (j + 1) * np.array([[1, -1], [1, 1]])
    return array


def generalized(n, comm, kind):
    """Return a pencil that closes its own matrices: "symmetric", "nonsymmetric", "singular_B"."""
    A, B = {
        "symmetric": (stiffness(n), mass(n)),
        "nonsymmetric": (nonsymmetric(n), mass(n) + 0.1 * np.eye(n, k=2)),
        "singular_B": (nonsymmetric(n), np.diag(np.r_[np.ones(n - 2), 0.0, 0.0])),
    }[kind]
    return ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True)


K0 = np.array([[1.0, -1.0], [-1.0, 1.0]])
M0 = np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
# Convection: not symmetric.
C0 = np.array([[-0.5, 0.5], [-0.5, 0.5]])


def chain_dofs(n):
    """Return the dofs of n + 1 two-node elements between two fixed ends, (n + 1, 2)."""
    dofs = np.stack([np.arange(n + 1) - 1, np.arange(n + 1)], axis=1)
    dofs[-1, 1] = -1
    return dofs


def shares(count, comm, seed=None):
    """Return this rank's elements: every size-th one, or a random share (maybe none)."""
    if seed is None:
        return np.arange(comm.rank, count, comm.size)
    owner = np.random.default_rng(seed).integers(comm.size, size=count)
    return np.flatnonzero(owner == comm.rank)


def chain(n, comm, own=None, base=K0, n_local=None):
    """Return a model of n free dofs in a row: A = sum k_e^2 base + 0.01, B = sum m_e M0."""
    own = shares(n + 1, comm) if own is None else np.asarray(own, dtype=int)
    dofs = chain_dofs(n)[own]
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(base, ga.PowerLaw(2.0, 0.01)), {"k": own}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": own}),
    ]
    return ga.ElementModel(n, blocks, comm=comm, n_local=n_local)


def chain_parameters(n):
    """Return parameters without any symmetry."""
    place = np.arange(n + 1)
    return {"k": 1.0 + 0.3 * np.sin(1.0 + place), "m": 1.0 + 0.2 * np.cos(2.0 * place)}


def distributed(values, comm):
    """Return an array, the same on every rank, as a distributed vector."""
    vec = PETSc.Vec().createMPI(len(values), comm=comm)
    first, last = vec.getOwnershipRange()
    vec.array[:] = values[first:last]
    return vec
