"""What a factor will need, counted before it is made, and what `check --dry-run` says of it."""

import re
import resource

import numpy as np
import pytest
from builders import matrix
from hexahedra import block
from mpi4py import MPI

import geneig_adjoint as ga
from geneig_adjoint import builds
from geneig_adjoint import factor_estimate as module
from geneig_adjoint.factor_estimate import factor_estimate
from geneig_adjoint.machine import control_groups
from geneig_adjoint.machine import memory as machine
from geneig_adjoint.study import memory
from geneig_adjoint.wanted import Wanted

MUMPS = {"st_pc_factor_mat_solver_type": "mumps"}
GMRES = {"st_ksp_type": "gmres", "st_pc_type": "jacobi"}
GB = 1e9


@pytest.fixture
def body():
    """A block of hexahedra of 1344 dofs."""
    model, p, modes = block(MPI.COMM_SELF)
    with model.assemble(p) as pencil:
        yield pencil, modes


def wanted(pencil, **changes):
    return Wanted(**{"count": 4, **changes}).checked(pencil)


def made_factor(pairs):
    return pairs.factor.eps.getST().getKSP().getPC().getFactorMatrix()


@pytest.mark.parametrize("target", [0.0, 0.003])
def test_entries_are_those_of_the_factor_that_mumps_makes(body, target):
    pencil, _ = body
    found = factor_estimate(pencil, wanted(pencil, target=target, options=MUMPS))
    with ga.solve_eigenproblem(pencil, 4, target=target, solver_parameters=MUMPS) as pairs:
        factor = made_factor(pairs)
        assert found.entries == factor.getMumpsInfog(20) > 1e5
        assert factor.getMumpsInfog(29) == pytest.approx(found.entries, rel=0.3)
        # What MUMPS has taken in the end, in MB
        assert found.memory == pytest.approx(1e6 * factor.getMumpsInfog(22), rel=0.8)
    assert (found.package, found.whole) == ("mumps", False)


def test_mumps_stops_after_its_analysis(body, monkeypatch):
    pencil, _ = body
    verdicts, free = [], module._petsc.destroy_quietly

    def noted(ksp):
        factor = ksp.getPC().getFactorMatrix()
        verdicts.append((factor.getMumpsInfog(1) < 0, factor.getMumpsInfog(22)))
        free(ksp)

    monkeypatch.setattr(module._petsc, "destroy_quietly", noted)
    counted = factor_estimate(pencil, wanted(pencil)).counting > 0  # in the real build
    assert verdicts == [(True, 0)] * (1 + counted)


@pytest.mark.skipif(not builds.HAS_CHOLMOD, reason="a PETSc without CHOLMOD")
def test_cholmod_has_about_as_many_entries_and_the_count_is_a_second_factor(body):
    pencil, _ = body
    found = factor_estimate(pencil, wanted(pencil))
    with ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs:
        entries = made_factor(pairs).getInfo()["nz_used"]
    assert found.package == "cholmod"
    assert found.entries == pytest.approx(entries, rel=0.5)
    assert found.counting > 0
    assert factor_estimate(pencil, wanted(pencil, count_check=False)).counting == 0


@pytest.mark.skipif(not builds.HAS_CHOLMOD, reason="only real builds count by a factor")
def test_count_is_of_both_matrices_whatever_is_factored(body, comm):
    pencil, _ = body
    at_target = factor_estimate(pencil, wanted(pencil, options=MUMPS))
    largest = factor_estimate(pencil, wanted(pencil, which="largest_real", options=MUMPS))
    assert largest.counting == pytest.approx(at_target.counting, rel=0.3)
    assert largest.entries < 0.7 * at_target.entries  # B couples fewer unknowns
    with ga.Pencil(pencil.A) as standard:
        alone = factor_estimate(standard, wanted(standard, which="largest_real"))
        assert (alone.package, alone.entries) == ("", 0)
        assert alone.counting == pytest.approx(at_target.counting, rel=0.3)
        assert re.search(
            r"^factor none\n .*MB for one, while",
            said(standard, which="largest_real"),
            re.MULTILINE,
        )


def test_where_nothing_is_factored_nothing_is_counted(body, comm):
    pencil, modes = body
    assert factor_estimate(pencil, wanted(pencil, options=GMRES)) is None
    with ga.Pencil(matrix(np.diag([1.0, 2.0, 3.0]), comm), owned=True) as standard:
        request = {"which": "largest_real", "count": 1, "count_check": False}
        assert factor_estimate(standard, wanted(standard, **request)) is None
        assert "none, or one of options" in said(standard, **request)
    pencil.set_near_null_space(modes)
    assert re.search(r"^factor none: multigrid, \S+ [kM]B$", said(pencil), flags=re.MULTILINE)


def said(pencil, **changes):
    lines = memory.memory_lines(pencil, wanted(pencil, **changes))
    return "\n".join(f"{name} {text}" for name, text in lines)


def needed(text):
    amount, unit = re.search(r"here for (\S+) (\w+) more", text).groups()
    return float(amount) * {"kB": 1e3, "MB": 1e6, "GB": GB}[unit]


def test_what_does_not_fit_is_said_with_remedies(body, monkeypatch):
    pencil, _ = body
    monkeypatch.setattr(memory, "free_memory", lambda: 100 * GB)
    text = said(pencil)
    assert text.endswith("fits")
    assert "->" not in text
    more = needed(text)
    monkeypatch.setattr(memory, "free_memory", lambda: 1.2 * more)
    assert "more: may not fit" in said(pencil)
    monkeypatch.setattr(memory, "free_memory", lambda: 0.9 * more)
    text = said(pencil)
    assert "more: DOES NOT FIT" in text
    assert "-> near_null_space in place of the factor" in text
    assert "-> nodes with more memory, or more nodes" in text
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert "\nfree" not in said(pencil)


def test_many_pairs_are_what_takes_the_memory(body, monkeypatch):
    pencil, _ = body
    monkeypatch.setattr(memory, "free_memory", lambda: 0.0)
    text = said(pencil, count=600)
    assert "about 1344 columns" not in text
    assert "-> a smaller solver.count, or eps_ncv in solver.options" in text
    assert "near_null_space" not in text


LIMITS = {
    "version 2": ("0::/job/step", "job", "memory.max", "memory.current", "inactive_file"),
    "version 1": (
        "4:cpu,memory:/job/step", "memory/job", "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}  # fmt: skip


@pytest.mark.any_scalars
@pytest.mark.parametrize(("line", "place", "limit", "used", "cached"), LIMITS.values(), ids=LIMITS)
def test_limit_of_a_job_is_what_is_free(tmp_path, monkeypatch, line, place, limit, used, cached):
    (tmp_path / "self").write_text(f"9:name=systemd:/\n{line}\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "self")
    monkeypatch.setattr(control_groups, "MOUNT", tmp_path / "mount")
    assert machine.free_memory() == 8192e6  # no limits
    folder = tmp_path / "mount" / place
    folder.mkdir(parents=True)
    (folder / limit).write_text("3000\n")
    (folder / used).write_text("2000\n")
    (folder / "memory.stat").write_text(f"anon 7\n{cached} 500\n")
    assert machine.free_memory() == 1500.0
    (folder / limit).write_text("max\n")
    assert machine.free_memory() == 8192e6
    (tmp_path / "meminfo").unlink()
    assert machine.free_memory() is None


@pytest.mark.any_scalars
def test_limit_of_the_shell_counts(monkeypatch):
    assert 0 < machine.resident() < 100 * GB
    size = int(machine.STATM.read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (size + 1000, -1))
    assert machine.left_for_process() < 1e8
    assert memory.least_room(MPI.COMM_SELF, 1e9).verdict == "DOES NOT FIT"
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, -1))
    assert machine.left_for_process() == np.inf
