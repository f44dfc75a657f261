"""The Python of the page about quadratic problems runs, and prints what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "examples" / "docs" / "quadratic_problems.md"


def test_python_of_the_page_prints_what_it_promises(capsys):
    text = PAGE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    printed = capsys.readouterr().out
    promised = re.search(r"`(lam \[.*?\])`", text)
    derivative = re.search(r"derivative ([\d.]+), on paper ([\d.]+)", text)
    assert promised.group(1) in printed
    assert f"dc [{derivative.group(1)}" in printed
    assert abs(float(derivative.group(2)) - 1 / 0.84) < 1e-5
