"""The factor of an eigensolve made once more, for pairs that are known already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.eps_setup import set_up
from geneig_adjoint.equilibration import equilibration
from geneig_adjoint.errors import GeneigError
from geneig_adjoint.extraction import spectral_transformation
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.wanted import Wanted


def refactored(
    pairs: Eigenpairs, *, solver_parameters: Mapping[str, Any] | None = None
) -> SpectralTransformation | None:
    """Return the factor that the eigensolve of some pairs would have left.

    Collective. Costs a factor and no solve. Derivatives of the pairs use it as they would have
    used the first one.

    Parameters
    ----------
    pairs
        Without a factor. Not changed: give the result to `dataclasses.replace`.
    solver_parameters
        Those of the eigensolve.

    Returns
    -------
    SpectralTransformation or None
        Belongs to the caller; None where it cannot be made, or the eigensolve left none.

    """
    sigma = pairs.info.sigma
    if sigma is None:
        return None
    pencil = pairs.pencil
    wanted = Wanted(
        count=pairs.count,
        target=_real_if_real(complex(sigma)),
        options=dict(solver_parameters or {}),
        count_check=False,
    )
    scaling = equilibration(pencil)
    work = pencil if scaling is None else scaling.applied(pencil)
    eps = SLEPc.EPS().create(pencil.comm)
    try:
        with _petsc.plain_errors():
            set_up(eps, work, wanted, wanted.target)
    except (PETSc.Error, GeneigError):  # on all ranks; derivatives can do without
        _petsc.destroy_quietly(eps)
        return None
    finally:
        if scaling is not None:
            work.close()
    found = spectral_transformation(work, eps, owned=True)
    return found if scaling is None else scaling.undone(pencil, found)


def _real_if_real(sigma: complex) -> complex:
    return sigma if sigma.imag else sigma.real
