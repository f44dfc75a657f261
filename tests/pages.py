"""Pages of the documentation, run as their readers would."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "examples" / "docs"


def run_page(name):
    """Execute the Python blocks of a page, one after the other, and return what they define."""
    return run_text((DOCS / name).read_text(), name)


def promised(name):
    """Return the lines that a page says it prints, one text per place."""
    found = re.findall(r"prints\n\n((?:    .*\n)+)", (DOCS / name).read_text())
    return [re.sub(r"^    ", "", lines, flags=re.MULTILINE) for lines in found]


def run_text(text, name):
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    defined = {"__name__": "__main__"}
    exec(compile("\n".join(blocks), name, "exec"), defined)
    return defined
