"""The benchmarks' problems, tables and records; the times themselves are nobody's promise."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"
NAMES = ("elasticity2d", "elasticity3d", "diffusion", "membrane")
RIGID_MOTIONS = {2: 3, 3: 6}


@pytest.fixture
def load(monkeypatch):
    """Import modules of the benchmarks, which are scripts beside a folder `peers`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def gradients(load):
    """Gradients of a peer on the smallest problem of a kind."""

    def of(peer, name, **changes):
        module = load(f"peers.{peer}")
        problem = load("peers.sizes").make(name, "tiny", **changes)
        return module.gradients(problem, module.prepare(problem), load("peers.meter").Meter())

    return of


@pytest.mark.parametrize("dimension", [2, 3])
def test_elements_resist_everything_but_rigid_motions(load, dimension):
    stiffness, mass = load("peers.problems").elastic_matrices(dimension)
    values = np.linalg.eigvalsh(stiffness)
    rigid = RIGID_MOTIONS[dimension]
    # Rounding of a sum of eight terms of size 1.
    assert np.allclose(stiffness, stiffness.T, atol=1e-14)
    assert np.abs(values[:rigid]).max() < 1e-14
    assert values[rigid] > 0.01
    assert mass.sum() == pytest.approx(dimension, rel=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_matrices_are_those_of_the_other_peers(load, name):
    problem = load("peers.sizes").make(name, "tiny")
    model, pencil = load("peers.ours").prepare(problem)
    block = np.random.default_rng(3).normal(size=(problem.n, 2))
    for side, product in (("A", pencil.multiply_a), ("B", pencil.multiply_b)):
        theirs = load("peers.matrices").sparse(problem, side) @ block
        assert np.allclose(product(block), theirs, rtol=0, atol=1e-13 * np.abs(theirs).max())
    pencil.close()
    model.close()


@pytest.mark.parametrize("name", NAMES)
def test_this_package_and_scipy_agree(load, gradients, name):
    errors = load("peers.measuring").errors
    theirs, ours = (flat(gradients(peer, name)) for peer in ("scipy_user", "ours"))
    # Both stop at 1e-10; errors of gradients are up to ten times that.
    assert max(errors(ours, theirs).values()) < 1e-9


def flat(found):
    return {f"{goal} {name}": array for goal, g in found.items() for name, array in g.items()}


def test_reference_agrees_with_differences(gradients):
    check = gradients("reference", "elasticity3d")["check"]
    # A central difference with steps of 1e-4 of the densities.
    assert max(check.values()) < 1e-7


def test_membrane_has_exact_pairs(load):
    problem = load("peers.sizes").make("membrane", "tiny")
    A, B = (load("peers.matrices").sparse(problem, side) for side in "AB")
    values = np.sort(scipy.sparse.linalg.eigsh(A, 8, B, sigma=0.0)[0])
    # Squares of (1, 1), (1, 2), (2, 1), (2, 2), (1, 3), ...; rounding of 8 values of size 1.
    assert values[[1, 4, 6]] == pytest.approx(values[[2, 5, 7]], rel=1e-12)
    assert values / values[0] == pytest.approx(np.array([2, 5, 5, 8, 10, 10, 13, 13]) / 2, rel=0.03)


@pytest.mark.parametrize("number", [7, 720])
def test_more_parameters_split_the_gradient(gradients, number):
    found = gradients("scipy_user", "elasticity2d", parameters=number, count=3)
    several = gradients("ours", "elasticity2d", parameters=number, count=3)
    assert len(found["vectors"]["density"]) == number
    for goal, size in (("eigenvalue", 1e-10), ("vectors", 1e-8)):
        theirs, ours = found[goal]["density"], several[goal]["density"]
        assert ours == pytest.approx(theirs, rel=0, abs=size * np.abs(theirs).max())


def test_layers_share_what_one_density_had(gradients):
    whole = gradients("scipy_user", "elasticity2d")["eigenvalue"]["density"]
    layers = gradients("scipy_user", "elasticity2d", parameters=3 * whole.size)["eigenvalue"]
    assert layers["density"].reshape(3, -1).sum(axis=0) == pytest.approx(whole, rel=1e-9)


@pytest.mark.any_scalars
def test_errors_are_those_of_the_worst_parameter(load):
    exact = {"eigenvalue a": np.ones(4), "vectors a": np.ones(4), "vectors b": np.full(4, 1e-3)}
    found = {name: array.copy() for name, array in exact.items()}
    found["vectors b"][0] += 1e-4
    found["vectors a"][0] += 1e-4
    errors = load("peers.measuring").errors(found, exact)
    assert errors == pytest.approx({"eigenvalue": 0.0, "vectors": 0.05}, rel=1e-10)


def report(seconds, error=1e-11):
    times = {"matrices": 0.1, "eigensolve": seconds, "eigenvalue": 0.5, "vectors": seconds}
    return {
        "wall": times,
        "cpu": times,
        "memory": 2e9,
        "error": {"eigenvalue": error, "vectors": error},
        "when": "2000-01-01 00:00",
    }


@pytest.fixture
def store(load, tmp_path):
    """Records of two peers, one of them too slow."""
    kept = load("peers.measuring").Store(tmp_path)
    for repeat, seconds in enumerate((9.0, 1.0, 2.0)):
        kept.content["cases"][f"membrane/20k/ours-1/{repeat}"] = report(seconds)
    kept.content["cases"]["membrane/20k/eigd/0"] = {"failed": "> 330 s", "when": "2000-01-02 00:00"}
    kept.content["cases"]["membrane/20k/scipy/0"] = report(5.0, error=0.3)
    return kept


@pytest.mark.any_scalars
def test_tables_show_medians_timeouts_and_wrong_answers(load, store):
    text = load("peers.tables").everything(store)
    assert "| ours | 4.00 (4.00) |" in text
    assert "| ours | 2.50 (2.50) |" in text
    assert "| eigd | > 330 s |" in text
    assert "| SciPy, by hand | 2.50 |" in text  # 10 s of 4 s
    assert "| SciPy, by hand | 3e-01 / 3e-01 |" in text
    assert "measured 2000-01-01 to 2000-01-02" in text


@pytest.mark.any_scalars
def test_summary_has_no_small_problems(load, store):
    store.content["cases"]["elasticity2d/300k/scipy/0"] = report(20.0)
    lines = load("peers.tables").summary(store).splitlines()
    assert lines[2] == "|  | elasticity2d 300k |"
    assert "| ours | - |" in lines
    assert "| SciPy, by hand | 40.0 (40.0) |" in lines


@pytest.mark.any_scalars
def test_tables_go_between_the_marks_of_a_page(load, tmp_path):
    tables = load("peers.tables")
    page = tmp_path / "page.md"
    begin, end = tables.marks()
    other = "\n\n".join(tables.marks("other"))
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n{other}\n")
    for text in ("first", "second"):
        tables.replace_between(page, text)
    assert page.read_text() == f"before\n{begin}\n\nsecond\n\n{end}\nafter\n{other}\n"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("README.md", ["benchmark tables"]),
        ("examples/docs/benchmarks.md", ["benchmark tables", "growth tables", "counts", "paper"]),
    ],
)
def test_pages_have_the_marks(load, page, names):
    text = (BENCHMARKS.parents[1] / page).read_text()
    for name in names:
        begin, end = load("peers.tables").marks(name)
        assert text.count(begin) == text.count(end) == 1
        assert text.index(begin) < text.index(end)


@pytest.mark.any_scalars
def test_words_come_from_the_numbers(load, store):
    tables = load("peers.tables")
    store.content["cases"]["membrane/20k/scipy/0"]["versions"] = {"scipy": "1.2", "numpy": "3"}
    store.content["cases"]["membrane/20k/pymoto/0"] = report(1.0)
    text = tables.everything(store)
    assert "- membrane 20k: SciPy, by hand, by 3e-01" in text
    assert "- membrane 20k: pyMOTO (0.50)\n" in text
    assert "- SciPy, by hand: scipy 1.2, numpy 3" in text
    assert "medians of 1 to 3 runs" in text


@pytest.mark.any_scalars
def test_records_are_kept_and_forgotten(load, store):
    store.save()
    again = load("peers.measuring").Store(store.folder)
    assert again.content == json.loads(json.dumps(store.content))
    again.forget(["ours-1"])
    assert sorted(again.content["cases"]) == ["membrane/20k/eigd/0", "membrane/20k/scipy/0"]


@pytest.mark.any_scalars
def test_only_missing_cases_are_measured_and_peers_take_turns(load, store, monkeypatch):
    measured = []
    monkeypatch.setattr(store, "measure", lambda key, *_: measured.append(key))
    words = ["--only", "ours-1", "eigd", "scipy", "ours-2", "--enough", "15"]
    run = load("run")
    run.measure(store, run.arguments(words), "membrane", "20k")
    # Ours is complete, eigd has failed, scipy has taken its 10.6 seconds once.
    assert measured == [
        "membrane/20k/ours-2/0",
        "membrane/20k/ours-2/1",
        "membrane/20k/scipy/1",
        "membrane/20k/scipy/2",
        "membrane/20k/ours-2/2",
    ]


@pytest.mark.any_scalars
def test_worker_that_is_too_slow_or_fails_is_reported(load):
    measuring = load("peers.measuring")
    ours, python = measuring.PEERS["ours-1"], sys.executable
    slow, _ = measuring.run_worker(ours, python, ["membrane", "tiny"], timeout=0.1)
    assert slow["failed"].startswith("> 0")
    wrong, _ = measuring.run_worker(ours, python, ["membrane", "absent"], timeout=60)
    assert wrong["failed"] == "failed: KeyError: 'absent'"
