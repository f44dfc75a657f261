"""`gradient`, `jvp` and `derivative_products`: what users call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings, Strategy
from geneig_adjoint.collective import check_equal_input, raise_together, users_code
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent, linear_pairs
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import ArgumentError, InputError
from geneig_adjoint.evaluation import Objective
from geneig_adjoint.gradient_steps import EstimatedGradient, adjoints, check_point, contracted
from geneig_adjoint.indices import index_error
from geneig_adjoint.models import Model, checked_tangent, has_hermitian_tangent
from geneig_adjoint.moving_rows import with_moving_rows
from geneig_adjoint.parameters import Parameters
from geneig_adjoint.structures import rebuilt
from geneig_adjoint.tangents import tangents

if TYPE_CHECKING:
    from mpi4py import MPI


@overload
def gradient(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    objective: Objective,
    **settings: Any,
) -> EstimatedGradient: ...


@overload
def gradient(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    objective: Sequence[Objective],
    **settings: Any,
) -> list[EstimatedGradient]: ...


def gradient(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    objective: Objective | Sequence[Objective],
    **settings: Any,
) -> EstimatedGradient | list[EstimatedGradient]:
    """Return the derivatives of an objective with respect to all parameters.

    Collective. Eigenvalue objectives need no linear system: the left vector is the
    adjoint. Eigenvector objectives solve one bordered system per pair they touch.

    Parameters
    ----------
    model
        Anything with ``assemble`` and ``contract``.
    p
        Parameters at which ``pairs`` were solved. Not changed.
    pairs
        Eigenpairs of ``model.assemble(p)``.
    objective
        One objective, or a list of them that shares all solves.
    **settings
        ``strategy`` ("direct", "ksp", a KSP, a callable, None: chosen), ``rtol``
        (1e-10, of the true residual), ``solver_parameters`` (PETSc options without the
        prefix ``ga_adjoint_``), ``options_prefix``.

    Returns
    -------
    EstimatedGradient or list of them
        In the structure of p: replicated arrays, identical on all ranks, or PETSc
        vectors that belong to the caller. Units: objective / parameter. If p is a dict, its
        attribute ``relative_error`` says how wrong it may be.

    Raises
    ------
    InputError
        An objective that returns something unusable, or a model without a method.
    ConvergenceError
        When an adjoint solve misses its tolerance.
    DegenerateEigenvalueError, DefectiveEigenvalueError, GaugeError
        When the derivative does not exist.
    StaleError
        When the pairs no longer belong to their pencil, or were solved at other
        parameters than p.

    """
    pairs = linear_pairs(pairs)
    wanted = [objective] if callable(objective) else list(objective)
    chosen = agreed_settings(pairs.comm, **settings)
    model, flat = entered(pairs.comm, model, p)
    results = values_and_gradients(model, flat, pairs, wanted, chosen)
    gradients = [rebuilt(p, flat, result) for _, result in results]
    return gradients[0] if callable(objective) else gradients


SETTINGS = ("strategy", "rtol", "solver_parameters", "options_prefix")


def adjoint_settings(**given: Any) -> AdjointSettings:
    """Return the settings of bordered systems from a user's keywords.

    Not collective; `agreed_settings` is.

    Raises
    ------
    InputError
        An rtol that is not between 0 and 1.
    TypeError
        An unknown keyword.

    """
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise TypeError(
            f"the settings of a gradient must be among {', '.join(SETTINGS)}, got {unknown[0]!r}; "
            "correct the name"
        )
    rtol = given.get("rtol", 1e-10)
    if not 0 < rtol < 1:
        raise ArgumentError(f"rtol must lie between 0 and 1, got {rtol}; 1e-10 is the default")
    strategy: Strategy = given.get("strategy")
    options = dict(given.get("solver_parameters") or {})
    return AdjointSettings(strategy, rtol, options, given.get("options_prefix", ""))


def agreed_settings(comm: MPI.Comm, **given: Any) -> AdjointSettings:
    """Return the settings of bordered systems, the same on every rank.

    Collective. What some ranks alone ask for, or alone have wrong, would leave the others
    waiting in a solve.

    Raises
    ------
    InputError
        When the ranks ask for different settings, or for such that make no sense.
    TypeError
        An unknown keyword.

    """
    strategy, options = given.get("strategy"), dict(given.get("solver_parameters") or {})
    seen = {
        "rtol": 1e-10,
        "options_prefix": "",
        **given,
        # KSPs and functions differ between ranks by their addresses.
        "strategy": strategy if isinstance(strategy, str) else type(strategy),
        "solver_parameters": sorted(repr(item) for item in options.items()),
    }
    check_equal_input(comm, "the settings of the adjoint", sorted(seen.items()))
    return adjoint_settings(**given)


def values_and_gradients(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    objectives: Sequence[Objective],
    settings: AdjointSettings,
    *,
    results: Sequence[tuple[float, EigenCotangent]] | None = None,
) -> list[tuple[float, EstimatedGradient]]:
    """Return value and gradient of several objectives that share their solves.

    Collective. ``results``: what `evaluate` gave for them; None: they are called here.
    """
    found = adjoints(model, p, pairs, objectives, settings, results=results)
    return [(adjoint.value, contracted(model, p, pairs, adjoint)) for adjoint in found]


def jvp(
    model: Any,
    p: Parameters,
    pairs: Eigenpairs,
    p_dot: Parameters,
    *,
    columns: Sequence[int] | None = None,
    **settings: Any,
) -> EigenTangent:
    """Return the derivatives of eigenvalues and eigenvectors along a direction.

    Collective. The bordered systems of the gradient, not transposed.

    Parameters
    ----------
    model
        A model with ``tangent(p, p_dot, right)``.
    p, p_dot
        Point and direction, in the same structure.
    pairs
        Eigenpairs of ``model.assemble(p)``.
    columns
        Indices of the pairs wanted, which must be simple, the same on every rank; the
        tangents of the others are zero. None: all.
    **settings
        As in `gradient`.

    Returns
    -------
    EigenTangent
        ``values`` (k,), ``right`` (n_local, k), in the normalization of the pairs;
        ``left`` if the pairs have left vectors and the pencil is Hermitian and definite
        or the model's ``tangent`` takes ``hermitian=True``.

    Raises
    ------
    InputError
        When the model has no ``tangent`` or one that returns anything but two blocks,
        a column does not exist, or the ranks ask for different things.
    ConvergenceError, DegenerateEigenvalueError, DefectiveEigenvalueError, StaleError
        As in `gradient`.

    """
    shown, pairs = pairs, linear_pairs(pairs)
    pairs.check_current()
    model, p, p_dot = entered(pairs.comm, model, p, p_dot)
    check_point(pairs, p)
    if not hasattr(model, "tangent"):
        raise InputError(
            f"jvp needs a model with tangent(p, p_dot, right), got {type(model).__name__} without; "
            "return (dA @ right, dB @ right)"
        )
    comm, point = pairs.comm, (p, p_dot)
    chosen = agreed_settings(comm, **settings)
    wanted = range(pairs.count) if columns is None else columns
    raise_together(comm, index_error(pairs.count, wanted, "columns"))
    wanted = [int(j) for j in wanted]
    check_equal_input(comm, "columns", wanted)
    pairs = with_moving_rows(model, p, pairs, wanted)
    products = checked_tangent(comm, model, point, pairs.right)
    left_products = None
    if has_hermitian_tangent(model) and pairs.left is not None and not pairs.pencil.definite:
        left_products = checked_tangent(comm, model, point, pairs.left, hermitian=True)
    found = tangents(pairs, products, left_products, chosen, columns=wanted)
    return found if shown is pairs else pairs.pencil.view.tangent(found)


def derivative_products(
    model: Any, p: Parameters, x: Block, name: str, *, indices: Block | None = None
) -> tuple[PETSc.Mat, PETSc.Mat]:
    """Return the sparse matrices whose columns are (dA/dp_i) x and (dB/dp_i) x.

    Collective. Evaluated element by element in parallel. The gradient does not need
    them; design studies and forward sensitivities do: y^H (dA_x - lam dB_x) is the
    gradient of a simple eigenvalue.

    Parameters
    ----------
    model
        A model with ``derivative_products``.
    p
        Point of linearisation.
    x
        This rank's rows of one vector, (n_local,).
    name
        Name of the parameter.
    indices
        Entries of the parameter, the same on every rank; None: all.

    Returns
    -------
    tuple of PETSc.Mat
        Rows distributed as A, columns as PETSc's default (or as the parameter, if that
        is a PETSc.Vec). They belong to the caller.

    Raises
    ------
    InputError
        Unknown names, indices out of range, a complex x in the real-scalar build.

    """
    model, p = entered(getattr(model, "comm", None), model, p)
    if not hasattr(model, "derivative_products"):
        raise InputError(
            f"derivative_products needs a model that has element or matrix derivatives, got "
            f"{type(model).__name__}; use jvp for directions"
        )
    if name not in p:
        raise InputError(
            f"the parameter must be one of {sorted(p)}, got {name!r}; correct the name"
        )
    size = params.length(p[name]) or 0
    if indices is not None and np.size(indices):
        indices = np.asarray(indices)
        if indices.min() < 0 or indices.max() >= size or np.unique(indices).size < indices.size:
            raise InputError(
                f"indices must be distinct numbers in 0 ... {size - 1}, got {indices.min()} ... "
                f"{indices.max()}; count from 0"
            )
    block = np.asarray(x).reshape(-1, 1)
    wrong = None
    n_local = model.rows[1] - model.rows[0]
    if len(block) != n_local:
        wrong = InputError(
            f"x must hold this rank's {n_local} rows, got shape {np.shape(x)}; cut it to pairs.rows"
        )
    raise_together(model.comm, wrong)
    if np.iscomplexobj(block) and _petsc.REAL_SCALARS:
        if model.comm.allreduce(int(np.any(block.imag))):
            raise _petsc.real_scalar_error("x")
        block = block.real
    with users_code(model.comm):
        dA_x, dB_x = model.derivative_products(p, block, name, indices)
    return dA_x, dB_x
