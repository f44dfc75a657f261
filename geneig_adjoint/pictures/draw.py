"""From an output folder to pictures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from geneig_adjoint.errors import StudyError
from geneig_adjoint.pictures.convergence import convergence
from geneig_adjoint.pictures.folders import read_folder
from geneig_adjoint.pictures.modes import modes
from geneig_adjoint.pictures.searches import searches
from geneig_adjoint.pictures.sensitivities import sensitivities
from geneig_adjoint.pictures.spectrum import spectrum
from geneig_adjoint.pictures.style import look, require_matplotlib, save
from geneig_adjoint.pictures.sweeps import sweeps

KINDS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Drawn:
    """The files that were written, and what was left out."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def draw(source: Path, target: Path | None = None, *, kind: str = "png", limit: int = 18) -> Drawn:
    """Draw everything an output folder holds.

    Not collective; needs neither MPI nor PETSc. Pictures drawn before are replaced.

    Parameters
    ----------
    source
        Output folder of a run, folder of a sweep, or a sweep's table.
    target
        Where to write; None: ``pictures`` inside the source, or beside the table.
    kind
        One of `KINDS`.
    limit
        Modes to draw, at most.

    Raises
    ------
    StudyError
        A source without results, a target that cannot be written.
    InputError
        Files that cannot be read.
    MissingPackageError
        Without matplotlib.

    """
    matplotlib = require_matplotlib()
    results = read_folder(source)
    if target is None:
        target = (source if source.is_dir() else source.parent) / "pictures"
    with matplotlib.rc_context(look()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters the font lacks are boxes
        pictures = [
            *spectrum(results),
            *modes(results, limit),
            *sensitivities(results),
            *convergence(results),
            *sweeps(results),
            *searches(results),
        ]
        try:
            target.mkdir(parents=True, exist_ok=True)
            files = tuple(save(picture, target, kind) for picture in pictures)
        except OSError as error:
            raise StudyError(
                f"the folder of pictures must be writable, got {error.strerror or error} for "
                f"{target}; choose another with -o"
            ) from error
    return Drawn(files, tuple(results.notes))
