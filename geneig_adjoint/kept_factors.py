"""The factor of closed pairs, kept for the next solve with the same matrices refilled.

In a design loop the matrices keep their pattern, and so do the ordering and the symbolic
factorisation. PETSc repeats only the numeric part where the same solver meets the same matrix
object with new values, which it sees by itself. So the solver is what is handed on, never a number
it has computed. Whether the pattern is the same is checked here: PETSc 3.18 takes a matrix that
was replaced in place (``Mat.axpy`` with another pattern) for one of the old pattern.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint.factor_copies import copies_of, drop_own_factor, forget_at_exit

if TYPE_CHECKING:
    from mpi4py import MPI

_KEY = "geneig_adjoint key of kept factors"


class KeptFactor:
    """A place for one spectral transformation between two solves of a refilled pencil.

    Owned by the pencil, whose `close` destroys what is in it. What is taken out belongs to the
    one who took it: two eigensolves never share a factor.

    Parameters
    ----------
    comm
        The ranks of the pencil.

    """

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        self._kept: tuple[Any, SLEPc.ST] | None = None
        self._refused = False

    @property
    def refused(self) -> bool:
        """Whether the package that looked best could not factor: MUMPS does so from then on."""
        return self._refused

    @property
    def holds(self) -> bool:
        """Whether there is something to go on with."""
        return self._kept is not None

    def give_to(self, eps: SLEPc.EPS, request: Any, mats: tuple[PETSc.Mat | None, ...]) -> None:
        """Let an EPS without operators go on with what is kept, if that fits its request.

        Collective. What does not fit is destroyed: options are read when a factor is made.

        Parameters
        ----------
        eps
            A new one.
        request
            All that decides how the factor is made, except the matrices and the shift.
        mats
            Those of the eigenproblem whose pattern may be another one than before.

        """
        key = (request, PETSc.Options().getAll(), [pattern_of(mat) for mat in mats])
        kept, self._kept = self._kept, None
        fits = kept is not None and kept[0] == key
        # Options are a matter of each rank, the solver is one of all.
        if self.comm.allreduce(int(not fits)) == 0 and kept is not None:
            eps.setST(kept[1])
        if kept is not None:
            kept[1].destroy()
        eps.setAttr(_KEY, key)

    def refuse(self, eps: SLEPc.EPS) -> None:
        """Remember that MUMPS had to factor, and keep nothing of an EPS.  (Not collective.)

        The package that took over is not the one its options name.
        """
        self._refused = True
        eps.setAttr(_KEY, None)

    def take_from(self, eps: SLEPc.EPS) -> None:
        """Keep the transformation of a solved EPS that is about to be destroyed.  (Collective.)"""
        key, st = eps.getAttr(_KEY), eps.getST()
        ksp = st.getKSP()
        direct = ksp.getType() == PETSc.KSP.Type.PREONLY
        factor = ksp.getPC().getType() in {"lu", "cholesky"} or copies_of(ksp) is not None
        if key is None or not direct or not factor:
            return
        forget_at_exit(st)  # as long as it is kept
        self.close()
        self._kept = (key, st)
        # An EPS resets its ST when it is destroyed: let it have another one.
        empty = SLEPc.ST().create(eps.comm)
        eps.setST(empty)
        empty.destroy()

    def close(self) -> None:
        """Destroy what is kept.  (Collective.)"""
        if self._kept is not None:
            drop_own_factor(self._kept[1].getKSP())
            _petsc.destroy(self._kept[1])
        self._kept = None


def pattern_of(mat: PETSc.Mat | None) -> Any:
    """Return a fingerprint of this rank's nonzero pattern.  (Collective.)

    Kinds of matrices that do not show theirs have one that differs from all others.
    """
    if mat is None:
        return None
    if mat.getType() not in {"seqaij", "mpiaij"}:
        return object()
    offsets, columns, _ = mat.getValuesCSR()
    return [hashlib.sha256(part).digest() for part in (offsets, columns)]
