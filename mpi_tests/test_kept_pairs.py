"""Eigenpairs come out of a checkpoint as they went in: every field, on any number of ranks."""

from dataclasses import fields

import numpy as np
import pytest
from builders import chain, chain_parameters, generalized, matrix, whole
from damped_bars import damped_bar

import geneig_adjoint as ga
from geneig_adjoint.eigenpairs import linear_pairs
from geneig_adjoint.refactored import refactored
from geneig_adjoint.study.checkpoint_file import CheckpointReader, CheckpointWriter
from geneig_adjoint.study.kept_pairs import read_pairs, write_pairs

N = 13


def symmetric(comm):
    return chain(N, comm).assemble(chain_parameters(N)), {"target": 0.3}


def component(comm):
    return chain(N, comm).assemble(chain_parameters(N)), {"normalization": ("component", 4)}


def interval(comm):
    return chain(N, comm).assemble(chain_parameters(N)), {"which": "largest_real", "phase": None}


def nonsymmetric(comm):
    return generalized(N, comm, "nonsymmetric"), {"target": 2.1}


def without_left(comm):
    return generalized(N, comm, "nonsymmetric"), {"target": 2.1, "left": False}


def mixed_units(comm):
    """Return a pencil whose eigensolve scales it, and so must whatever makes its factor again."""
    rows = np.where(np.arange(N) % 2, 1e5, 1.0)[:, None]
    A = np.diag(np.arange(1.0, N + 1)) + 0.4 * np.eye(N, k=1) + 0.1 * np.eye(N, k=-1)
    return ga.Pencil(*(matrix(rows * item, comm) for item in (A, np.eye(N))), owned=True), {
        "target": 0.3
    }


def quadratic(comm):
    p = {"k": np.array([3.0]), "c": np.array([0.4]), "m": np.array([2.0])}
    return damped_bar(N + 1, comm).assemble(p), {"target": 0.1}


CASES = [symmetric, component, interval, nonsymmetric, without_left, quadratic]


def solved(case, comm):
    """Return pairs of a case and their pencil."""
    pencil, settings = case(comm)
    solve = ga.solve_quadratic if case is quadratic else ga.solve_eigenproblem
    return solve(pencil, count=3, **settings), pencil


def plain(item):
    """Return a field as something that can be compared."""
    if hasattr(item, "functional"):
        return item.kind, item.label, plain(item.functional)
    if isinstance(item, np.ndarray):
        return str(item.dtype), item.shape, item.tobytes()
    if hasattr(item, "completeness"):
        return {field.name: plain(getattr(item, field.name)) for field in fields(item)}
    return item


def kept(comm, pairs, path, pencil):
    """Write pairs and read them on the ranks of a pencil."""
    writer = CheckpointWriter(pairs.comm, path)
    write_pairs(writer, pairs)
    assert writer.commit() is None
    comm.barrier()
    reader = CheckpointReader(path) if pencil.comm.rank == 0 else None
    return read_pairs(reader, pencil), reader


@pytest.mark.parametrize("case", CASES)
def test_every_field_comes_back(comm, tmp_path, case):
    pairs, pencil = solved(case, comm)
    found, reader = kept(comm, pairs, comm.bcast(tmp_path) / "pairs.h5", pencil)
    assert type(found) is type(pairs)
    names = {field.name for field in fields(linear_pairs(pairs))} - {"pencil", "factor"}
    for name in names:
        one, other = (getattr(linear_pairs(item), name) for item in (found, pairs))
        assert plain(one) == plain(other), name
    assert linear_pairs(found).factor is None
    np.testing.assert_allclose(found.residuals, pairs.residuals, atol=1e-15)
    for item in [reader] if reader is not None else []:
        item.close()
    comm.barrier()
    pairs.close()
    pencil.close()


@pytest.mark.parametrize("case", [component, nonsymmetric, quadratic])
def test_one_rank_reads_what_all_have_written(comm, tmp_path, case):
    pairs, pencil = solved(case, comm)
    blocks = [whole(pairs, block) for block in (pairs.right, pairs.left)]
    alone = comm.Split(comm.rank, 0)
    path = comm.bcast(tmp_path) / "pairs.h5"
    writer = CheckpointWriter(comm, path)
    write_pairs(writer, pairs)
    assert writer.commit() is None
    comm.barrier()
    with case(alone)[0] as own:
        reader = CheckpointReader(path)
        found = read_pairs(reader, own)
        reader.close()
        for block, expected in zip((found.right, found.left), blocks, strict=True):
            np.testing.assert_array_equal(block, expected)
        np.testing.assert_array_equal(found.phase_rows, pairs.phase_rows)
    alone.Free()
    comm.barrier()
    pairs.close()
    pencil.close()


@pytest.mark.parametrize("case", [symmetric, nonsymmetric, mixed_units, quadratic])
def test_the_factor_is_made_once_more(comm, case):
    pairs, pencil = solved(case, comm)
    linear = linear_pairs(pairs)
    factor = refactored(linear)
    assert factor.inverts
    assert complex(factor.sigma) == complex(linear.info.sigma)
    block = np.asfortranarray(np.arange(2.0 * linear.pencil.n_local).reshape(-1, 2))
    expected = linear.factor.solve(block)
    scale = np.abs(expected).max(initial=1.0)
    # Rounding: another order of elimination at most.
    np.testing.assert_allclose(factor.solve(block), expected, atol=1e-11 * scale)
    # It holds no basis: nothing was solved.
    assert factor.krylov_basis() is None
    factor.close()
    pairs.close()
    pencil.close()


def test_without_a_shift_there_is_no_factor(comm):
    pairs, pencil = solved(interval, comm)
    assert refactored(pairs) is None
    pairs.close()
    pencil.close()
