"""Studies that go wrong, row by row of the table of failures, and what is left of each."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from study_files import result, study_folder

from geneig_adjoint.cli import main

OLD = {"result.json": b'{"old": "results"}', "result.h5": b"old results"}


@dataclass(frozen=True)
class Failing:
    """A study, and how it must end.

    row: name in the table of examples/docs/failures.md. model: a function of failing_models.
    said: patterns of what is printed. failures: what result.json says, by its names; None where
    the old results must stand as they were. gradients: of these objectives there are some.
    values: the first eigenvalues. notes: patterns in result.json. kept: other files that are
    there in the end. files: writes more input. broken: what is replaced in the package.
    environ: changed variables. old: results of an earlier run, and their content. quiet: what is
    said at the end does not name the program. ranks: run on several ranks, too.
    """

    row: str
    code: int
    said: tuple[str, ...] = ()
    model: str = ""
    text: str = ""
    failures: Mapping[str, str] | None = None
    gradients: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    command: str = "run"
    files: Callable[[Any], None] = lambda folder: None
    broken: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    old: Mapping[str, bytes] = field(default_factory=lambda: OLD)
    aside: str = ""
    overwrite: bool = True
    quiet: bool = False
    ranks: bool = False


def study(solver="", options="", **objectives):
    """Return a study of a function of failing_models; objectives by name."""
    text = f'[model]\npython = "model.py:MODEL"\n[model.options]\n{options}\n[solver]\n{solver}\n'
    for name, lines in objectives.items():
        text += f'[[objective]]\nname = "{name}"\n{lines}\n'
    return text


def value(pair=0):
    return f'kind = "eigenvalue"\npair = {pair}'


def frequency(pair=0):
    return f'kind = "frequency"\npair = {pair}'


def shape(pair=0):
    return f'kind = "quadratic"\nrows = [0, 2]\nweights = [1.0, 0.3]\npairs = [{pair}]'


def params(*tables, ranks=False):
    """Return studies of tables as parameters of a test; ``ranks``: those for several ranks."""
    return [
        pytest.param(
            case, id=f"{case.row}: {name}", marks=pytest.mark.failure(case.row, through="command")
        )
        for table in tables
        for name, case in table.items()
        if case.ranks or not ranks
    ]


def written(case, folder):
    """Write a study over old results; return its file."""
    source = "from failing_models import *\n"
    path = study_folder(folder, case.text.replace("MODEL", case.model), model=source)
    case.files(folder)
    (folder / "out").mkdir()
    for name, content in case.old.items():
        (folder / "out" / name).write_bytes(content)
    return path


def ends_as_it_must(case, comm, folder, monkeypatch, capsys):
    """Run a study in this process and look at all it leaves.  (Collective.)"""
    folder = comm.bcast(folder)
    for place in [folder] if comm.rank == 0 else []:
        written(case, place)
    comm.barrier()
    for target, replacement in case.broken.items():
        monkeypatch.setattr(target, replacement)
    for name, content in case.environ.items():
        monkeypatch.setenv(name, content)
    overwrite = ["--overwrite"] if case.overwrite and case.command != "check" else []
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as where pytest is not
        code = main([case.command, str(folder / "study.toml"), *overwrite, *case.words])
    said = "".join(comm.allgather("".join(capsys.readouterr())))
    assert code == case.code, said
    for pattern in case.said:
        assert re.search(pattern, said), f"{pattern}\n{said}"
    quiet = case.quiet or case.code in {0, 5} or (case.failures is not None and case.code != 70)
    assert said.count("geneig-adjoint: ") == (not quiet), said
    assert ("Traceback" in said) == (code == 70), said
    left(case, folder)
    comm.barrier()
    return said


def left(case, folder):
    """Look at the files a study has left."""
    out = folder / "out"
    found = set(os.listdir(out)) - {"events.jsonl"}
    assert found == ({case.aside} if case.aside else set(case.old)) | case.kept, found
    if case.failures is None:
        assert {name: (out / case.aside / name).read_bytes() for name in case.old} == case.old
        return
    content = result(out)
    assert list(content["failures"]) == list(case.failures)
    for name, pattern in case.failures.items():
        assert re.search(pattern, content["failures"][name]), content["failures"][name]
    assert list(content["gradients"]) == list(case.gradients)
    assert set(content["gradients"]) <= set(content["objectives"])
    found = [complex(*pair) for pair in content["values"]]
    assert found[: len(case.values)] == pytest.approx(list(case.values), rel=1e-9, abs=1e-9)
    notes = "\n".join([*content["notes"], str(content["completeness"])])
    for pattern in case.notes:
        assert re.search(pattern, notes), f"{pattern}\n{notes}"
