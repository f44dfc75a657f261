"""The closing table of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from geneig_adjoint.conditioning import ILL_CONDITION
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.study.results import Outcome, Pairs
from geneig_adjoint.study.spread import norm_of

UNSURE = 1e-4
"""Estimated relative error above which a gradient is said to be inaccurate."""


Frequency: TypeAlias = Callable[[complex], float] | None
"""Eigenvalue -> how often per second its mode swings; None where it cannot be meant so."""


def summary(
    pairs: Pairs,
    outcome: Outcome,
    notes: Sequence[str],
    *,
    frequency: Frequency,
    directory: Path,
) -> str:
    """Return the closing table of a run.

    Not collective: what has to be measured for it, all ranks have measured (`frequencies`).
    """
    lines = ["", *_pair_lines(pairs, frequency), "", *_objective_lines(outcome)]
    lines += [f"{name}: {reason}" for name, reason in outcome.failures.items()]
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, "", f"results in {directory}"])


def _pair_lines(pairs: Pairs, frequency: Frequency) -> list[str]:
    cluster = {j: index for index, group in enumerate(pairs.clusters) for j in group}
    head = "" if frequency is None else f"  {'frequency':<14}"
    lines = [f"pair  {'eigenvalue':<32}{head}  residual  condition  cluster  check"]
    for j, value in enumerate(pairs.values):
        text = f"{value.real:.10g}" + (f" {value.imag:+.10g}i" if value.imag else "")
        middle = "" if frequency is None else f"  {frequency(complex(value)):<14.8g}"
        lines.append(
            f"{j:>4}  {text:<32}{middle}  {pairs.residuals[j]:<8.1e}  {pairs.condition[j]:<9.3g}  "
            f"{cluster[j]:<7}  {_pair_check(pairs, j)}"
        )
    return lines


def frequencies(pairs: Pairs) -> Frequency:
    """Return how often per second a mode swings, if its eigenvalues may be meant so.

    Collective: a resumed run has not asked yet whether its matrices are definite.

    Vibrations: A x = omega^2 B x with values that are real and positive, or a quadratic
    problem. Whether others (multiplication factors, buckling loads) are meant is not known.
    """
    if isinstance(pairs, QuadraticPairs):
        return lambda value: abs(value.imag) / (2 * np.pi)
    if pairs.pencil.definite and pairs.pencil.B_positive and (pairs.values.real > 0).all():
        return lambda value: float(np.sqrt(value.real) / (2 * np.pi))
    return None


def _pair_check(pairs: Pairs, j: int) -> str:
    if j in pairs.info.constrained:
        return "constrained row"
    if any(j in group and len(group) > 1 for group in pairs.clusters):
        return "repeated"
    return "ill-conditioned" if pairs.condition[j] > ILL_CONDITION else "ok"


def _objective_lines(outcome: Outcome) -> list[str]:
    lines = [f"{'objective':<20}  {'value':<18}  error    check       gradient norm by parameter"]
    for name, value in outcome.values.items():
        norms, error, check = "does not exist, see below", "", "failed"
        if name not in outcome.failures:
            gradient, size = outcome.gradients[name], outcome.gradient_errors[name]
            error, check = f"{size:.1e}", "ok" if size <= UNSURE else "inaccurate"
            norms = ", ".join(f"{key} {norm_of(part):.4g}" for key, part in gradient.items())
        lines.append(
            f"{name:<20}  {value:<18.12g}  {error:<7}  {check:<10}  {norms or 'no parameters'}"
        )
    return lines
