"""Derivatives that do not exist are refused; those of whole clusters are not."""

import numpy as np
import pytest
from builders import mass, matrix, nonsymmetric, stiffness

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 6


def shift_model(A, comm, derivative=None):
    """Return A + p D and its point p = 0."""
    derivative = np.diag(np.arange(1.0, len(A) + 1)) if derivative is None else derivative
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(derivative, comm), None)]})
    return model, {"p": np.zeros(1)}


SPECTRA = {
    "double": [2.0, 2.0, 5.0, 7.0, 9.0],
    "whole space": [2.0, 2.0],
    "triple": [2.0, 2.0, 2.0, 7.0],
    "nearly": [2.0, 2.0 + 1e-13, 5.0, 7.0],
}


def members(spectrum):
    return tuple(np.flatnonzero(np.isclose(spectrum, 2.0, rtol=1e-9)))


@pytest.mark.parametrize("name", SPECTRA)
def test_one_member_of_a_repeated_eigenvalue(comm, name):
    model, p = shift_model(np.diag(SPECTRA[name]), comm)
    group = members(SPECTRA[name])
    pairs = ga.solve_eigenproblem(model.assemble(p), len(group), target=1.8)
    assert pairs.clusters == (group,)
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster.*sum, mean or KS") as caught:
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    assert set(caught.value.members) <= set(group)
    assert caught.value.gap < 1e-12
    assert caught.value.defect == 1.0


@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvector_in_a_cluster(comm, name):
    model, p = shift_model(np.diag(SPECTRA[name]), comm)
    pairs = ga.solve_eigenproblem(model.assemble(p), len(members(SPECTRA[name])), target=1.8)
    output = obj.LinearOutput(np.arange(1.0, len(SPECTRA[name]) + 1), 0)
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster") as caught:
        ga.gradient(model, p, pairs, output)
    assert caught.value.members == members(SPECTRA[name])
    with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster"):
        ga.jvp(model, p, pairs, {"p": np.ones(1)})


@pytest.mark.parametrize("name", ["double", "whole space", "triple"])
def test_functions_of_the_whole_cluster_have_a_gradient(comm, name):
    spectrum = SPECTRA[name]
    size = len(members(spectrum))
    rng = np.random.default_rng(4)
    derivative = rng.normal(size=(len(spectrum), len(spectrum)))
    derivative += derivative.T
    model, p = shift_model(np.diag(spectrum), comm, derivative)
    pairs = ga.solve_eigenproblem(model.assemble(p), size, target=1.8)
    trace = np.trace(derivative[:size, :size])

    def total(pairs):
        return pairs.values.sum().real, ga.EigenCotangent(values=np.ones(size))

    # d(sum of the members) = trace of the derivative on their space; KS weighs them alike
    assert np.isclose(ga.gradient(model, p, pairs, total)["p"][0], trace, rtol=1e-10)
    smooth = obj.KSMinimum(rho=3.0, of="eigenvalue")
    found = ga.gradient(model, p, pairs, smooth)["p"][0]
    assert np.isclose(found, trace / size, rtol=1e-10)
    value, _ = smooth(pairs)
    assert np.isclose(value, 2.0 - np.log(size) / 3.0, rtol=1e-12)


@pytest.mark.parametrize("coupling", [0.0, 1e-12, 1e-10], ids=["Jordan", "1e-6", "1e-5"])
def test_defective_eigenvalue(comm, coupling):
    A = np.diag([1.0, 1.0, 3.0, 4.0])
    A[0, 1], A[1, 0] = 1.0, coupling
    model, p = shift_model(A, comm)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.9)
    for objective in (obj.Eigenvalue(0), obj.LinearOutput(np.ones(4), 1)):
        with pytest.raises(
            ga.DefectiveEigenvalueError, match=r"must be simple.*move the par"
        ) as caught:
            ga.gradient(model, p, pairs, objective)
        assert caught.value.condition > 1e4
    ga.gradient(
        model, p, ga.solve_eigenproblem(model.assemble(p), 1, target=4.1), obj.Eigenvalue(0)
    )


def test_free_phase(comm):
    model, p = shift_model(nonsymmetric(N), comm)
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.3, phase=None)
    assert pairs.phase_rows is None
    with pytest.raises(
        ga.GaugeError, match=r"phase=None, got a gauge defect of .*pair 0; use"
    ) as caught:
        ga.gradient(model, p, pairs, obj.LinearOutput(np.ones(N) + 0.5j * np.arange(N), 0))
    assert caught.value.defect > 1e-3


@pytest.mark.parametrize(
    "objective",
    [
        obj.Eigenvalue(0),
        obj.QuadraticForm(np.arange(1.0, N + 1)),
        obj.ModeShapeMatch(np.arange(1.0, N + 1)),
    ],
    ids=["eigenvalue", "quadratic", "mac"],
)
def test_phase_does_not_matter_to_these(comm, objective):
    model, p = shift_model(nonsymmetric(N), comm)
    found = []
    for phase in ("largest", None):
        pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.3, phase=phase)
        found.append(ga.gradient(model, p, pairs, objective)["p"])
    assert np.allclose(found[0], found[1], rtol=1e-8)  # rtol 1e-10 of the adjoint


def test_eigenvalue_close_to_another_but_known_well_enough(comm):
    # gap 1e-3: not a cluster, and the derivative is what it would be alone
    model, p = shift_model(np.diag([2.0, 2.001, 5.0]), comm)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=1.9)
    assert np.allclose(ga.gradient(model, p, pairs, obj.Eigenvalue(1))["p"], 2.0, rtol=1e-9)


def test_mass_of_a_rigid_body_mode_is_kept(comm):
    # A free chain: one zero eigenvalue, its gradient with respect to the masses is zero.
    free = stiffness(N)
    free[0, 0] = free[-1, -1] = 1.0
    model = ga.MatrixModel(
        matrix(free, comm), matrix(mass(N), comm), {"p": [(None, matrix(mass(N), comm))]}
    )
    p = {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.0)
    gradients = ga.gradient(model, p, pairs, [obj.Eigenvalue(0), obj.Eigenvalue(1)])
    assert abs(gradients[0]["p"][0]) < 1e-12
    assert np.isclose(gradients[1]["p"][0], -pairs.values[1].real, rtol=1e-9)  # d lam(beta B)
