"""The Python blocks of pages under examples/docs run, one after the other."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "examples" / "docs"
PAGES = ["shapes.md"]


def output_of(page, capsys):
    text, names = (DOCS / page).read_text(), {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return text, names, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_page_prints_what_it_says(page, capsys):
    text, _, printed = output_of(page, capsys)
    promised = re.findall(r"^It prints\n\n((?:    .*\n)+)", text, flags=re.MULTILINE)
    for lines in promised:
        assert lines.replace("    ", "") in printed
