"""What JAX has compiled in earlier stages of tests/run.sh, for later ones."""

import os
import shutil

FOLDER = "JAX_COMPILATION_CACHE_DIR"
BEFORE = "COMPILED_BEFORE"
"""Names the folder of what all processes of earlier stages have compiled; nobody writes there."""


def keep_apart(process: str) -> None:
    """Give this process a folder of its own: others would read files half written."""
    if FOLDER in os.environ:
        os.environ[FOLDER] = os.path.join(os.environ[FOLDER], process)
        for folder in [os.environ[BEFORE]] if BEFORE in os.environ else []:
            shutil.copytree(folder, os.environ[FOLDER], dirs_exist_ok=True)
