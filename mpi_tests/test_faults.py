"""Faults at every stage, on every rank in turn: the same error everywhere, and nothing breaks."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters
from faults import InjectedError, injected, os_error, with_nan
from study_files import write_chain

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

pytestmark = pytest.mark.timeout(60)


def output(pairs):
    """Return an objective that solves a bordered system: sum of c_i Re x_i."""
    n = pairs.comm.allreduce(pairs.right.shape[0])
    return obj.LinearOutput(np.linspace(1.0, 2.0, n)[slice(*pairs.rows)], 0)(pairs)


def symmetric(comm, path):
    model, p, _ = ga.io.read_elements(path, comm)
    return model, p


def nonsymmetric(comm, path):
    return chain(11, comm, base=K0 + C0), chain_parameters(11)


MODELS = {"symmetric": symmetric, "nonsymmetric": nonsymmetric}


def whole_chain(make, comm, path):
    """Return gradients of two objectives, from a file or elements to the end."""
    model, p = make(comm, path)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        found = ga.gradient(model, p, pairs, [output, obj.Eigenvalue(1)])
    return np.concatenate([part for gradient in found for part in gradient.values()])


@pytest.fixture(scope="module")
def path(comm, tmp_path_factory):
    path = comm.bcast(tmp_path_factory.mktemp("faults") / "chain.h5")
    for place in [path] if comm.rank == 0 else []:
        write_chain(place)
    comm.barrier()
    return path


@pytest.fixture(scope="module")
def right(comm, path):
    return {name: whole_chain(make, comm, path) for name, make in MODELS.items()}


def outcome(comm, make, path):
    """Return what a run gave on this rank: an array, or the error."""
    try:
        return whole_chain(make, comm, path)
    except Exception as error:
        return error


def described(found):
    return f"{type(found).__name__} {found}"


# -- a function that raises: the others must hear of it --

PACKAGE = "geneig_adjoint."
RAISED = {
    "read": (
        "symmetric",
        PACKAGE + "io.elements:table_of",
        os_error,
        ga.InputError,
        r"chain.h5 .*No space left",
    ),
    "tables": ("nonsymmetric", PACKAGE + "elements:first_block_error"),
    "matrices of elements": ("nonsymmetric", PACKAGE + "kernels:ScaledKernel.matrices"),
    "sums of elements": ("nonsymmetric", PACKAGE + "assembly:Pattern.collect"),
    "objective": ("nonsymmetric", PACKAGE + "evaluation:_checked_result"),
    "contraction": ("nonsymmetric", PACKAGE + "contraction:ElementSides.contracted_with"),
    "derivatives of elements": ("symmetric", PACKAGE + "kernels:ScaledKernel.vjp_of_energies"),
}
INJECTED = (None, InjectedError, r"^injected")


@pytest.mark.failure("exception on one rank", through="api")
@pytest.mark.parametrize("stage", RAISED)
def test_error_of_a_stage_is_raised_on_all_ranks(comm, path, right, stage):
    name, target, *rest = RAISED[stage]
    damage, kind, match = rest or INJECTED
    everyone = []
    for rank in range(comm.size):
        with injected(target, comm.rank == rank, damage=damage) as fault:
            found = outcome(comm, MODELS[name], path)
        met = comm.allgather(fault.met)
        everyone += [met[rank]]
        expected = {True: ["error"], False: ["array"]}[met[rank]]
        kinds = {True: "error", False: "array"}
        assert [kinds[isinstance(found, kind)]] == expected
        assert len(set(comm.allgather(described(found)))) == 1
        with pytest.raises(kind, match=match):
            raise {True: found, False: kind("injected chain.h5 No space left")}[met[rank]]
    assert any(everyone)
    # usable afterwards
    assert np.array_equal(whole_chain(MODELS[name], comm, path), right[name])


# -- a function that returns NaN: nobody may go on with it unseen --


def nan_vectors(found):
    return found[0], with_nan(found[1]), *found[2:]


DAMAGED = {
    "matrices of elements": ("kernels:ScaledKernel.matrices", with_nan),
    "products with A": ("pencil:Pencil.multiply_a", with_nan),
    "products with B": ("pencil:Pencil.multiply_b", with_nan),
    "eigenvectors": ("_petsc:converged_pairs", nan_vectors),
    "solves with the factor": ("factorization:SpectralTransformation.solve", with_nan),
    "scaled vectors": ("finished_pairs:normalized", with_nan),
    "left vectors": ("finished_pairs:biorthonormal", with_nan),
    "rows at elements": ("ghosts:Ghosts._own_table", with_nan),
    "derivatives of elements": ("kernels:ScaledKernel.vjp_of_energies", with_nan),
}


def places(size, name):
    """Return ranks and calls: both calls with each model, and each rank with one at least."""
    first = list(MODELS).index(name)
    return [(first % size, 0), ((first + size - 1) % size, 1)]


@pytest.mark.failure("nan", through="api")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stage", DAMAGED)
def test_nan_of_a_stage_never_passes_for_a_result(comm, path, right, stage, name):
    target, damage = DAMAGED[stage]
    for rank, call in places(comm.size, name):
        with injected(PACKAGE + target, comm.rank == rank, damage=damage, call=2 * call):
            found = outcome(comm, MODELS[name], path)
        assert len(set(comm.allgather(described(found)))) == 1
        # Either an error says what is wrong, or it was computed in another way: right to the
        # tolerance of the adjoint, 1e-10, times conditions and lengths below 100.
        close = isinstance(found, np.ndarray) and np.allclose(
            found, right[name], rtol=1e-8, atol=1e-8
        )
        assert close or isinstance(found, ga.GeneigError), described(found)
    assert np.array_equal(whole_chain(MODELS[name], comm, path), right[name])
