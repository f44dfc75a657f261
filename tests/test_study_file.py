"""Study files and --set: what they mean, and what is refused before anything is computed."""

import pytest

from geneig_adjoint.errors import StudyError
from geneig_adjoint.study.settings import read_study

F1 = '[[objective]]\nname = "f1"\nkind = "frequency"\n'
HEAD = '[model]\nelements = "e.h5"\n'


def written(folder, text):
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


STUDY_ERRORS = {
    "table": (HEAD + F1 + "[solvr]\n", r"table \[solvr\] of study.toml .* did you mean 'solver'"),
    "key": (HEAD + F1 + "[solver]\ncuont = 2", r"key 'cuont' of \[solver\].*mean 'count'"),
    "far key": (HEAD + F1 + "[output]\nqqq = 2", r"got 'qqq'; known are directory, overwrite, vec"),
    "kind": (HEAD + F1.replace("frequency", "frequenzy"), r"kind of objective 'f1'.*'frequency'"),
    "option": (HEAD + F1 + "piar = 1", r"key 'piar' of objective 'f1'.*did you mean 'pair'"),
    "kind type": (HEAD + F1.replace('"frequency"', "3"), r"kind of objective 'f1'.*got '3'"),
    "type": (HEAD + F1 + '[solver]\ncount = "6"', r"'count' of \[solver\] must be a whole number"),
    "flag": (HEAD + F1 + "[solver]\ncount = true", r"'count' of \[solver\].*got True"),
    "interval": (
        HEAD + F1 + "[solver]\ninterval = [1]",
        r"must be two numbers \[a, b\], got \[1\]",
    ),
    "target": (HEAD + F1 + '[solver]\ntarget = "x"', r"must be a number or \[re, im\], got 'x'"),
    "left": (HEAD + F1 + "[solver]\nleft = 1", r"'left' .*must be true, false or \"auto\", got 1"),
    "norm": (HEAD + F1 + "[solver]\nnormalization = 2", r"must be a string or \[\"component\", r"),
    "overwrite": (HEAD + F1 + "[output]\noverwrite = 1", r"'overwrite' of \[output\] must be true"),
    "options": (HEAD + F1 + "[adjoint]\noptions = 3", r"'options' of \[adjoint\] must be a table"),
    "rtol": (HEAD + F1 + '[adjoint]\nrtol = "x"', r"'rtol' of \[adjoint\] must be a number"),
    "rows": (
        HEAD + '[[objective]]\nname = "x"\nkind = "linear"\nrows = [0.5]',
        r"'rows' of objective 'x' must be a list of whole numbers, got \[0.5\]",
    ),
    "weights": (
        HEAD + '[[objective]]\nname = "x"\nkind = "linear"\nrows = [0]\nweights = ["1"]',
        r"'weights' of objective 'x' must be a list of numbers",
    ),
    "no model": (F1, r"must have exactly one of elements, python and A, got none"),
    "two models": (HEAD + 'A = "a.mtx"\n' + F1, r"got elements and A"),
    "B alone": ('[model]\nB = "b.mtx"\n' + F1, r"exactly one of elements, python and A, got none"),
    "B beside": (HEAD + 'B = "b.mtx"\n' + F1, r"B must not stand beside 'elements'"),
    "options beside": (HEAD + "[model.options]\nx = 1\n" + F1, r"options must not stand beside"),
    "derivative beside": (
        HEAD + F1 + '[[derivative]]\nname = "p"\nA = "d.mtx"\n',
        r"\[\[derivative\]\] must not stand beside 'elements'",
    ),
    "no objective": (HEAD, r"needs at least one \[\[objective\]\], got none"),
    "single brackets": (
        HEAD + '[objective]\nname = "f"',
        r"got dict; write \[\[objective\]\], with t",
    ),
    "carriage return": (HEAD + "\r" + F1, r"study.toml must be TOML, got a syntax error"),
    "no table": ("model = 3\n" + F1, r"\[model\] must be a table, got int"),
    "twice": (HEAD + F1 + F1, r"must have different names, got 'f1' twice"),
    "no name": (HEAD + '[[objective]]\nkind = "keff"', r"needs a name without '/', got None"),
    "slash": (HEAD + F1.replace("f1", "a/b"), r"needs a name without '/', got 'a/b'"),
    "neither": (
        HEAD + '[[objective]]\nname = "f1"',
        r"either kind or python, got neither; kinds ar",
    ),
    "both": (HEAD + F1 + 'python = "a.py:b"', r"either kind or python, got both"),
    "python key": (
        HEAD + '[[objective]]\nname = "f1"\npython = "a.py:b"\npair = 1',
        r"key 'pair' of objective 'f1' must be a known name",
    ),
    "derivative": (
        '[model]\nA = "a.mtx"\n' + F1 + '[[derivative]]\nname = "p"',
        r"\[\[derivative\]\] must have name and A or B \(files\), got \['name'\]",
    ),
    "derivative key": (
        '[model]\nA = "a.mtx"\n' + F1 + '[[derivative]]\nname = "p"\nC = "x"',
        r"key 'C' of \[\[derivative\]\] must be a known name",
    ),
    "home": (
        HEAD + F1 + '[output]\ndirectory = "~/out"',
        r"plain path, got '~/out'.* --set \"output.directory=\$HOME/out\"",
    ),
    "variable": (
        HEAD + F1 + '[output]\ndirectory = "a/$JOB"',
        r"got 'a/\$JOB': a study knows no ~",
    ),
    "syntax": ("[model\n", r"study.toml must be TOML, got a syntax error"),
}


@pytest.mark.failure("unknown key", through="api")
@pytest.mark.parametrize(("text", "message"), STUDY_ERRORS.values(), ids=STUDY_ERRORS)
def test_study_that_cannot_be_meant_is_refused(tmp_path, text, message):
    with pytest.raises(StudyError, match=message):
        read_study(written(tmp_path, text))


def test_study_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "study.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match=r"must be TOML in UTF-8, got .*; save it as UTF-8"):
        read_study(tmp_path / "study.toml")


def test_study_may_begin_with_the_mark_that_windows_writes(tmp_path):
    (tmp_path / "study.toml").write_text(HEAD + F1, encoding="utf-8-sig")
    assert read_study(tmp_path / "study.toml").model == {"elements": "e.h5"}


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_study_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(StudyError, match=r"must be readable, got .* check the name"):
        read_study(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "place", "expected"),
    [
        ("solver.count=20", ("solver", "count"), 20),
        ("solver.target=-1e-3", ("solver", "target"), -1e-3),
        (" solver.which = largest_real ", ("solver", "which"), "largest_real"),
        ('output.directory="2024"', ("output", "directory"), "2024"),
        ("output.directory=a b=c", ("output", "directory"), "a b=c"),
        ("output.vectors=false", ("output", "vectors"), False),
        ("solver.interval=[1, 2.5]", ("solver", "interval"), [1, 2.5]),
        ('solver.normalization=["component", 3]', ("solver", "normalization"), ["component", 3]),
        ("adjoint.options.ksp_max_it=7", ("adjoint", "options"), {"ksp_max_it": 7}),
    ],
)
def test_set_replaces_an_entry(tmp_path, change, place, expected):
    study = read_study(written(tmp_path, HEAD + F1 + "[solver]\ncount = 3\n"), [change])
    assert getattr(study, place[0])[place[1]] == expected


@pytest.mark.failure("unknown key", through="api")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("solver.count", r"--set must be table.key=value, got 'solver.count'"),
        ("count=3", r"--set must be table.key=value, got 'count=3'"),
        ("solver.count=six", r"'count' of \[solver\] must be a whole number, got 'six'"),
        ("solver.cuont=6", r"did you mean 'count'"),
        (
            "solver.count.x=6",
            r"--set must name a table, got 'solver.count.x' where 'count' is none",
        ),
        ("objective.pair=1", r"'objective' is none; lists such as \[\[objective\]\]"),
        ("output.directory=2024", r"'directory' of \[output\] must be a string, got 2024"),
    ],
)
def test_set_that_cannot_be_meant_is_refused(tmp_path, change, message):
    path = written(tmp_path, HEAD + F1 + "[solver]\ncount = 3\n")
    with pytest.raises(StudyError, match=message):
        read_study(path, [change])


def test_solver_table_becomes_keywords(tmp_path):
    text = (
        HEAD + F1 + '[solver]\ncount = 4\ntarget = [1, 2]\nnormalization = ["component", 3]\n'
        'phase = "none"\nleft = true\n[solver.options]\neps_tol = 1e-12\n'
        '[adjoint]\nstrategy = "ksp"\nrtol = 1e-9\n[adjoint.options]\nksp_max_it = 7\n'
    )
    study = read_study(written(tmp_path, text))
    assert study.solver_arguments() == {
        "count": 4,
        "target": 1 + 2j,
        "normalization": ("component", 3),
        "phase": None,
        "left": True,
        "solver_parameters": {"eps_tol": 1e-12},
    }
    assert study.adjoint_arguments() == {
        "strategy": "ksp",
        "rtol": 1e-9,
        "solver_parameters": {"ksp_max_it": 7},
    }
