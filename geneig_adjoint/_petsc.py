"""PETSc as this package needs it: option prefixes, block products, reason names, build facts."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.heap import give_back_large_blocks
from geneig_adjoint.launches import warn_if_alone
from geneig_adjoint.user_options import followed, refused_option

give_back_large_blocks()  # which a library loaded by PETSc may have forbidden


# An exception that was caught may keep operators in a cycle of references. PETSc would call
# into them when it ends, after Python has: a crash. petsc4py's own clean-up runs after this.
@atexit.register
def _forget_operators() -> None:
    sys.last_value = sys.last_traceback = None  # holds the frames of the error that ended it
    gc.collect()


REAL_SCALARS = np.dtype(PETSc.ScalarType).kind == "f"
SINGULAR_FACTOR = {71, 76, 81}
"""PETSc's codes for a zero pivot (LU, Cholesky) and for errors of MUMPS."""
FAILED_PROJECTION = {77}
"""SLEPc's code for LAPACK failing on the projected problem, as it does for B = 0."""
SCALAR_NAME = "real" if REAL_SCALARS else "complex"


@contextmanager
def inserted_options(prefix: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Put prefixed options into PETSc's database for the duration of a block.

    Not collective. Options the user has already set (command line, PETSC_OPTIONS)
    win; every option inserted here is removed again.

    Raises
    ------
    OptionError
        In place of PETSc's error about an option of the user.

    """
    database = PETSc.Options()
    # PETSc's hasName would count as reading them, and typing errors as read ever after.
    given = {name.lower() for name in database.getAll()}
    wanted = [prefix + name for name in options]
    names = [name for name in wanted if name.lower() not in given]
    for name in names:
        value = options[name[len(prefix) :]]
        # PETSc reads a flag without a value as true; None means such a flag.
        database.setValue(name, "" if value is None else _option_text(value))
    try:
        with followed(prefix, names, wanted):
            yield
    finally:
        for name in names:
            database.delValue(name)


def _option_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # which PETSc does not take for numbers
    return repr(value) if isinstance(value, float) else str(value)


def has_option(name: str) -> bool:
    """Tell whether the user has set an option.  (Not collective.)"""
    return bool(PETSc.Options().hasName(name))


def reason_name(reasons: Any, reason: int) -> str:
    """Return SLEPc's or PETSc's name of a convergence reason.  (Not collective.)"""
    names = [name for name, value in vars(reasons).items() if value == reason and name.isupper()]
    return max(names, key=len) if names else str(reason)


def real_scalar_error(what: str) -> InputError:
    """Return the error for something only complex scalars can hold.  (Not collective.)"""
    return InputError(
        f"{what} must be real in PETSc's real-scalar build, got complex numbers; "
        "use the complex build of petsc4py and slepc4py (PETSC_DIR and SLEPC_DIR select it)"
    )


def multiply(mat: PETSc.Mat, block: Block, *, hermitian: bool = False) -> Block:
    """Return ``mat @ block`` or ``mat^H @ block`` for a block of row vectors.

    Collective. In a real-scalar build complex blocks are multiplied half by half.

    Parameters
    ----------
    mat
        Matrix of any PETSc type with a product.
    block
        This rank's rows, (n_local, k).
    hermitian
        Multiply with the Hermitian transpose.

    Returns
    -------
    ndarray
        This rank's rows of the product, Fortran order, real iff block and build are.

    """
    result = columnwise(mat, mat.multHermitian if hermitian else mat.mult, block)
    raise_deferred(mat)
    return result


def columnwise(mat: PETSc.Mat, operation: Any, block: Block) -> Block:
    """Return operation(source, target) of every column, half by half if needed.  (Collective.)"""
    source, target = mat.createVecs()
    try:
        if REAL_SCALARS and np.iscomplexobj(block):
            parts = (_columns(operation, b, source, target) for b in (block.real, block.imag))
            real, imag = parts
            return np.asarray(real + 1j * imag)
        return _columns(operation, block, source, target)
    finally:
        source.destroy()
        target.destroy()


def _columns(operation: Any, block: Block, source: PETSc.Vec, target: PETSc.Vec) -> Block:
    block = np.asarray(block, dtype=PETSc.ScalarType, order="F")
    result = np.empty(block.shape, dtype=PETSc.ScalarType, order="F")
    for column in range(block.shape[1]):
        source.placeArray(block[:, column])  # no copies
        target.placeArray(result[:, column])
        operation(source, target)
        source.resetArray()
        target.resetArray()
    return result


def vec_from(mat: PETSc.Mat, values: Block) -> PETSc.Vec:
    """Return a new vector in a matrix's row layout holding this rank's values.  (Collective.)"""
    vec = mat.createVecLeft()
    vec.array[:] = values
    return vec


def converged_pairs(
    eps: Any, mat: PETSc.Mat, dtype: np.dtype[Any], *, inverted: bool = False
) -> tuple[Block, Block]:
    """Return all eigenvalues (k,), or their inverses, and vectors (n_local, k) an EPS holds.

    Collective. Every rank computes the values of the projected problem by itself; rank
    0's are taken, so that they are the same to the last bit everywhere.
    """
    count = eps.getConverged()
    values = np.zeros(count, dtype=complex)
    real, imag = mat.createVecs()
    vectors = np.zeros((real.getLocalSize(), count), dtype=dtype, order="F")
    for i in range(count):
        values[i] = complex(eps.getEigenpair(i, real, imag))
        # Real vectors are wanted of real spectra: a pair that rounding has made complex is given
        # by its halves.
        half = vectors.dtype.kind == "f" and values[i].imag < 0
        vectors[:, i] = imag.array_r if half else real.array_r
        if REAL_SCALARS and vectors.dtype.kind == "c":
            vectors[:, i] += 1j * imag.array_r
    destroy(real, imag)
    mat.comm.tompi4py().Bcast(values, root=0)
    if inverted:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(values == 0, np.inf, 1.0 / values.real).astype(complex)
    return values, vectors


def row_sizes(mat: PETSc.Mat) -> Block:
    """Return the largest absolute entry of each row of this rank, 1 for empty rows.

    Not collective. For assembled AIJ matrices.
    """
    offsets, _, values = mat.getValuesCSR()
    sizes = np.zeros(len(offsets) - 1)
    filled = np.flatnonzero(np.diff(offsets))
    if filled.size:
        sizes[filled] = np.maximum.reduceat(np.abs(values), offsets[filled])
    return np.where(sizes > 0, sizes, 1.0)


class Callback:
    """Python context that PETSc calls for products (mult) and preconditioners (apply).

    An exception must not unwind through PETSc's C code: objects would be left locked and
    could not be destroyed. It is put aside, zeros are returned from then on, and
    `raise_deferred` raises it when the solver has come back.
    """

    def __init__(self, action: Callable[[Block], Block]) -> None:
        self.action = action
        self.deferred_error: Exception | None = None

    def mult(self, _: Any, source: PETSc.Vec, target: PETSc.Vec) -> None:
        self.run(self.action, source, target)

    def apply(self, _: Any, source: PETSc.Vec, target: PETSc.Vec) -> None:
        self.run(self.action, source, target)

    def run(self, action: Callable[[Block], Block], source: PETSc.Vec, target: PETSc.Vec) -> None:
        if self.deferred_error is None:
            try:
                target.array[:] = action(np.array(source.array_r))
            except Exception as error:
                self.deferred_error = error
        if self.deferred_error is not None:
            target.set(0.0)

    def raise_deferred(self) -> None:
        """Raise what was put aside, once.  (Collective, as the action is.)"""
        error, self.deferred_error = self.deferred_error, None
        if error is not None:
            raise error


def raise_deferred(mat: PETSc.Mat) -> None:
    """Raise the error that a product of this package has put aside.  (Collective.)"""
    if mat.getType() == "python":
        context = mat.getPythonContext()
        if isinstance(context, Callback):
            context.raise_deferred()


def diagonal(mat: PETSc.Mat) -> Block:
    """Return this rank's part of the diagonal.  (Collective.)"""
    vec = mat.createVecLeft()
    mat.getDiagonal(vec)
    values = vec.array.copy()
    vec.destroy()
    return np.asarray(values)


def is_shell(mat: PETSc.Mat) -> bool:
    """Tell whether a matrix is an operator without entries.  (Not collective.)"""
    return mat.getType() in {"python", "shell"}


def destroy_quietly(*objects: Any) -> None:
    """Destroy objects after a failure, whose error must not be hidden by a second one.

    Collective. PETSc may refuse to destroy what a failed call left half done.
    """
    for item in objects:
        with suppress(PETSc.Error), plain_errors():
            destroy(item)


def destroy(*objects: Any) -> None:
    """Destroy PETSc objects that exist.  (Collective.)"""
    for item in objects:
        if item is not None:
            item.destroy()


@contextmanager
def log_stage(name: str) -> Iterator[None]:
    """Attribute the time of a block to a stage of PETSc's -log_view.  (Not collective.)"""
    stage = PETSc.Log.Stage(name)
    stage.push()
    try:
        yield
    finally:
        stage.pop()


def deterministic_block(rows: tuple[int, int], count: int, seed: int = 0) -> Block:
    """Return pseudo-random rows in [-1, 1) that depend on the global row number only.

    Not collective. Start vectors made this way do not depend on the number of ranks.
    """
    index = np.arange(*rows, dtype=np.uint64)[:, None] * np.uint64(count)
    index = index + np.arange(count, dtype=np.uint64) + np.uint64(seed * 0x51_7C_C1_B7)
    # Finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
    bits = (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2^64
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return np.asfortranarray(bits.astype(np.float64) / 2.0**63 - 1.0)


RAISED_BY_CALLBACK = 101
"""PETSc's code in 3.26 for an exception of Python code that it called."""


class translated_errors:  # noqa: N801  (used like a function)
    """Context manager that replaces PETSc's numeric errors by ones a user understands.

    Not collective; PETSc raises the errors meant here on all ranks. Errors that are
    translated to None, and exceptions that are not PETSc's, pass unchanged.
    """

    def __init__(self, translate: Callable[[int], Exception | None]) -> None:
        self.translate = translate

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        plain = _plain_error(error)
        refused = refused_option(plain)
        if refused is not None:
            raise refused from plain
        translated = self.translate(int(plain.ierr)) if isinstance(plain, PETSc.Error) else None
        if translated is not None:
            raise translated from plain
        if plain is not error and plain is not None:
            raise plain from plain.__cause__  # without the wrapper, whose cause it is


def plain_errors() -> translated_errors:
    """Return a context manager that makes PETSc's errors PETSc.Error in every version.

    Not collective. slepc4py 3.26 raises SystemError("... returned a result with an exception
    set") caused by the PETSc.Error, and petsc4py 3.26 error 101 caused by what a callback raised,
    which 3.18 hands on as it is.
    """
    return translated_errors(lambda _: None)


def _plain_error(error: BaseException | None) -> BaseException | None:
    if error is None or error.__cause__ is None:
        return error
    wrapped = isinstance(error, SystemError) and isinstance(error.__cause__, PETSc.Error)
    raised = isinstance(error, PETSc.Error) and int(error.ierr) == RAISED_BY_CALLBACK
    return _plain_error(error.__cause__) if wrapped or raised else error


_HELD: list[PETSc.IS] = []


def hold_world(comm: Any) -> None:
    """Keep PETSc's own communicator of COMM_WORLD until the end.  (Collective.)

    At exit PETSc agrees on garbage: a rank that alone has it still would wait for the others.
    """
    warn_if_alone(PETSc.COMM_WORLD.size)
    if not _HELD and comm.size == PETSc.COMM_WORLD.size:
        _HELD.append(PETSc.IS().createGeneral([], comm=PETSc.COMM_WORLD))
