"""The closing table of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geneig_adjoint.study.results import Outcome, Pairs


def summary(pairs: Pairs, outcome: Outcome, notes: Sequence[str], *, directory: Path) -> str:
    """Return the closing table of a run.  (Not collective.)"""
    lines = ["", "pair  eigenvalue                        residual  condition  cluster"]
    cluster = {j: index for index, group in enumerate(pairs.clusters) for j in group}
    for j, value in enumerate(pairs.values):
        text = f"{value.real:.10g}" + (f" {value.imag:+.10g}i" if value.imag else "")
        lines.append(
            f"{j:>4}  {text:<32}  {pairs.residuals[j]:<8.1e}  {pairs.condition[j]:<9.3g}  "
            f"{cluster[j]}"
        )
    lines += ["", "objective             value               error    gradient norm, by parameter"]
    for name, value in outcome.values.items():
        norms, error = "does not exist, see below", ""
        if name not in outcome.failures:
            gradient, error = outcome.gradients[name], f"{outcome.gradient_errors[name]:.1e}"
            norms = ", ".join(
                f"{key} {float(np.linalg.norm(part)):.4g}" for key, part in gradient.items()
            )
        lines.append(f"{name:<20}  {value:<18.12g}  {error:<7}  {norms or 'no parameters'}")
    lines += [f"{name}: {reason}" for name, reason in outcome.failures.items()]
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, "", f"results in {directory}"])
