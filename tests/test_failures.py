"""Every failure the documentation speaks of has tests that provoke it: both ways, and on ranks."""

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest
from failing_files import BINARY, MARKET, NUMBERS, SHAPES
from failing_jobs import JOBS, SMALL, USERS
from failing_pencils import PENCILS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "examples" / "docs" / "failures.md").read_text()
TABLE, ONE_WAY = PAGE.split("### Failures with one way only")
ROW = re.compile(r"^\| \*\*(.+?)\*\*", re.MULTILINE)
NAMES = ROW.findall(TABLE)
ONLY = dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|", ONE_WAY, re.MULTILINE))
LACKS = {"from Python": "command", "through the command line": "api", "on one rank": "ranks"}
STUDIES = [*PENCILS.values(), *MARKET.values(), *BINARY.values(), *NUMBERS.values()]
STUDIES += [*SHAPES.values(), *USERS.values(), *JOBS.values(), *SMALL.values()]


def marks(source):
    """Return name and way in all ``pytest.mark.failure("...", through="...")`` of a file."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        (node.args[0].value, *(word.value.value for word in node.keywords))
        for node in calls
        if ast.unparse(node.func) == "pytest.mark.failure"
        and isinstance(node.args[0], ast.Constant)
    ]


@functools.cache  # of hundreds of files
def marked():
    """Return all (name, way), where the way is "api", "command" or "ranks"."""
    found = {(case.row, "command") for case in STUDIES}
    found |= {(case.row, "ranks") for case in STUDIES if case.ranks}
    for path in ROOT.glob("tests/**/test_*.py"):
        found |= set(marks(path.read_text()))
    for path in ROOT.glob("mpi_tests/test_*.py"):
        here = set(marks(path.read_text()))
        found |= here | {(name, "ranks") for name, _ in here}
    return found


@pytest.mark.parametrize(
    ("name", "way"), list(itertools.product(NAMES, ["api", "command", "ranks"]))
)
def test_failure_is_provoked(name, way):
    assert (name, way) in marked() or way == LACKS[ONLY[name]]


def test_marks_name_rows_of_the_table():
    assert {name for name, _ in marked()} <= set(NAMES)
    assert {way for _, way in marked()} == {"api", "command", "ranks"}
    assert len(NAMES) == len(set(NAMES)) == 31


def test_rows_with_one_way_only_have_no_other():
    assert not {(name, LACKS[only]) for name, only in ONLY.items()} & marked()
    assert set(ONLY) <= set(NAMES)


def test_marks_are_found():
    one = 'import pytest\n@pytest.mark.failure("x", through="api")\ndef test(): ...'
    assert marks(one) == [("x", "api")]
    assert marks("pytestmark = pytest.mark.failure('y')") == [("y",)]
    assert marks("@pytest.mark.timeout(3)\ndef test(): ...") == []


def test_exit_codes_of_the_page_are_those_of_the_command_line():
    from geneig_adjoint import exit_codes

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert listed == set(exit_codes.MEANINGS)


def codes(name):
    """Return the exit codes that the table gives for a failure, if it does."""
    [row] = [line for line in TABLE.splitlines() if line.startswith(f"| **{name}**")]
    return {int(code) for code in re.findall(r"\b\d+\b", row.split("|")[3])}


@pytest.mark.parametrize("name", sorted({case.row for case in STUDIES}))
def test_studies_end_with_the_codes_of_the_table(name):
    found = {case.code for case in STUDIES if case.row == name}
    expected = codes(name) or found  # where it is that of another failure
    assert expected <= found <= expected | {0}
