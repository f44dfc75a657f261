"""A study file as checked data."""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geneig_adjoint.errors import ArgumentError, StudyError
from geneig_adjoint.study.entries import (
    PARAMETER_TABLES,
    flattened,
    name_and_value,
    replace_entry,
)


@dataclass(frozen=True)
class Kind:
    """What the value of a key may be, in words and as a test."""

    text: str
    fits: Callable[[Any], bool]


def _is(*types: type) -> Callable[[Any], bool]:
    # TOML's true and false are no numbers, although Python's are.
    return lambda v: isinstance(v, types) and (bool in types or not isinstance(v, bool))


def _list_of(item: Kind, count: int | None = None) -> Callable[[Any], bool]:
    return lambda v: (
        isinstance(v, list) and count in {None, len(v)} and all(item.fits(part) for part in v)
    )


TEXT = Kind("a string", _is(str))
FLAG = Kind("true or false", _is(bool))
INTEGER = Kind("a whole number", _is(int))
NUMBER = Kind("a number", _is(int, float))
TABLE = Kind("a table", _is(dict))
INTEGERS = Kind("a list of whole numbers", _list_of(INTEGER))
NUMBERS = Kind("a list of numbers", _list_of(NUMBER))
INTERVAL = Kind("two numbers [a, b]", _list_of(NUMBER, 2))
POINT = Kind("a number or [re, im]", lambda v: NUMBER.fits(v) or INTERVAL.fits(v))
SCALE = Kind('a string or ["component", row]', lambda v: TEXT.fits(v) or _is(list)(v))
LEFT = Kind('true, false or "auto"', _is(bool, str))
PARAMETER = Kind("a number or a list of numbers", lambda v: NUMBER.fits(v) or NUMBERS.fits(v))
TEXTS = Kind("a list of strings", _list_of(TEXT))
TABLES = Kind("a list of tables", _list_of(TABLE))

KEYS: dict[str, dict[str, Kind]] = {
    "model": {
        "elements": TEXT,
        "distributed": FLAG,
        "python": TEXT,
        "A": TEXT,
        "B": TEXT,
        "options": TABLE,
    },
    "solver": {
        "count": INTEGER,
        "target": POINT,
        "which": TEXT,
        "interval": INTERVAL,
        "normalization": SCALE,
        "phase": TEXT,
        "left": LEFT,
        "count_check": TEXT,
        "options": TABLE,
    },
    "adjoint": {"strategy": TEXT, "rtol": NUMBER, "options": TABLE},
    "output": {"directory": TEXT, "overwrite": FLAG, "vectors": FLAG, "checkpoint": FLAG},
    "sweep": {"grid": TABLE, "list": TABLES, "csv": TEXT, "latin_hypercube": TABLE},
    "optimize": {
        "objective": TEXT,
        "sense": TEXT,
        "method": TEXT,
        "parameters": TEXTS,
        "bounds": TABLE,
        "constraints": TABLES,
        "max_iterations": INTEGER,
        "tolerance": NUMBER,
        "track": FLAG,
        "options": TABLE,
    },
}
MODEL_KEYS = {
    "elements": {"elements", "distributed"},
    "python": {"python", "options"},
    "A": {"A", "B"},
}
OBJECTIVE_KEYS: dict[str, dict[str, Kind]] = {
    "eigenvalue": {"pair": INTEGER, "part": TEXT},
    "frequency": {"pair": INTEGER},
    "keff": {"pair": INTEGER},
    "damping_ratio": {"pair": INTEGER},
    "decay_rate": {"pair": INTEGER},
    "natural_frequency": {"pair": INTEGER},
    "damped_frequency": {"pair": INTEGER},
    "ks": {"rho": NUMBER, "pairs": INTEGERS, "of": TEXT},
    "quadratic": {"rows": INTEGERS, "weights": NUMBERS, "matrix": TEXT, "pairs": INTEGERS},
    "linear": {"rows": INTEGERS, "weights": NUMBERS, "pair": INTEGER, "part": TEXT},
    "mode_shape": {"reference": TEXT, "pair": INTEGER},
}
DERIVATIVE_KEYS = {"name": TEXT, "A": TEXT, "B": TEXT}


@dataclass(frozen=True)
class Study:
    """The tables of a study file; paths are relative to `folder`.

    Attributes
    ----------
    path : Path
        The study file.
    model, solver, adjoint, output : dict
        Its tables.
    derivatives, objectives : list of dict
        Its ``[[derivative]]`` and ``[[objective]]`` tables.
    parameters, scale, sweep, optimize : dict
        Further tables: changed parameters, samples and the search for a better design.
    tables : dict
        All tables as the file and the command line gave them.

    """

    path: Path
    model: dict[str, Any]
    solver: dict[str, Any] = field(default_factory=dict)
    adjoint: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    derivatives: list[dict[str, Any]] = field(default_factory=list)
    objectives: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    optimize: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of the study file."""
        return self.path.parent

    @property
    def directory(self) -> Path:
        """Folder of the results."""
        return self.folder / self.output.get("directory", "out")

    def solver_arguments(self) -> dict[str, Any]:
        """Return the keywords of `solve_eigenproblem`."""
        arguments = {key: value for key, value in self.solver.items() if key != "options"}
        for key in ("interval", "normalization"):
            if isinstance(arguments.get(key), list):
                arguments[key] = tuple(arguments[key])
        if isinstance(arguments.get("target"), list):
            arguments["target"] = complex(*arguments["target"])
        if arguments.get("phase") == "none":  # TOML has no null
            arguments["phase"] = None
        arguments["solver_parameters"] = dict(self.solver.get("options", {}))
        return arguments

    def adjoint_arguments(self) -> dict[str, Any]:
        """Return the keywords of `gradient`."""
        arguments = {key: value for key, value in self.adjoint.items() if key != "options"}
        arguments["solver_parameters"] = dict(self.adjoint.get("options", {}))
        return arguments


def read_study(path: str | Path, changes: Sequence[str] = ()) -> Study:
    """Return a checked study.

    Not collective. Reads the file only, not what it names.

    Parameters
    ----------
    path
        TOML file.
    changes
        "table.key=value" items that replace what the file says; values as in TOML,
        bare words are strings.

    Raises
    ------
    StudyError
        Unreadable files, unknown or missing keys (with a suggestion), contradictions.

    """
    path = Path(path)
    try:
        # As bytes: text mode would make line ends of what TOML refuses (a lone carriage return).
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise StudyError(
            f"the study file must be readable, got {error.strerror} for {path}; check the name"
        ) from error
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} must be TOML in UTF-8, got {error}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also numbers too long, brackets too deep
        raise StudyError(f"{path} must be TOML, got a syntax error: {error}; correct it") from error
    for change in changes:
        replace_entry(tables, *name_and_value(change), what="--set")
    return study_of(path, tables)


def study_of(path: Path, tables: dict[str, Any]) -> Study:
    """Return the checked study of tables; the path says what files are relative to.

    Not collective.

    Raises
    ------
    StudyError
        As in `read_study`.

    """
    _check_keys(path, tables)
    study = Study(
        path=path,
        model=tables.get("model", {}),
        solver=tables.get("solver", {}),
        adjoint=tables.get("adjoint", {}),
        output=tables.get("output", {}),
        derivatives=tables.get("derivative", []),
        objectives=tables.get("objective", []),
        parameters=flattened(tables.get("parameters", {})),
        scale=flattened(tables.get("scale", {})),
        sweep=tables.get("sweep", {}),
        optimize=tables.get("optimize", {}),
        tables=tables,
    )
    _check_content(study)
    return study


def with_entries(study: Study, entries: Mapping[str, Any]) -> Study:
    """Return a study with some entries replaced, e.g. {"solver.count": 20}.  (Not collective.)

    Raises
    ------
    StudyError
        As in `read_study`.

    """
    tables = copy.deepcopy(study.tables)
    for name, value in entries.items():
        replace_entry(tables, name, value, what="an entry")
    return study_of(study.path, tables)


def _check_keys(path: Path, tables: Mapping[str, Any]) -> None:
    known = [*KEYS, *PARAMETER_TABLES, "derivative", "objective"]
    for table, content in tables.items():
        _check_known(f"table [{table}] of {path.name}", table, known)
        if table in KEYS or table in PARAMETER_TABLES:
            if not isinstance(content, dict):
                raise StudyError(
                    f"[{table}] must be a table, got {type(content).__name__}; write [{table}] on "
                    "a line of its own"
                )
            _check_table(table, content)
        elif not _list_of(TABLE)(content):
            raise StudyError(
                f"[{table}] must be a list of tables, got {type(content).__name__}; write "
                f"[[{table}]], with two brackets"
            )


def _check_table(table: str, content: Mapping[str, Any]) -> None:
    if table in PARAMETER_TABLES:
        content = flattened(content)
        check_values(f"[{table}]", content, dict.fromkeys(content, PARAMETER))
    else:
        check_values(f"[{table}]", content, KEYS[table])


def check_values(where: str, content: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Raise a StudyError unless all keys are known and their values fit.  (Not collective.)"""
    for key, value in content.items():
        _check_known(f"key {key!r} of {where}", key, kinds)
        if not kinds[key].fits(value):
            raise StudyError(
                f"{key!r} of {where} must be {kinds[key].text}, got {value!r}; correct the study"
            )


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    raise StudyError(f"{what} must be a known name, got {name!r}; {hint}")


def _check_model(study: Study) -> None:
    kinds = [key for key in MODEL_KEYS if key in study.model]
    if len(kinds) != 1:
        raise StudyError(
            "[model] must have exactly one of elements, python and A, got "
            f"{' and '.join(kinds) or 'none'}; say where the matrices come from"
        )
    other = sorted(set(study.model) - MODEL_KEYS[kinds[0]])
    if study.derivatives and kinds[0] != "A":
        other.append("[[derivative]]")
    if other:
        raise StudyError(
            f"{' and '.join(other)} must not stand beside {kinds[0]!r} of [model], which says "
            "everything already; remove one of them"
        )


def _check_content(study: Study) -> None:
    _check_model(study)
    if not study.objectives:
        raise StudyError(
            "a study needs at least one [[objective]], got none; add for example "
            '[[objective]] with name = "f1" and kind = "frequency"'
        )
    for derivative in study.derivatives:
        check_values("[[derivative]]", derivative, DERIVATIVE_KEYS)
        if "name" not in derivative or not {"A", "B"} & set(derivative):
            raise StudyError(
                f"[[derivative]] must have name and A or B (files), got {sorted(derivative)}; "
                "add what is missing"
            )
    _check_directory(study.output.get("directory", "out"))
    names = [_checked_objective(objective) for objective in study.objectives]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(
            f"objectives must have different names, got {twice[0]!r} twice; rename one of them"
        )


def _check_directory(name: str) -> None:
    if name.startswith("~") or "$" in name:
        shell = name.replace("~", "$HOME", 1)
        raise StudyError(
            f"output.directory must be a plain path, got {name!r}: a study knows no ~ and no "
            f'variables; write it out, or let the shell do it: --set "output.directory={shell}"'
        )


def _checked_objective(objective: Mapping[str, Any]) -> str:
    name = objective.get("name")
    if not isinstance(name, str) or name in {"", "."} or "/" in name or "\0" in name:
        raise StudyError(
            f"every [[objective]] needs a name without '/', got {name!r}; give it one, under which "
            "its results are written"
        )
    if ("kind" in objective) == ("python" in objective):
        raise StudyError(
            f"objective {name!r} must have either kind or python, got "
            f"{'both' if 'kind' in objective else 'neither'}; kinds are "
            f"{', '.join(OBJECTIVE_KEYS)}"
        )
    if "python" in objective:
        allowed = {"name": TEXT, "python": TEXT, "options": TABLE}
    else:
        _check_known(f"kind of objective {name!r}", str(objective["kind"]), OBJECTIVE_KEYS)
        allowed = {"name": TEXT, "kind": TEXT, **OBJECTIVE_KEYS[objective["kind"]]}
    check_values(f"objective {name!r}", objective, allowed)
    return name


@contextmanager
def about_the_study() -> Iterator[None]:
    """Mark wrong arguments as what they are here: something the study says."""
    try:
        yield
    except ArgumentError as error:
        raise StudyError(*error.args) from error
