"""Studies on several ranks: the same code, one message, the same results as on one rank."""

from pathlib import Path

import h5py
import meshio
import numpy as np
import pytest
from study_files import (
    DAMPED,
    DAMPED_MODEL,
    DOUBLE,
    ELEMENTS,
    MODEL,
    PYTHON,
    WRONG,
    N,
    P,
    chain_derivatives,
    chain_mesh,
    result,
    study_folder,
    write_chain,
)

from geneig_adjoint.cli import main


@pytest.fixture
def study(comm, tmp_path):
    """Write a study on rank 0; return its path on every rank."""

    def write(text=ELEMENTS, **modules):
        path = comm.bcast(tmp_path) / "study.toml"
        for folder in [path.parent] if comm.rank == 0 else []:
            study_folder(folder, text, **modules)
        comm.barrier()
        return str(path)

    return write


@pytest.fixture
def messages(comm, capsys):
    """Count what geneig-adjoint said about its end, on all ranks together."""

    def count():
        return comm.allreduce(capsys.readouterr().err.count("geneig-adjoint: "))

    return count


def folder(comm, path):
    comm.barrier()
    return path.removesuffix("study.toml") + "out"


def check_first(comm, path):
    """Compare with the dense closed form; see tests/test_study.py for the tolerances."""
    lam, gradient = chain_derivatives(P, 0)
    frequency = np.sqrt(lam) / (2 * np.pi)
    content = result(folder(comm, path))
    assert content["ranks"] == comm.size
    assert content["objectives"]["f1"] == pytest.approx(frequency, rel=1e-12)
    with h5py.File(folder(comm, path) + "/result.h5") as file:
        for name, part in gradient.items():
            slope = part / (8 * np.pi**2 * frequency)
            found = file[f"gradients/f1/{name}"][()]
            np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-12)
        vectors = file["right"][()]
    comm.barrier()
    return vectors


@pytest.mark.parametrize("text", [ELEMENTS, PYTHON], ids=["elements", "python"])
def test_study_gives_the_closed_form(comm, study, messages, text):
    path = study(text)
    assert main(["run", path]) == 0
    assert messages() == 0
    vectors = check_first(comm, path)
    assert vectors.shape == (N, 2)


DISTRIBUTED = MODEL.replace("chain_parameters\n", "chain_parameters, distributed\n").replace(
    "chain_parameters(n)", "{k: distributed(v, comm) for k, v in chain_parameters(n).items()}"
)


def test_distributed_parameters_are_gathered_into_the_results(comm, study):
    path = study(PYTHON, model=DISTRIBUTED)
    assert main(["run", path]) == 0
    check_first(comm, path)


@pytest.mark.failure("repeated eigenvalue", through="command")
def test_missing_gradient_leaves_the_others(comm, study, messages):
    objectives = "".join(
        f'[[objective]]\nname = "e{j}"\nkind = "eigenvalue"\npair = {j}\n' for j in range(3)
    )
    text = '[model]\npython = "model.py:build"\n[solver]\ncount = 3\n' + objectives
    path = study(text, model=DOUBLE)
    assert main(["run", path]) == 6
    assert messages() == 0
    content = result(folder(comm, path))
    assert sorted(content["failures"]) == ["e1", "e2"]
    assert list(content["gradients"]) == ["e0"]
    assert sorted(content["objectives"]) == ["e0", "e1", "e2"]


RAISES = MODEL.replace("    n =", '    raise KeyError("mine")\n    n =')
STOPPED = ("--set", "solver.options.eps_max_it=1", "--set", "solver.options.eps_ncv=3")
LARGE = ("--set", "model.options.n=300", "--set", "solver.which=largest_real")
CODES = {
    "usage": (2, ("run", "--bogus"), ELEMENTS, MODEL),
    "study": (2, ("run", "--set", "solver.cuont=1"), ELEMENTS, MODEL),
    "argument": (2, ("run", "--set", "solver.count=9"), ELEMENTS, MODEL),
    "file": (3, ("run", "--set", "model.elements=none.h5"), ELEMENTS, MODEL),
    "check file": (3, ("check", "--set", "model.elements=none.h5"), ELEMENTS, MODEL),
    "convergence": (4, ("run", *LARGE, *STOPPED), PYTHON, MODEL),
    "user code": (70, ("run",), PYTHON, RAISES),
    "user check": (70, ("check",), PYTHON, RAISES),
}


@pytest.mark.failure("too few pairs", through="command")
@pytest.mark.parametrize(("code", "words", "text", "model"), CODES.values(), ids=CODES)
def test_error_has_its_code_on_every_rank_and_one_message(
    comm, study, messages, code, words, text, model
):
    command, *options = words
    assert main([command, study(text, model=model), *options]) == code
    assert messages() == 1


@pytest.mark.failure("wrong derivative", through="command")
@pytest.mark.parametrize(("model", "code"), [(MODEL, 0), (WRONG, 5)], ids=["right", "wrong"])
def test_check_judges_on_every_rank_and_prints_once(comm, study, messages, capsys, model, code):
    text = PYTHON.split('[[objective]]\nname = "second"')[0]
    assert main(["check", study(text, model=model)]) == code
    verdicts = capsys.readouterr().out.count("verdict  ")
    assert comm.allreduce(verdicts) == 1


# Without a phase a real vector has its sign's freedom only. In the complex build the vectors of a
# real pencil come out real, and to first order the phase moves the imaginary part alone.
FREE_PHASE = {"real": ("real", 0, []), "complex": ("imag", 6, ["motion"])}


def test_gradient_that_depends_on_a_free_phase_is_missing(comm, study, scalar_build):
    part, code, missing = FREE_PHASE[scalar_build]
    path = study(ELEMENTS + f'part = "{part}"\n')
    assert main(["run", path, "--set", "solver.phase=none"]) == code
    assert list(result(folder(comm, path))["failures"]) == missing
    comm.barrier()


def test_element_table_with_a_mesh_gives_a_picture(comm, study):
    path = study()
    table = path.replace("study.toml", "elements.h5")
    for mesh in [chain_mesh()] if comm.rank == 0 else []:
        write_chain(Path(table), mesh)
    comm.barrier()
    assert main(["run", path]) == 0
    found = meshio.read(folder(comm, path) + "/modes.vtu")
    # Two modes; in the complex build each in two halves.
    assert {name[:6] for name in found.point_data} == {"mode_0", "mode_1"}
    assert {len(mode) for mode in found.point_data.values()} == {N + 2}
    assert set(found.cell_data) == {f"{o}_{p}" for o in ("f1", "second", "motion") for p in "km"}
    comm.barrier()


def test_a_quadratic_study_writes_vectors_of_the_quadratic_problem(comm, study):
    path = study(DAMPED, model=DAMPED_MODEL)
    assert main(["run", path]) == 0
    out = folder(comm, path)
    with h5py.File(Path(out) / "result.h5") as file:
        right = file["right"][:]
    mode = np.sin(np.pi * np.arange(1, N + 1) / (N + 1))
    # One half wave over all ranks' rows in order, of length 1; the solver's 1e-12.
    np.testing.assert_allclose(np.abs(right[:, 0]), mode / np.linalg.norm(mode), atol=1e-9)
    gradient = result(out)["gradients"]["decay"]["c"]["entries"]
    np.testing.assert_allclose(gradient, 1 / 4, rtol=1e-8)
