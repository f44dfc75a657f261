"""What an earlier run has left in a folder of results: its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geneig_adjoint import _petsc
from geneig_adjoint.collective import guard
from geneig_adjoint.errors import GeneigError, StudyError
from geneig_adjoint.study.checkpoint_file import CheckpointReader
from geneig_adjoint.study.settings import Study

if TYPE_CHECKING:
    from mpi4py import MPI

NAME = "checkpoint.h5"


@dataclass(frozen=True)
class Found:
    """A checkpoint of the same study.

    Attributes
    ----------
    about : dict
        Which run has written it.
    reader : CheckpointReader or None
        On rank 0.

    """

    about: dict[str, Any]
    reader: CheckpointReader | None

    @property
    def text(self) -> str:
        """Where it comes from."""
        ranks = self.about["ranks"]
        return f"{ranks} rank{'s' if ranks > 1 else ''} at {self.about['written']}"

    def close(self) -> None:
        """Close the file."""
        if self.reader is not None:
            self.reader.close()


def found_checkpoint(
    study: Study, comm: MPI.Comm, digests: dict[str, str], *, resume: bool
) -> Found | None:
    """Return the checkpoint a run is to go on from, None: it starts from the beginning.

    Collective. ``digests``: `Fingerprints.of_parts`, on rank 0.

    Raises
    ------
    StudyError
        An unfinished run that would be lost, or one of another study or build.
    InputError
        A file that was cut or damaged.

    """
    found: Found | None = None
    with guard(comm):
        if comm.rank == 0:
            found = _found(study, digests, resume=resume)
    about = comm.bcast(None if found is None else found.about, root=0)
    if about is None:
        return None
    return found or Found(about, None)


def resumable(study: Study, digests: dict[str, str]) -> bool:
    """Tell whether there is a checkpoint that the same study can go on from.

    Not collective: call it on one rank.
    """
    try:
        found = _opened(study, digests)
    except GeneigError:
        return False
    if found is not None:
        found.close()
    return found is not None


def _found(study: Study, digests: dict[str, str], *, resume: bool) -> Found | None:
    if resume:
        return _opened(study, digests)
    path = study.directory / NAME
    if not path.exists():
        return None
    same = resumable(study, digests)
    if same or not study.output.get("overwrite", False):
        whose, ways = "this study", f"go on with --resume, or remove {path} to begin anew"
        if not same:
            whose = "another study or build, or damaged"
            ways = "undo the change and go on with --resume, or give --overwrite to begin anew"
        raise StudyError(
            f"an unfinished run must not be lost by accident, got {path} of {whose}; {ways}"
        )
    return None  # the first checkpoint of the new run replaces it, not before


def _opened(study: Study, digests: dict[str, str]) -> Found | None:
    path = study.directory / NAME
    if not path.exists():
        return None
    reader = CheckpointReader(path)
    about = reader.json("about")
    old = about["study"]
    changed = [name for name in {**old, **digests} if old.get(name) != digests.get(name)]
    error = None
    if changed:
        error = StudyError(
            f"only the same study can be resumed, got changes in {_tables(changed)} (or in files "
            f"named there, or in modules these import) since {path} was written; undo them, or "
            "start over with --overwrite"
        )
    elif about["scalars"] != _petsc.SCALAR_NAME:
        error = StudyError(
            f"a run must be resumed with the scalars it was started with, {about['scalars']}, got "
            f"PETSc's {_petsc.SCALAR_NAME} build; choose the other one, or start over with "
            "--overwrite"
        )
    if error is not None:
        reader.close()
        raise error
    return Found(about, reader)


def _tables(names: list[str]) -> str:
    shown = {"derivatives": "[[derivative]]", "objectives": "[[objective]]"}
    return ", ".join(shown.get(name, f"[{name}]") for name in names)
