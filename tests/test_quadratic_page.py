"""The numbers on the page about quadratic problems are those its Python prints."""

import re

from pages import DOCS, run_page


def test_python_of_the_page_prints_what_it_promises(capsys):
    run_page("quadratic_problems.md")
    printed = capsys.readouterr().out
    text = (DOCS / "quadratic_problems.md").read_text()
    promised = re.search(r"`(lam \[.*?\])`", text)
    derivative = re.search(r"derivative ([\d.]+), on paper ([\d.]+)", text)
    assert promised.group(1) in printed
    assert f"dc [{derivative.group(1)}" in printed
    assert abs(float(derivative.group(2)) - 1 / 0.84) < 1e-5
