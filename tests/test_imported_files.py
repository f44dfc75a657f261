"""Which files of one's own a Python file of a study imports."""

from geneig_adjoint.study.imports import imported_files

IMPORTS = {
    "model.py": "import a.b, numpy\ndef f():\n    from c import g\n    from .d import h",
    "a/__init__.py": "from . import e as f",
    "a/b.py": "from ..c import x\nfrom .e import y",
    "a/e.py": "from json import a\nimport model",
    "c.py": "import broken\nfrom d import *",
    "broken.py": "this is no Python",
    "d.py": "import above",
    "../above.py": "",
    "unused.py": "",
    "e.py": "",
}


def test_imported_files_of_ones_own(tmp_path):
    folder = tmp_path / "src"
    (folder / "a").mkdir(parents=True)
    for name, text in IMPORTS.items():
        (folder / name).write_text(text)
    found = imported_files(folder / "model.py", tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found]
    inside = ["a/__init__.py", "a/b.py", "a/e.py", "broken.py", "c.py", "d.py"]
    assert names == ["above.py", *(f"src/{name}" for name in inside)]
    assert imported_files(folder / "none.py", tmp_path) == []
