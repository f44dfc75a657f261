"""Problems too large to factor: multigrid, block Davidson and deflated CG beside the factor."""

import numpy as np
import pytest
from hexahedra import BENCHMARKS, COUNT, block, far, motion, solved

import geneig_adjoint as ga
from geneig_adjoint.block_krylov import System
from geneig_adjoint.deflated_cg import DeflatedCG
from geneig_adjoint.near_null_space import NearNullSpace
from geneig_adjoint.preconditioned_pairs import FOUND

# eps_tol 1e-12 for pairs, whose vectors carry it over gaps of a tenth; adjoints 1e-10, times ten.
RTOL = 1e-9


@pytest.fixture(scope="module")
def both():
    """The block, and its pairs by a factor and without."""
    model, p, modes = block()
    with (
        model.assemble(p) as A,
        model.assemble(p) as B,
        solved(A, None) as direct,
        solved(B, modes) as iterative,
    ):
        yield model, p, direct, iterative


def test_values_and_vectors_are_those_of_the_factor(both):
    _, _, direct, iterative = both
    assert np.allclose(iterative.values, direct.values, rtol=1e-11, atol=0)
    assert far(iterative.right, direct.right) < 1e-10
    assert iterative.residuals.max() < 1e-13
    assert iterative.info.completeness.method == "second start"
    assert any("block Davidson" in note for note in iterative.info.notes)
    assert any("cg with gamg" in note for note in iterative.info.notes)


@pytest.mark.parametrize("strategy", [None, "deflated-cg", "ksp"])
def test_gradients_are_those_of_the_factor(both, strategy):
    model, p, direct, iterative = both
    objectives = [ga.objectives.Eigenvalue(2), motion(direct), motion(direct, (1, 4))]
    expected = ga.gradient(model, p, direct, objectives)
    found = ga.gradient(model, p, iterative, objectives, strategy=strategy)
    for one, other in zip(found, expected, strict=True):
        error = far(one["density"], other["density"])
        assert error < RTOL
        # (the second part: both are rounding)
        assert error < one.relative_error + other.relative_error + 1e-12
    with pytest.raises(ga.InputError, match=r'"deflated-cg" needs the preconditioner of an eigens'):
        ga.gradient(model, p, direct, motion(direct), strategy="deflated-cg")


def test_estimated_errors_cover_loose_adjoints(both):
    model, p, direct, iterative = both
    expected = ga.gradient(model, p, direct, motion(direct))["density"]
    for rtol in (1e-4, 1e-6, 1e-8):
        found = ga.gradient(model, p, iterative, motion(direct), rtol=rtol)
        assert far(found["density"], expected) < found.relative_error < 100 * rtol


def test_estimated_errors_know_a_poor_preconditioner(both):
    model, p, direct, _ = both
    expected = ga.gradient(model, p, direct, motion(direct))["density"]
    options = {"st_pc_type": "jacobi"}
    with model.assemble(p) as B, solved(B, block()[2], solver_parameters=options) as pairs:
        found = ga.gradient(model, p, pairs, motion(pairs), strategy="deflated-cg", rtol=1e-4)
    assert far(found["density"], expected) < 0.1 * found.relative_error < 1e-3


def test_tangents_and_hessian_products_are_those_of_the_factor(both):
    model, p, direct, iterative = both
    p_dot = {"density": np.cos(np.arange(p["density"].size))}
    tangents = [ga.jvp(model, p, pairs, p_dot) for pairs in (iterative, direct)]
    assert far(tangents[0].right, tangents[1].right) < RTOL
    assert far(tangents[0].values, tangents[1].values) < RTOL
    products = [
        ga.hessian_vector_product(model, p, pairs, motion(pairs), p_dot)["density"]
        for pairs in (iterative, direct)
    ]
    assert far(*products) < 10 * RTOL  # of solutions of solutions


def test_gradient_agrees_with_differences():
    model, p, modes = block(cells=(3, 3, 2))
    report = ga.verify_gradient(
        model, p, ga.objectives.ModeShapeMatch(np.arange(model.n) % 7.0, 0),
        count=2, target=0.0, near_null_space=modes,
    )  # fmt: skip
    assert report.passed, str(report)


def test_adjoints_need_no_more_products_with_the_preconditioner_than_columns_of_cg(
    both, monkeypatch
):
    model, p, direct, iterative = both
    applied, precondition = [], type(iterative.factor).precondition

    def counted(self, rhs, **keywords):
        applied.append(rhs.shape[1])
        return precondition(self, rhs, **keywords)

    monkeypatch.setattr(type(iterative.factor), "precondition", counted)
    ga.gradient(model, p, iterative, motion(direct))
    together = sum(applied)
    assert together < 40 * COUNT
    applied.clear()
    ga.gradient(model, p, iterative, motion(direct), strategy="ksp")
    assert sum(applied) > 1.3 * together


def test_block_method_is_cheaper_than_inner_solves(both):
    _, _, _, davidson = both
    model, p, modes = block()
    options = {"eps_type": "krylovschur"}
    with model.assemble(p) as pencil, solved(pencil, modes, solver_parameters=options) as krylov:
        assert np.allclose(krylov.values, davidson.values, rtol=1e-11, atol=0)
        assert not any("Davidson" in note for note in krylov.info.notes)
        assert spent(krylov) > 2 * spent(davidson)
        assert davidson.factor.eps.getAttr(FOUND) is None  # the vectors are not kept twice


def test_earlier_vectors_are_a_start(both):
    model, p, _, before = both
    near = {"density": p["density"] * (1 + 1e-4 * np.cos(np.arange(p["density"].size)))}
    with (
        model.assemble(near) as A,
        model.assemble(near) as B,
        solved(A, block()[2], like=before) as warm,
        solved(B, block()[2]) as cold,
    ):
        assert np.allclose(warm.values, cold.values, rtol=1e-11, atol=0)
        assert davidson_vectors(warm) < 0.8 * davidson_vectors(cold)


def davidson_vectors(pairs):
    (note,) = [note for note in pairs.info.notes if "Davidson" in note]
    return int(note.split()[-3])


def test_design_loop_without_a_factor(both):
    model, p, _, _ = both
    objective = ga.objectives.KSMinimum(rho=50.0, pairs=(0, 1))
    settings = {"count": 3, "target": 0.0}
    results = []
    for space in (None, block()[2]):
        with ga.value_and_gradient(model, objective, near_null_space=space, **settings) as f:
            f(p)
            results.append(f({"density": 0.99 * p["density"]}))
    assert np.isclose(results[0][0], results[1][0], rtol=1e-11)
    assert far(results[1][1]["density"], results[0][1]["density"]) < RTOL


def spent(pairs):
    """Return how many vectors were preconditioned, as the notes say."""
    words = " ".join(pairs.info.notes).replace(",", "").split()
    return sum(
        int(words[i - 1 - (word == "preconditioned")])
        for i, word in enumerate(words)
        if word == "preconditioned" or (word == "iterations" and words[i + 1] == "in")
    )


def test_rigid_body_modes_halve_the_iterations(both):
    model, p, _, with_modes = both
    constant = NearNullSpace(np.ones((model.n, 1)))
    with model.assemble(p) as pencil, solved(pencil, constant) as pairs:
        assert 2 * spent(with_modes) < spent(pairs)


def test_copies_are_found():
    """A square bar bends both ways at the same frequency."""
    model, p, modes = block(cells=(8, 3, 3))
    p = {"density": np.ones_like(p["density"])}
    with (
        model.assemble(p) as A,
        model.assemble(p) as B,
        solved(A, None, 3) as direct,
        solved(B, modes, 3) as found,
    ):
        assert np.allclose(found.values, direct.values, rtol=1e-11, atol=0)
        assert len(found.clusters[0]) == 2
        whole = [ga.gradient(model, p, pairs, motion(pairs)) for pairs in (found, direct)]
        assert far(whole[0]["density"], whole[1]["density"]) < RTOL
    with model.assemble(p) as B, solved(B, modes, 1) as found:
        assert found.count == 2  # the copy belongs to the pair that was asked for


def test_free_block_with_a_target_below_zero():
    """Six rigid body motions at zero: A is singular, A - sigma B is not."""
    model, p, modes = block(cells=(4, 3, 2), clamped=False)
    with (
        model.assemble(p) as A,
        model.assemble(p) as B,
        solved(A, None, 8, target=-0.01) as direct,
        solved(B, modes, 8, target=-0.01) as found,
    ):
        assert np.abs(found.values[:6]).max() < 1e-12
        assert np.allclose(found.values[6:], direct.values[6:], rtol=1e-11, atol=0)
        assert any("Davidson" in note for note in found.info.notes)
        gradients = [
            ga.gradient(model, p, pairs, motion(pairs, (6, 7)))["density"]
            for pairs in (found, direct)
        ]
        assert far(*gradients) < RTOL


def test_target_inside_the_spectrum_goes_by_krylov_schur(both):
    model, p, direct, _ = both
    modes = block()[2]
    middle = float(direct.values[2].real * 0.9)
    with model.assemble(p) as B, solved(B, modes, 2, target=middle) as found:
        assert np.allclose(np.sort(found.values), np.sort(direct.values[1:3]), rtol=1e-10, atol=0)
        assert not any("Davidson" in note for note in found.info.notes)
        place = int(np.argmax(found.values.real))
        one = ga.gradient(model, p, found, motion(found, (place,)))["density"]
        other = ga.gradient(model, p, direct, motion(direct, (2,)))["density"]
        assert far(one, other) < RTOL
        with pytest.raises(ga.InputError, match=r"needs the lowest pairs .* below all eigenvalues"):
            ga.gradient(model, p, found, motion(found), strategy="deflated-cg")


def test_adjoints_that_do_not_converge_are_refused(both, monkeypatch):
    model, p, _, iterative = both
    monkeypatch.setattr("geneig_adjoint.deflated_cg.ITERATIONS", 3)
    match = r'but conjugate gradients with the eigensolver.s preconditioner do not; use strategy="'
    with pytest.raises(ga.ConvergenceError, match=match):
        ga.gradient(model, p, iterative, motion(iterative), strategy="deflated-cg")
    found = ga.gradient(model, p, iterative, motion(iterative))  # gives way to "ksp"
    monkeypatch.undo()
    expected = ga.gradient(model, p, iterative, motion(iterative))
    assert far(found["density"], expected["density"]) < RTOL


def test_block_method_that_stalls_gives_way_to_krylov_schur(both, monkeypatch):
    model, p, direct, _ = both
    monkeypatch.setattr("geneig_adjoint.preconditioned_pairs.ITERATIONS", 3)
    with model.assemble(p) as pencil, solved(pencil, block()[2]) as pairs:
        assert np.allclose(pairs.values, direct.values, rtol=1e-11, atol=0)
        assert not any("Davidson" in note for note in pairs.info.notes)


def test_failing_preconditioner_is_named(both):
    model, p, _, _ = both
    options = {"st_pc_type": "none", "st_ksp_max_it": 5}
    match = r"must reach st_ksp_rtol .* 5 of 5 iterations \(cg with none\); .* better st_pc_type"
    with model.assemble(p) as pencil, pytest.raises(ga.ConvergenceError, match=match):
        solved(pencil, block()[2], solver_parameters=options)


def test_script_that_closes_nothing_ends_well(mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import geneig_adjoint as ga; from elasticity3d import block; from mpi4py import MPI\n"
        "model, p, modes = block((6, 6, 6), MPI.COMM_WORLD); pencil = model.assemble(p)\n"
        "pairs = ga.solve_eigenproblem(pencil, 3, target=0.0, near_null_space=modes)\n"
    )
    assert mpirun(2, "python", str(script)).returncode == 0


def test_indefinite_systems_are_left_alone(both):
    """A pair whose lower neighbours are not known: negative curvature ends the iteration."""
    _, _, direct, iterative = both
    some = iterative.reordered([3, 4])
    solver = DeflatedCG(some, hermitian=True, rtol=1e-8)
    rhs = np.cos(np.arange(*some.rows))[:, None]
    (found,) = solver.solve([System(1, (1,), rhs.astype(direct.right.dtype), np.zeros((1, 1)))])
    assert np.isinf(found.accuracy)
