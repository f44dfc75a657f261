"""Whether all wanted pairs were found: counted by inertia, or looked for with a second start.

Krylov-Schur starts from one vector and sees one direction of every eigenspace; the others
come in by rounding, or not at all, and every residual is fine. For Hermitian definite pencils
the number of eigenvalues below sigma is that of negative pivots of A - sigma B (Sylvester's
law of inertia). Where no such factor exists, a second start in the complement of what was
found shows a value that does not belong there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import scipy.linalg
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.cholesky import proves_positive
from geneig_adjoint.collective import freed_at_end
from geneig_adjoint.conditioning import backward_errors, residual_limit
from geneig_adjoint.eigenpairs import RELATIVE_GAP, Completeness
from geneig_adjoint.eigenspaces import DEPENDENT, disentangled, orthonormal, real_where_equal
from geneig_adjoint.factoring import set_up_factor
from geneig_adjoint.factorization import loosened
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner
from geneig_adjoint.sparse_lu import has_flat_graph
from geneig_adjoint.wanted import INNER_SHARE, Wanted, kept_indices

ROUNDS = 64
"""Searches in the complement; each finds at least one copy more, or is the last."""
COARSE = 1e-3
"""Tolerance of a search that only asks whether there is something."""
COARSE_NONSYMMETRIC = 1e-8
"""The same where values are less exact than residuals, by their condition numbers."""
PURE = 1e-12
"""Backward error above which a vector may have parts in the null space of B."""
INDEPENDENT = 1e-3
"""A candidate whose part outside of the known vectors is smaller is one of them."""
TIED = 1e-8
"""Relative distance of keys that may differ by rounding alone."""
MARGIN = 1e-5
"""How far beyond the last wanted value the window ends, relatively; a dense spectrum has many
values in a wider one, none of which anybody asked for."""

COUNT_OPTIONS = {
    "ksp_type": "preonly",
    "pc_type": "cholesky",
    "pc_factor_mat_solver_type": "mumps",
    # ScaLAPACK at the root of the elimination tree does not count; null pivots are no error.
    "mat_mumps_icntl_13": 1,
    "mat_mumps_icntl_24": 1,
    "mat_mumps_icntl_31": 1,  # the factor itself is of no use
}
"""Of a factor that is made for the signs of its pivots."""

Pool = tuple[Block, Block]


def completed(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, pool: Pool, errors: Block
) -> tuple[Pool, Completeness]:
    """Return converged pairs with those that were missed, and what is known about the count.

    Collective. The EPS and its factor are used again, with the pairs found as deflation
    space.

    Parameters
    ----------
    eps
        The solved EPS.
    pencil, wanted
        What it solves.
    pool
        All converged finite pairs: values (m,), vectors (n_local, m).
    errors
        Estimated errors of the values, (m,).

    """
    first = len(pool[0])
    pool, errors = _disentangled(eps, pencil, pool, errors)
    if len(pool[0]) >= pencil.n and orthonormal(pencil.comm, pool[1]).shape[1] == pencil.n:
        return pool, Completeness("all", found=pencil.n, expected=pencil.n)
    counter = Counter(eps, pencil, wanted)
    for _ in range(ROUNDS + 1):
        cut = window_end(pencil, wanted, pool[0], errors)
        inside = int(np.count_nonzero(wanted.keys(pool[0]) <= cut))
        expected = counter.inside(cut)
        missing = 1 if expected is None else expected - inside
        method = "second start" if expected is None else "inertia"
        record = Completeness(
            method, inside, expected, wanted.window(cut), max(0, len(pool[0]) - first)
        )
        if missing <= 0:
            return pool, record
        more = _search(
            eps, pencil, wanted, pool, missing=missing, cut=cut, sure=expected is not None
        )
        before = len(pool[0])
        if len(more[0]):
            pool, errors = _joined(eps, pencil, pool, errors, more)
        if len(pool[0]) <= before:
            # Deflation of Hermitian pencils does not leak: what was seen is there.
            unresolved = bool(len(more[0])) and eps.isHermitian()
            return pool, replace(record, method="unfinished") if unresolved else record
    return pool, replace(record, method="unfinished")


def window_end(pencil: Pencil, wanted: Wanted, values: Block, errors: Block) -> float:
    """Return a bound of the keys that holds the wanted values and no other converged one.

    Not collective. values, errors: of the converged pairs, (m,).
    """
    order = wanted.order(values)
    kept = order[kept_indices(values[order], wanted)]
    keys = wanted.keys(values)
    # What belongs to a wanted value may lie elsewhere: its conjugate among imaginary parts.
    nearly = RELATIVE_GAP * np.abs(values[kept]) + wanted.rounding
    kept = kept[keys[kept] <= keys[order[: wanted.count]].max() + nearly]
    last = float(keys[kept].max())
    size = float(np.abs(values[kept]).max())
    # Keys as near as this are the same: conjugates, or copies, up to rounding.
    tied = max(TIED * size, 1e3 * float(errors[kept].max()),
               1e-13 * pencil.norms[0] / max(pencil.norms[1], TINY))  # fmt: skip
    beyond = np.delete(keys, kept)
    beyond = beyond[beyond > last + tied]
    margin = MARGIN * size
    if beyond.size:
        margin = min(margin, 0.5 * (float(beyond.min()) - last))
    return last + max(margin, tied)


def is_counted(pencil: Pencil, wanted: Wanted) -> bool:
    """Tell whether pivots can tell how many eigenvalues are where.  (Collective.)"""
    able = _petsc.REAL_SCALARS and pencil.definite and pencil.factorable
    able = able and wanted.counted_ends(0.0) is not None
    # With A definite the pivots tell how many values lie between 0 and sigma, no more.
    return able and not (pencil.definite_by_a and wanted.target is None)


class Counter:
    """Counts eigenvalues of a Hermitian definite pencil by inertia.  (Collective.)"""

    def __init__(self, eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted) -> None:
        self.pencil, self.wanted = pencil, wanted
        self.able, self.signed = is_counted(pencil, wanted), pencil.definite_by_a
        self._known: dict[float, int | None] = {}
        if self.able and eps.getST().getType() == SLEPc.ST.Type.SINVERT:
            self._know_factor(eps)

    def inside(self, cut: float) -> int | None:
        """Return how many eigenvalues have keys up to the cut; None: unknown."""
        ends = self.wanted.counted_ends(cut) if self.able else None
        if ends is None:
            return None
        total = 0
        for sign, sigma in ends:
            count = self.pencil.n if np.isinf(sigma) else self._below(sigma)
            if count is None:
                self.able = False
                return None
            # A definite, B not: the negative pivots are the values between 0 and sigma.
            total += sign * count * (int(np.sign(sigma)) if self.signed else 1)
        return total

    def _know_factor(self, eps: SLEPc.EPS) -> None:
        ksp = eps.getST().getKSP()
        pc, shift = ksp.getPC(), float(np.real(eps.getST().getShift()))
        if proves_positive(ksp, self.wanted):
            self._known[shift] = 0
        elif pc.getType() == "cholesky" and pc.getFactorSolverType() == "mumps":
            self._known[shift] = int(pc.getFactorMatrix().getMumpsInfog(12))

    def _below(self, sigma: float) -> int | None:
        """Return the number of negative pivots of A - sigma B, None if it cannot be factored."""
        known = self._known.items()
        if not self.signed and any(at >= sigma and count == 0 for at, count in known):
            return 0  # it only grows with sigma
        if sigma not in self._known:
            self._known[sigma] = negative_pivots(self.pencil, sigma, self.wanted.prefix)
        return self._known[sigma]


def negative_pivots(pencil: Pencil, sigma: float, prefix: str = "") -> int | None:
    """Return the number of negative pivots of A - sigma B, None if it cannot be factored.

    Collective. Real scalars and symmetric matrices only.
    """
    mat = pencil.shifted(sigma)
    with freed_at_end(pencil.comm, partial(_petsc.destroy_quietly, mat)):
        return negative_pivots_of(mat, prefix)


def negative_pivots_of(mat: PETSc.Mat, prefix: str = "") -> int | None:
    """Return the number of negative pivots of a matrix, None if it cannot be factored.

    Collective. Real scalars and symmetric matrices only.
    """
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    ksp = PETSc.KSP().create(mat.comm)
    name = f"{prefix}ga_count_"
    options = dict(COUNT_OPTIONS)
    if has_flat_graph(mat):
        options["mat_mumps_icntl_7"] = 2  # ordered sooner, and as well; in space it is not
    with freed_at_end(mat.comm.tompi4py(), partial(_petsc.destroy_quietly, ksp)):
        try:
            ksp.setOperators(mat)
            ksp.setOptionsPrefix(name)
            with _petsc.inserted_options(name, options):
                ksp.setFromOptions()
                failed = set_up_factor(ksp, name) < 0
            return None if failed else int(ksp.getPC().getFactorMatrix().getMumpsInfog(12))
        except PETSc.Error as error:
            if error.ierr not in _petsc.SINGULAR_FACTOR:
                raise
            return None


def _search(
    eps: SLEPc.EPS,
    pencil: Pencil,
    wanted: Wanted,
    pool: Pool,
    *,
    missing: int,
    cut: float,
    sure: bool,
) -> Pool:
    """Return pairs with keys up to the cut in the complement of those found.  (Collective.)"""
    room = pencil.n - _real_columns(pencil, pool[1]).shape[1]
    if room < 1:
        return pool[0][:0], pool[1][:, :0]
    tolerance, max_it = eps.getTolerances()
    if not sure:
        coarse = max(COARSE if eps.isHermitian() else COARSE_NONSYMMETRIC, tolerance)
        with loosened(eps.getST().getKSP(), INNER_SHARE * coarse):
            values, _ = _deflated(eps, pencil, pool, (1, room), (coarse, max_it))
        transformed = eps.getST().getType() == SLEPc.ST.Type.SINVERT
        sigma = eps.getST().getShift() if transformed else 0.0
        inexact = coarse * np.abs(values - sigma)
        if not np.count_nonzero(wanted.keys(values) <= cut + inexact):
            return pool[0][:0], pool[1][:, :0]
    values, vectors = _deflated(eps, pencil, pool, (min(missing, room), room), (tolerance, max_it))
    fit = np.flatnonzero(np.isfinite(values) & (wanted.keys(values) <= cut))
    return values[fit], np.asfortranarray(vectors[:, fit])


def _deflated(
    eps: SLEPc.EPS,
    pencil: Pencil,
    pool: Pool,
    sizes: tuple[int, int],
    accuracy: tuple[float, int],
) -> Pool:
    nev, room = sizes
    block = _real_columns(pencil, pool[1])
    vectors = [_petsc.vec_from(pencil.A, column) for column in block.T]
    seed = _petsc.deterministic_block(pencil.rows, 1, seed=11 + block.shape[1])
    start = _petsc.vec_from(pencil.A, seed[:, 0])
    try:
        eps.setDeflationSpace(vectors)
        eps.setInitialSpace([start])
        eps.setDimensions(
            nev=nev, ncv=max(nev + 1, min(room, max(2 * nev, nev + 15))), mpd=PETSc.DECIDE
        )
        eps.setTolerances(tol=accuracy[0], max_it=accuracy[1])
        with _petsc.plain_errors():
            eps.setUp()
            _forget_null_space(eps, pencil)
            eps.solve()
        pencil.raise_callback_error()
    except PETSc.Error as error:
        # No start vector has a part outside: with a singular B the finite eigenspaces, all
        # found, are all the operator sees.
        if "belongs to the deflation space" not in str(error):
            raise
        return np.zeros(0, dtype=complex), np.zeros((pencil.n_local, 0), pencil.block_dtype)
    finally:
        _petsc.destroy_quietly(start, *vectors)
    return _petsc.converged_pairs(
        eps, pencil.A, dtype=pencil.block_dtype, inverted=pencil.exchanged_in(eps)
    )


def _forget_null_space(eps: SLEPc.EPS, pencil: Pencil) -> None:
    """Take back that the deflated vectors span the null space of K = A - sigma B.

    Collective. SLEPc tests this by an absolute tolerance: with entries of 1e-6 every vector
    passes, and the solves with K, ours later on too, would leave them out.
    """
    st = eps.getST()
    if st.getType() == SLEPc.ST.Type.SINVERT or pencil.B is not None:
        nothing = PETSc.NullSpace().create(constant=False, vectors=[], comm=pencil.comm)
        st.getKSP().getOperators()[0].setNullSpace(nothing)
        nothing.destroy()


def _real_columns(pencil: Pencil, block: Block) -> Block:
    """Return columns a PETSc vector can hold: halves of complex pairs in a real build."""
    if not (_petsc.REAL_SCALARS and block.dtype.kind == "c"):
        return block
    halves = np.hstack([block.real, block.imag])
    # Conjugates have the same halves; a real vector has one that is rounding.
    noise = DEPENDENT * np.tile(column_norms(pencil.comm, block), 2)
    return orthonormal(pencil.comm, halves[:, column_norms(pencil.comm, halves) > noise])


def _joined(
    eps: SLEPc.EPS, pencil: Pencil, pool: Pool, errors: Block, more: Pool
) -> tuple[Pool, Block]:
    """Return all pairs and their errors; new ones of nonsymmetric pencils become eigenvectors.

    Collective. In the complement of an invariant subspace a nonsymmetric operator has
    Schur vectors; an eigenvector of the same value has a part inside.
    """
    if not eps.isHermitian():
        more = _eigenvectors(pencil, pool[1], more)
        if _petsc.REAL_SCALARS:
            more = real_where_equal(pencil, *more)
    if pencil.definite and pencil.B is not None and not pencil.definite_by_a:
        more = more[0], purified(eps, pencil, *more)
    # Where Krylov-Schur runs out of directions its own residuals are no measure.
    good = backward_errors(pencil, *more) <= residual_limit(eps.getTolerances()[0])
    more = more[0][good], more[1][:, good]
    if _petsc.REAL_SCALARS and not eps.isHermitian():
        more = _with_conjugates(more)
    values = np.concatenate([pool[0], more[0]])
    vectors = np.asfortranarray(np.hstack([pool[1], more[1]]))
    errors = np.concatenate([errors, np.zeros(len(more[0]))])
    return _disentangled(eps, pencil, (values, vectors), errors)


def _with_conjugates(pairs: Pool) -> Pool:
    """Return complex pairs of a real pencil, of which one half may have been left out, whole."""
    values, vectors = pairs
    size = TIED * np.abs(values)
    distance = np.abs(values[:, None] - values.conj()[None, :])
    alone = (np.abs(values.imag) > size) & ~(distance <= size[:, None]).any(axis=1)
    return (
        np.concatenate([values, values[alone].conj()]),
        np.hstack([vectors, vectors[:, alone].conj()]),
    )


def _disentangled(eps: SLEPc.EPS, pencil: Pencil, pool: Pool, errors: Block) -> tuple[Pool, Block]:
    if eps.isHermitian():
        return pool, errors
    values, vectors, origin = disentangled(pencil, *pool)
    return (values, vectors), errors[origin]


def _eigenvectors(pencil: Pencil, known: Block, more: Pool) -> Pool:
    """Return as many Ritz pairs of both spans as there are new directions.  (Collective.)"""
    Q = orthonormal(pencil.comm, known)
    outside = more[1]
    for _ in range(2):
        outside = outside - Q @ inner(pencil.comm, Q, outside)
    sizes = column_norms(pencil.comm, outside) / column_norms(pencil.comm, more[1])
    # Deflation of nearly dependent vectors is leaky: what lies in their span is not new.
    new = orthonormal(pencil.comm, outside[:, sizes > INDEPENDENT])
    V = np.hstack([Q, new])
    W = orthonormal(pencil.comm, pencil.multiply_b(V))
    small = np.stack([inner(pencil.comm, W, pencil.multiply_a(V)),
                      inner(pencil.comm, W, pencil.multiply_b(V))])  # fmt: skip
    if not new.shape[1] or W.shape[1] < V.shape[1]:
        return more[0][:0], more[1][:, :0]
    values, vectors = pencil.comm.bcast(scipy.linalg.eig(*small), root=0)
    share = np.linalg.norm(vectors[Q.shape[1] :], axis=0) / np.linalg.norm(vectors, axis=0)
    chosen = np.argsort(-share, kind="stable")[: new.shape[1]]
    found = V @ vectors[:, chosen]
    return values[chosen], found.real if known.dtype.kind == "f" else found


def purified(eps: SLEPc.EPS, pencil: Pencil, values: Block, right: Block) -> Block:
    """Return vectors without parts in the null space of B, which its product does not see.

    Collective. eps: solved, its factor is used. values: (k,); right: this rank's rows,
    (n_local, k), of a pencil with B semidefinite.
    """
    if eps.getST().getType() != SLEPc.ST.Type.SINVERT:
        return right
    errors = backward_errors(pencil, values, right)
    doubtful = np.flatnonzero(errors > PURE)
    if not doubtful.size:
        return right
    block = pencil.multiply_b(right[:, doubtful])
    pure = solve_block(eps.getST().getKSP(), block)
    pure = pure / np.maximum(column_norms(pencil.comm, pure), TINY)
    better = backward_errors(pencil, values[doubtful], pure) < errors[doubtful]
    result = np.array(right, order="F")
    result[:, doubtful[better]] = pure[:, better]
    return result
