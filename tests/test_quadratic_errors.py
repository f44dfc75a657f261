"""What is said when a quadratic problem cannot be what was asked for."""

from types import SimpleNamespace

import numpy as np
import pytest
from builders import matrix
from damped_bars import BAR_K
from mpi4py import MPI
from petsc4py import PETSc
from quadratic_problems import Quadratic, damped, derivatives, triples

import geneig_adjoint as ga
from geneig_adjoint.errors import InputError

COMM = MPI.COMM_WORLD
HOLES = np.diag(np.r_[np.ones(7), 0.0])


@pytest.fixture(scope="module")
def given():
    """Return matrices of all kinds."""
    K, C, M = (matrix(array, COMM) for array in damped())
    unassembled = PETSc.Mat().createAIJ(((8, 8), (8, 8)), nnz=1, comm=COMM)
    unassembled.setUp()
    unassembled.setValue(0, 0, 1.0)
    shell = PETSc.Mat().createPython(K.getSizes(), context=object(), comm=COMM)
    shell.setUp()
    mats = {
        "K": K,
        "C": C,
        "M": M,
        "small": matrix(np.eye(3), COMM),
        "zero": matrix(np.zeros((8, 8)), COMM),
        "one": matrix(np.eye(8), COMM),
        "holes": matrix(HOLES, COMM),
        "nan": matrix(np.full((8, 8), np.nan), COMM),
        "unassembled": unassembled,
        "shell": shell,
    }
    yield SimpleNamespace(**mats)
    unassembled.assemble()
    for mat in mats.values():
        mat.destroy()


def of_elements(n, *names):
    ids = np.zeros(1, int)
    kernel = ga.ScaledKernel(np.ones((1, 1)))
    return ga.QuadraticElementModel(
        n, [ga.ElementBlock(name, ids[:, None], kernel, {"a": ids}) for name in names]
    )


PENCILS = {
    'form must be "companion"': lambda g: ga.QuadraticPencil(g.K, g.C, g.M, form="second"),
    "M must have entries": lambda g: ga.QuadraticPencil(g.K, g.C, g.zero),
    "K must be finite": lambda g: ga.QuadraticPencil(g.nan, g.C, g.M),
    "have one layout": lambda g: ga.QuadraticPencil(g.K, g.small, g.M),
    "K must have entries": lambda g: ga.QuadraticPencil(g.shell, g.C, g.M),
    "C must be assembled": lambda g: ga.QuadraticPencil(g.K, g.unassembled, g.M),
    "K, C and M symmetric, got C": lambda g: ga.QuadraticPencil(
        g.one, g.C, g.one, form="symmetric"
    ),
    "needs a regular M, got zeros only in row 7": lambda g: ga.QuadraticPencil(
        g.one, None, g.holes, form="symmetric"
    ),
    "solve_quadratic needs a QuadraticPencil, got Pencil": lambda g: ga.solve_quadratic(
        ga.Pencil(g.K, g.M)
    ),
    "solve_quadratic needs a QuadraticPencil, got list": lambda g: ga.solve_quadratic([g]),
}
MODELS = {
    "the damping must be a model of one matrix": lambda g: ga.QuadraticModel(g.K, 1.0, g.M),
    "only the damping may be None": lambda g: ga.QuadraticModel(g.K, g.C, None),
    "the mass must be a model of one matrix, got MatrixModel with a B": lambda g: ga.QuadraticModel(
        g.K, None, ga.MatrixModel(g.M, g.K, {})
    ).assemble({}),
    "p must hold the parameters": lambda g: ga.QuadraticModel(g.K, g.C, g.M).assemble(
        {"a": np.ones(1)}
    ),
    "out must be a QuadraticPencil": lambda g: ga.QuadraticModel(g.K, g.C, g.M).assemble(
        {}, out=ga.Pencil(g.K, g.M)
    ),
    'with form="symmetric", got form="companion"': lambda g: ga.QuadraticModel(
        g.K, g.C, g.M, form="symmetric"
    ).assemble({}, out=ga.QuadraticPencil(g.K, g.C, g.M)),
    "without comm": ga.QuadraticModel.of,
    'names must be "KCM"': lambda g: ga.QuadraticModel.of(
        SimpleNamespace(comm=COMM, matrix=g, contract=g), names="MCK"
    ),
    'matrix must be "K", "C" or "M"': lambda g: of_elements(1, "K", "A"),
    'none with matrix="M"': lambda g: of_elements(1, "K", "C"),
    "every dof must belong to an element of K, C or M, got dof 1": lambda g: of_elements(
        2, "K", "M"
    ),
    "must be triples": lambda g: ga.QuadraticMatrixModel(g.K, g.C, g.M, {"a": [(g.K, g.C)]}),
    "needs a matrix C, got C=None": lambda g: ga.QuadraticMatrixModel(
        g.K, None, g.M, {"a": [(g.K, g.C, None)]}
    ),
}
SCALES = {
    "got 'B' with form=\"companion\"": "B",
    "got 'bilinear' with form=\"companion\"": "bilinear",
    "the component must be a row in 0 ... 7, got 8": ("component", 8),
    "this rank's 8 rows, got shape": ("linear", np.ones(16)),
    'must start with "component"': ("row", 3),
    "normalization must be": "x",
}


@pytest.mark.parametrize("message", [*PENCILS, *MODELS])
def test_errors_say_what_to_do(given, message):
    with pytest.raises(InputError, match=message):
        {**PENCILS, **MODELS}[message](given)


@pytest.mark.parametrize("message", SCALES)
def test_normalizations_that_a_quadratic_problem_does_not_have(given, message):
    with (
        ga.QuadraticPencil(given.K, given.C, given.M) as pencil,
        pytest.raises(InputError, match=message),
    ):
        ga.solve_quadratic(pencil, 1, normalization=SCALES[message])


def test_errors_of_elements_name_their_matrix():
    dofs = np.array([[0, 5]])
    blocks = [
        ga.ElementBlock(name, dofs, ga.ScaledKernel(BAR_K), {"a": np.zeros(1, int)})
        for name in "KM"
    ]
    with pytest.raises(InputError, match="dof") as caught:
        ga.QuadraticElementModel(2, blocks, comm=COMM)
    assert 'counted among the element blocks with matrix="K"' in caught.value.__notes__


@pytest.mark.parametrize("part", ["matrices", "span"])
def test_cotangents_about_a_and_b_are_refused(part):
    problem = Quadratic("", damped(), triples(*derivatives()), 0.0)
    model = problem.model(COMM)

    def objective(pairs):
        k, block = pairs.count, np.ones((8, 1))
        given = {"matrices": (block, block, block), "span": (np.eye(k), np.eye(k))}
        return 0.0, ga.EigenCotangent(**{part: given[part]})

    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 2) as pairs,
        pytest.raises(InputError, match=f"must not have {part}="),
    ):
        ga.gradient(model, problem.p, pairs, objective)
