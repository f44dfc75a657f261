"""What JAX has compiled in an earlier stage of tests/run.sh, for later ones."""

import os

FOLDER = "JAX_COMPILATION_CACHE_DIR"


def keep_apart(process: str) -> None:
    """Give this process a folder of its own: others would read files half written."""
    if FOLDER in os.environ:
        os.environ[FOLDER] = os.path.join(os.environ[FOLDER], process)
