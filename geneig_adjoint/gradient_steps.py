"""The two halves of a gradient: adjoint vectors, and their contraction with dA and dB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint.adjoint import Contraction, adjoint_vectors
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.cluster_safety import check_cluster_safety
from geneig_adjoint.collective import check_equal_input, raise_together, users_code
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.errors import InputError, StaleError
from geneig_adjoint.evaluation import Objective, evaluate, nonzero_pairs
from geneig_adjoint.models import Model
from geneig_adjoint.moving_rows import with_moving_rows
from geneig_adjoint.parameters import Parameters


class EstimatedGradient(dict[str, Any]):
    """A gradient in the structure of the parameters, and how wrong it may be.

    Attributes
    ----------
    relative_error : float
        Estimate from the errors of the eigenpairs, divided by their gaps, and the true
        residuals of the adjoint solves; relative to the terms of the gradient, which may
        cancel. It does not know of neighbours that were not computed.

    """

    relative_error: float = 0.0


@dataclass(frozen=True, eq=False)
class Adjoint:
    """What is known of an objective before its contraction with the derivatives of A and B.

    Attributes
    ----------
    value : float
    contraction : Contraction
        Adjoint vectors.
    explicit : mapping or None
        Its explicit derivative, in the structure of p.

    """

    value: float
    contraction: Contraction
    explicit: Mapping[str, Any] | None = None


def adjoints(
    model: Model,
    p: Parameters,
    pairs: Eigenpairs,
    objectives: Sequence[Objective],
    settings: AdjointSettings,
    *,
    results: Sequence[tuple[float, EigenCotangent]] | None = None,
) -> list[Adjoint]:
    """Return value and adjoint vectors of several objectives that share their solves.

    Collective. The first half of `values_and_gradients`; `contracted` is the second.
    """
    pairs.check_current()
    check_point(pairs, p)
    kind = settings.strategy if isinstance(settings.strategy, str) else type(settings.strategy)
    request = (len(objectives), kind, settings.rtol, dict(settings.options), settings.prefix)
    check_equal_input(pairs.comm, "the number of objectives and the settings", request)
    if results is None:
        results = [evaluate(objective, pairs, p) for objective in objectives]
    for _, cotangent in results:
        check_explicit(cotangent, p)
    cotangents = [cotangent for _, cotangent in results]
    if pairs.info.constrained:
        used = [np.flatnonzero(nonzero_pairs(pairs, cotangent)) for cotangent in cotangents]
        pairs = with_moving_rows(model, p, pairs, {int(j) for some in used for j in some})
    for objective, cotangent in zip(objectives, cotangents, strict=True):
        check_cluster_safety(objective, pairs, p, cotangent)
    contractions = adjoint_vectors(pairs, cotangents, settings)
    return [
        Adjoint(value, contraction, cotangent.parameters)
        for (value, cotangent), contraction in zip(results, contractions, strict=True)
    ]


def contracted(
    model: Model, p: Parameters, pairs: Eigenpairs, adjoint: Adjoint
) -> EstimatedGradient:
    """Return the gradient that adjoint vectors stand for.  (Collective.)"""
    contraction = adjoint.contraction
    with users_code(pairs.comm):
        total = model.contract(p, *contraction.blocks(pairs.pencil.n_local))
    raise_together(pairs.comm, params.structure_error("contract", p, total))
    total = EstimatedGradient((name, total[name]) for name in p)
    total.relative_error = contraction.relative_error
    if adjoint.explicit is not None:
        params.add_scaled(total, 1.0, adjoint.explicit)
    return total


def check_point(pairs: Eigenpairs, p: Parameters) -> None:
    """Raise on all ranks when the pairs were solved at other parameters.

    Collective.

    Raises
    ------
    StaleError
        When entries of p are not those the matrices were assembled with.

    """
    point = pairs.pencil.point or {}
    error = None
    # Another structure than the model's is the model's to complain about.
    sizes = {name: params.length(p.get(name)) for name in point}
    same = [name for name in point if sizes[name] == point[name][0]]
    here = {} if None in sizes.values() else params.digest({name: p[name] for name in same})
    if any(found != point[name] for name, found in here.items()):
        error = StaleError(
            "p must hold the parameters the pairs were solved for, got others; assemble and solve "
            "again, or pass the p that was used"
        )
    raise_together(pairs.comm, error)


def check_explicit(cotangent: EigenCotangent, p: Parameters) -> None:
    """Raise when an explicit derivative does not have the structure of p.

    Not collective: the cotangent was compared over the ranks when it was evaluated.

    Raises
    ------
    InputError
        An unknown name or another length.

    """
    for name, value in (cotangent.parameters or {}).items():
        expected = params.length(p[name]) if name in p else None
        if expected is None or params.length(value) != expected:
            raise InputError(
                f"the explicit derivative for {name!r} must have the shape of that parameter "
                f"({expected} entries), got {params.length(value)}; use the names and lengths of p"
            )
