"""Every failure the documentation speaks of has a test that provokes it."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "examples" / "docs" / "failures.md").read_text()
NAMES = re.findall(r"^\| \*\*(.+?)\*\*", PAGE, re.MULTILINE)


def marks(source):
    """Return the names in all ``pytest.mark.failure("...")`` of a file."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [node.args[0].value for node in calls if ast.unparse(node.func) == "pytest.mark.failure"]


@functools.cache  # of hundreds of files
def marked():
    files = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("mpi_tests/test_*.py")]
    return {name for path in files for name in marks(path.read_text())}


@pytest.mark.parametrize("name", NAMES)
def test_failure_is_provoked(name):
    assert name in marked()


def test_marks_name_rows_of_the_table():
    assert marked() <= set(NAMES)
    assert len(NAMES) == len(set(NAMES)) == 31


def test_marks_are_found():
    assert marks('import pytest\n@pytest.mark.failure("x")\ndef test(): ...') == ["x"]
    assert marks("pytestmark = pytest.mark.failure('y')") == ["y"]
    assert marks("@pytest.mark.timeout(3)\ndef test(): ...") == []


def test_exit_codes_of_the_page_are_those_of_the_command_line():
    from geneig_adjoint import exit_codes

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert listed == set(exit_codes.MEANINGS)
