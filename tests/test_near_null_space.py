"""Near-null spaces: rigid body modes, and what is wrong with what users give."""

import numpy as np
import pytest
from hexahedra import block, solved

import geneig_adjoint as ga
from geneig_adjoint.near_null_space import NearNullSpace

SMALL = (3, 2, 2)  # 81 dofs

WRONG = {
    "coordinates": (lambda modes: modes.vectors, "must be a NearNullSpace, such as rigid_body_m"),
    "rows": (lambda modes: NearNullSpace(modes.vectors[3:], 3), r"must hold this rank's \d+ rows"),
    "columns": (lambda modes: NearNullSpace(modes.vectors[:, :0], 3), "at least one vector"),
    "size": (lambda modes: NearNullSpace(modes.vectors, 5), "whole nodes of block_size = 5 rows"),
    "nan": (lambda modes: NearNullSpace(modes.vectors * np.nan, 3), "got NaN or Inf; check the c"),
    "twice": (lambda modes: NearNullSpace(np.tile(modes.vectors, 2), 3), "must be independent"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_near_null_space_is_refused(wrong):
    model, p, modes = block(cells=SMALL)
    change, match = WRONG[wrong]
    with model.assemble(p) as pencil, pytest.raises(ga.InputError, match=match):
        solved(pencil, change(modes))


def test_complex_vectors_belong_to_the_complex_build(scalar_build):
    model, p, modes = block(cells=SMALL)
    space = NearNullSpace(modes.vectors * 1j, 3)
    with model.assemble(p) as pencil:
        refused = {"real": [pytest.raises(ga.InputError, match="near_null_space must be real")]}
        for context in refused.get(scalar_build, []):
            with context:
                solved(pencil, space)
        for _ in range(scalar_build == "complex"):
            solved(pencil, space).close()


def test_operator_without_entries_needs_a_matrix(comm):
    model = ga.OperatorModel(4, lambda p, block: p["a"][0] * block, lambda *_: {}, comm=comm)
    with model.assemble({"a": np.ones(1)}) as pencil:
        space = NearNullSpace(np.ones((4, 1)))
        with pytest.raises(ga.InputError, match="near_null_space needs a matrix that multigrid"):
            solved(pencil, space, 1)


@pytest.mark.parametrize("shape", [(4,), (4, 5)])
def test_coordinates_are_a_table(shape):
    with pytest.raises(ga.InputError, match=r"coordinates must be finite numbers of shape \(nodes"):
        ga.rigid_body_modes(np.ones(shape))


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (2, 3), (3, 6)])
def test_rigid_body_modes_deform_nothing(dim, count):
    points = np.random.default_rng(3).normal(size=(7, dim))
    modes = ga.rigid_body_modes(points)
    assert modes.vectors.shape == (7 * dim, count)
    assert modes.block_size == dim
    assert np.linalg.matrix_rank(modes.vectors) == count
    fields = modes.vectors.reshape(7, dim, count)
    lines = points[:, None] - points[None]
    ends = [np.einsum(f"{end}am,ija->ijm", fields, lines) for end in "ij"]
    assert np.allclose(*ends)  # distances do not change
