"""The Python of the pages under examples/docs runs as it stands, and prints what they promise."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from pages import DOCS, ROOT, promised, run_page, run_text

from geneig_adjoint.cli import main
from geneig_adjoint.io import read_results
from geneig_adjoint.pictures import style

COMPILED = Path(__file__).parents[1] / "examples" / "compiled_element"
PAGES = [
    "base_states.md",
    "cluster_jobs.md",
    "element_in_jax.md",
    "element_in_numpy.md",
    "files.md",
    "large_problems.md",
    "parameters_as_dataclass.md",
    "pictures.md",
    "shapes.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_page_prints_what_it_says(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "DPI", 50)  # pictures of few dots are drawn sooner
    run_page(page)
    printed = capsys.readouterr().out
    assert all(lines in printed for lines in promised(page))


def test_first_steps_of_the_readme(capsys):
    """The chain, the optimiser and the maps print what is promised, and no warning."""
    text = (ROOT / "README.md").read_text()
    chain = text[text.index("## Ten minutes") : text.index("Matrices without elements")]
    maps = text[text.index("### Maps in front") : text.index("A map of your own, of several")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        defined = run_text(chain + maps, "README.md")
    printed = capsys.readouterr().out
    firsts = re.findall(r"`(eigenvalues \[.*?\]|d f1 / d density \[.*?) *(?:\.\.\.)?`", text)
    assert len(firsts) == 2
    assert all(first in printed for first in firsts)
    assert defined["result"].success
    assert defined["report"].passed


def test_readme_links_to_every_page_and_no_link_is_dead():
    for source in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", source.read_text()):
            assert (source.parent / target).exists(), f"{source.name}: {target}"
    readme = (ROOT / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert f"(examples/docs/{page.name})" in readme


def compile_lines(text):
    return [line.split() for line in text.splitlines() if re.match(r" +(cc|gfortran) -", line)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the libraries that element_in_c.md has compiled."""
    shutil.copytree(COMPILED, tmp_path, dirs_exist_ok=True)
    commands = compile_lines((DOCS / "element_in_c.md").read_text())
    assert commands == compile_lines((COMPILED / "mast.py").read_text())
    for command in commands:
        subprocess.run([*command, "-Wall", "-Werror"], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("folder")
def test_page_of_compiled_elements_runs():
    assert run_page("element_in_c.md")


@pytest.mark.parametrize(
    ("language", "source", "count"), [("c", "stiffness.c", 2), ("fortran", "mass.f90", 1)]
)
def test_routines_on_the_page_are_those_of_the_sources(language, source, count):
    text = " ".join((COMPILED / source).read_text().split())
    page = (DOCS / "element_in_c.md").read_text()
    shown = re.search(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    for routine in shown.split("\n\n")[:count]:
        assert " ".join(routine.split()).rstrip(";") in text


def test_first_study_of_a_newcomer(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    section = text.partition("## Study files and the command line")[2].partition("All commands:")[0]
    blocks = re.findall(r"^```(python|toml)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["python", "toml"]
    for name, (_, content) in zip(("model.py", "study.toml"), blocks, strict=True):
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"`geneig-adjoint (.*?)`", section)
    assert len(commands) == 4
    for command in commands:
        assert main(command.split()) == 0, command
    found = read_results("out")
    # Four digits are in the README.
    np.testing.assert_allclose(found.values[:2].real, [0.00075598, 0.01226245], atol=5e-9)
    np.testing.assert_allclose(found.gradients["f1"]["density"][0], 1.62762779e-03, rtol=1e-8)
