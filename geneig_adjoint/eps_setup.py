"""What SLEPc is told: problem type, region of the spectrum, factor, start vector, options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint.block_triangular import TRIANGULAR_OPTIONS, is_triangular
from geneig_adjoint.cholesky import (
    CHOLMOD_OPTIONS,
    cholmod_options,
    set_up_cholmod,
    tries_cholmod,
)
from geneig_adjoint.divided_factors import set_up_groups
from geneig_adjoint.errors import ArgumentError
from geneig_adjoint.factor_copies import forget_at_exit
from geneig_adjoint.factoring import set_up_factor
from geneig_adjoint.inner_solver import (
    FACTORS,
    check_preconditioner,
    inner_matrix,
    isolate,
    method_for,
    method_options,
    watch,
)
from geneig_adjoint.pencil import HERMITIAN_TOLERANCE, Pencil
from geneig_adjoint.sparse_lu import PACKAGE, QUICK_OPTIONS, is_flat, set_up_tried
from geneig_adjoint.symmetry import check_hermitian, hermitian_defect, is_positive
from geneig_adjoint.wanted import WHICH, Wanted

DECLARING = ("eps_hermitian", "eps_gen_hermitian", "eps_gen_indefinite")
"""Options by which SLEPc takes matrices for Hermitian without a look at them."""
MANY_ROWS = 1_000
DEFAULT_TOLERANCE = 1e-12
"""Eigenvector derivatives are of first order in the error of the vectors."""


def set_up(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, sigma: complex | None) -> Wanted:
    """Prepare an EPS; return the request as the options database has changed it.

    Collective.

    Parameters
    ----------
    eps
        A new one.
    pencil
        What it is to solve.
    wanted
        Which pairs.
    sigma
        Shift of the factor, at the target or beside it; None: no factor of A.

    """
    # Nearest to 0 is largest in 1 / lam; elsewhere the two orders differ.
    inverted = sigma == 0 and pencil.definite_by_a
    iterative = solves_iteratively(pencil, wanted, sigma)
    defaults = None if iterative else solver_options(pencil, wanted, sigma)
    if pencil.kept is not None and wanted.interval is None:
        moved = sigma != wanted.target  # a shift that was set once stays set
        how = (inverted, sigma is None, moved, defaults, wanted.options, wanted.prefix)
        pencil.kept.give_to(eps, how, () if pencil.one_pattern else (pencil.A, pencil.B))
    _configure(eps, pencil, wanted, inverted=inverted)
    asked = _set_region(eps, wanted, sigma, inverted=inverted)
    # Spectrum slicing starts by itself, in every interval between two shifts.
    vectors = [] if wanted.interval is not None else _start_vectors(pencil, wanted)
    if vectors:
        eps.setInitialSpace(vectors)
    prefix = f"{wanted.prefix}ga_"
    eps.setOptionsPrefix(prefix)
    if defaults is None:
        defaults = _inner_options(eps, pencil, wanted, sigma)
    options = wanted.with_inner_tolerance(defaults, DEFAULT_TOLERANCE)
    try:
        with _petsc.inserted_options(prefix, options):
            eps.setFromOptions()
            if eps.isHermitian() and not pencil.hermitian:
                remedy = "leave this PETSc option out: it is measured"
                mats = (pencil.A, pencil.B)
                declared = _declaration(wanted)
                check_hermitian(*mats, HERMITIAN_TOLERANCE, declared, remedy=remedy)
            if iterative:
                _watch(eps, options, prefix)
            if wanted.interval is None:
                _set_up(eps, pencil, prefix, defaults, iterative=iterative)
            else:  # spectrum slicing factors in solvers of its own
                eps.setUp()
    finally:
        _petsc.destroy(*vectors)
    if wanted.interval is not None:
        return wanted
    targeted = sigma is not None and not inverted
    return _as_changed(eps, wanted, asked, targeted=targeted)


def _declaration(wanted: Wanted) -> str:
    """Return the option that calls a pencil Hermitian.  (Not collective.)"""
    given = {*wanted.options, *PETSc.Options().getAll()}
    prefix = f"{wanted.prefix}ga_"
    names = (f"{start}{name}" for start in ("", prefix) for name in DECLARING)
    return next((name for name in names if name in given), "the problem type of the options")


def _configure(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, *, inverted: bool) -> None:
    """Tell an EPS its matrices, and how to treat them unless options say otherwise."""
    eps.setOperators(*((pencil.B, pencil.A) if inverted else (pencil.A, pencil.B)))
    if not inverted:
        eps.getST().setMatStructure(pencil.structure)
    eps.setProblemType(_slepc_type(pencil, wanted, inverted=inverted))
    eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
    # SLEPc takes the null space of B out of vectors by one more product with the operator, which
    # costs small values of it all their digits: done here afterwards, where it helps.
    eps.setPurify(wanted.interval is not None)
    eps.setTolerances(tol=DEFAULT_TOLERANCE, max_it=500)


def _as_changed(eps: SLEPc.EPS, wanted: Wanted, asked: int, *, targeted: bool) -> Wanted:
    """Return the request with the count and the target that options have given an EPS."""
    target = wanted.target
    if targeted and complex(eps.getTarget()) != complex(target or 0):
        target = eps.getTarget()
    count = eps.getDimensions()[0]
    return replace(wanted, count=wanted.count if count == asked else count, target=target)


def _set_region(eps: SLEPc.EPS, wanted: Wanted, sigma: complex | None, *, inverted: bool) -> int:
    """Tell an EPS where in the spectrum to look; return how many pairs it must find there."""
    asked = wanted.count
    if inverted:
        eps.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_MAGNITUDE)
    elif sigma is not None:
        # Those nearest to the target are wanted, wherever the shift had to go.
        eps.setTarget(wanted.target)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
        if sigma != wanted.target:
            eps.getST().setShift(sigma)
    elif wanted.interval is not None:
        eps.setWhichEigenpairs(SLEPc.EPS.Which.ALL)
        eps.setInterval(*wanted.searched)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
    elif _petsc.REAL_SCALARS and str(wanted.which).endswith("imaginary"):
        # SLEPc goes by the size of the imaginary part here, and half have the other sign.
        asked = min(eps.getOperators()[0].getSize()[0], 2 * wanted.count)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_IMAGINARY)
    else:
        eps.setWhichEigenpairs(WHICH[wanted.which or "largest_magnitude"])
    eps.setDimensions(nev=asked)
    return asked


def _slepc_type(pencil: Pencil, wanted: Wanted, *, inverted: bool) -> int:
    """Return how SLEPc is to treat the pencil.  (Collective.)

    Its own solver of indefinite pencils (GHIEP) is left alone: it works in a basis that is
    orthogonal in an indefinite product, which may break down, and its residuals reach 6e-10
    where an orthonormal basis gives rounding.
    """
    definite = pencil.definite and (inverted or not pencil.definite_by_a)
    definite = definite and not wanted.plain_product
    kind = "HEP" if definite else "NHEP"
    name = kind if pencil.B is None else f"G{kind}"
    return int(getattr(SLEPc.EPS.ProblemType, name))


def solver_options(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> dict[str, Any]:
    """Return what an eigensolve with a factor is told unless the user says more.

    Collective. Without a prefix; {} where nothing is to be factored. Matrices that are symmetric
    are marked as such.
    """
    if sigma is None and wanted.interval is None and pencil.B is None:
        return {}
    symmetric = _petsc.REAL_SCALARS and pencil.definite
    if symmetric:  # measured to be so; MUMPS then needs half the time and memory
        for mat in (pencil.A, pencil.B):
            if mat is not None:
                mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    options = _factor_options("st_", symmetric)
    if symmetric and wanted.count_check and pencil.comm.size > 1:
        options["st_mat_mumps_icntl_13"] = 1  # ScaLAPACK does not count negative pivots
    if wanted.interval is not None:
        options |= {"st_mat_mumps_icntl_13": 1, "st_mat_mumps_icntl_24": 1}
    if tries_cholmod(pencil, wanted, sigma):
        options |= cholmod_options(pencil)
    elif not symmetric and sigma is not None and _names_own_lu(pencil, wanted):
        options |= TRIANGULAR_OPTIONS
    elif not symmetric and sigma is not None and _is_free(pencil, wanted):
        options |= _quicker_options(pencil, sigma)
    return options


def _quicker_options(pencil: Pencil, sigma: complex) -> dict[str, Any]:
    """Return options for a factor that suits A - sigma B better than that of MUMPS."""
    if pencil.comm.size > 1:
        return dict(TRIANGULAR_OPTIONS) if is_flat(pencil, sigma) else {}
    if is_triangular(pencil, sigma):
        return dict(TRIANGULAR_OPTIONS)
    quick = QUICK_OPTIONS if is_flat(pencil, sigma) else {}
    return {f"st_{name}": value for name, value in quick.items()}


def _names_own_lu(pencil: Pencil, wanted: Wanted) -> bool:
    """Tell whether a user wants PETSc's own LU on several ranks: as copies, it knows no other."""
    if pencil.comm.size == 1 or not pencil.factorable:
        return False
    named = wanted.option(f"st_{PACKAGE}", wanted.options) == QUICK_OPTIONS[PACKAGE]
    chosen = (wanted.option(name, wanted.options) for name in ("st_ksp_type", "st_pc_type"))
    return named and all(name is None for name in chosen)


def _is_free(pencil: Pencil, wanted: Wanted) -> bool:
    """Tell whether faster ways than MUMPS are to be tried: the user has chosen nothing else."""
    names = ("st_ksp_type", "st_pc_type", f"st_{PACKAGE}")
    chosen = any(wanted.option(name, wanted.options) is not None for name in names)
    chosen = chosen or any(name.startswith("st_mat_mumps_") for name in wanted.options)
    chosen = chosen or (pencil.kept is not None and pencil.kept.refused)
    return not chosen and not pencil.definite


def solves_iteratively(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> bool:
    """Tell whether a preconditioner takes the place of the factor.  (Not collective.)"""
    if wanted.interval is not None:
        return False
    if sigma is not None:
        return not pencil.factorable
    return pencil.B is not None and (pencil.matrix_free or pencil.preconditioner_b is not None)


def _inner_options(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, sigma: complex | None
) -> dict[str, Any]:
    """Give an EPS the user's preconditioner; return the options of iterative solves.

    Collective.
    """
    st, wanted_b = eps.getST(), sigma is None
    if pencil.matrix_free and not wanted_b:
        st.setMatMode(SLEPc.ST.MatMode.SHELL)  # A - sigma B has no entries
    found = inner_matrix(pencil, sigma, wanted_b=wanted_b)
    mat = None if found is None else found[0]
    try:
        kind = {} if pencil.near_null_space is None or wanted_b else {"st_pc_type": "gamg"}
        options = method_options(wanted.inner or method_for(pencil, sigma, mat, wanted_b=wanted_b))
        if mat is None:
            return {**options, "st_ksp_max_it": 10_000, "st_pc_type": "none"}
        symmetric = _petsc.REAL_SCALARS and hermitian_defect(mat) <= HERMITIAN_TOLERANCE
        if symmetric:
            mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
            factored = wanted.option("st_pc_type", {**kind, **wanted.options}) in {
                None,
                *FACTORS,
            }
            if not factored:
                known = pencil.A_positive if mat is pencil.A else is_positive(mat, strictly=True)
                mat.setOption(PETSc.Mat.Option.SPD, known)  # GAMG's smoothers are bad without it
        st.setPreconditionerMat(mat)
        return {**_factor_options("st_", symmetric), **options, **kind}
    finally:
        if found is not None and found[1]:
            found[0].destroy()  # the ST keeps a reference


def _watch(eps: SLEPc.EPS, options: dict[str, Any], prefix: str) -> None:
    """Prepare the KSP of an EPS for iterative solves; its options are in force.  (Collective.)"""
    ksp, mat = eps.getST().getKSP(), eps.getST().getPreconditionerMat()
    if ksp.getType() == PETSc.KSP.Type.PREONLY:
        raise ArgumentError(
            'st_ksp_type must be a Krylov method where solves are iterative, got "preonly": the '
            "preconditioner is not A - sigma B itself; leave st_ksp_type out"
        )
    if mat is not None and mat.handle:
        isolate(ksp.getPC(), mat, f"{prefix}st_")
        forget_at_exit(eps)
    eps.setMonitor(watch(ksp, options, prefix).stop)


def _set_up(
    eps: SLEPc.EPS, pencil: Pencil, prefix: str, defaults: dict[str, Any], *, iterative: bool
) -> None:
    ksp, action, package = eps.getST().getKSP(), eps.setUp, defaults.get(f"st_{PACKAGE}")
    trials = {
        CHOLMOD_OPTIONS[f"st_{PACKAGE}"]: set_up_cholmod,
        QUICK_OPTIONS[PACKAGE]: set_up_tried,
    }
    trial = trials.get(package)
    if trial is None and defaults.get("st_pc_type") == TRIANGULAR_OPTIONS["st_pc_type"]:
        forget_at_exit(eps)
        trial = set_up_groups
    if trial is not None:
        action = trial(eps)
        if action is None:
            return
        if pencil.kept is not None:
            pencil.kept.refuse(eps)
    status = set_up_factor(ksp, f"{prefix}st_", action)
    if iterative:
        ksp.setErrorIfNotConverged(False)  # SLEPc has set it
        check_preconditioner(ksp, status)


def _factor_options(prefix: str, symmetric: bool) -> dict[str, Any]:
    # MUMPS factors a symmetric matrix at half the cost; it need not be definite.
    return {
        f"{prefix}ksp_type": "preonly",
        f"{prefix}pc_type": "cholesky" if symmetric else "lu",
        f"{prefix}pc_factor_mat_solver_type": "mumps",
    }


def _start_vectors(pencil: Pencil, wanted: Wanted) -> list[PETSc.Vec]:
    """Return start vectors that do not depend on the number of ranks."""
    block = _petsc.deterministic_block(pencil.rows, 1, seed=5)
    if not pencil.definite and pencil.n >= MANY_ROWS:
        # Of entries of both signs the lowest mode of a diffusion, whose left vector has one sign,
        # is a small part. Where there are few, a basis of Krylov-Schur holds all of them.
        block = 1.0 + block
    if wanted.start is not None and wanted.start.shape[1]:
        # One vector is all Krylov-Schur takes: the sum holds every earlier direction.
        total = wanted.start.sum(axis=1, keepdims=True)
        block = np.asarray(total.real if _petsc.REAL_SCALARS else total)
    return [_petsc.vec_from(pencil.A, column) for column in block.T]
