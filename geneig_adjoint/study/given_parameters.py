"""Tables [parameters] and [scale]: parameters of a model changed by its study."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.errors import StudyError
from geneig_adjoint.structures import carried

if TYPE_CHECKING:
    from geneig_adjoint.study.settings import Study

ENTRY = re.compile(r"(?P<name>.*)\[(?P<index>\d+)\]")


def with_given_parameters(study: Study, p: Mapping[str, Any]) -> Any:
    """Return p as the tables [parameters] and [scale] of a study want it.

    Not collective. Whole parameters are set first, then single entries ("k[3]"), then all
    is multiplied. PETSc vectors are changed in place, arrays are copied.

    Raises
    ------
    StudyError
        A name or an index that the model does not have, a list of another length.

    """
    if not study.parameters and not study.scale:
        return p
    changed = {
        name: value if params.is_distributed(value) else np.array(value, dtype=float)
        for name, value in p.items()
    }
    whole_first = sorted(study.parameters.items(), key=lambda item: item[0] not in changed)
    for key, value in whole_first:
        _change("parameters", key, value, changed, lambda _, new: new)
    for key, value in study.scale.items():
        _change("scale", key, value, changed, np.multiply)
    return carried(p, changed, point=True)


def _change(
    table: str,
    key: str,
    value: Any,
    changed: dict[str, Any],
    law: Callable[[Block, Block], Block],
) -> None:
    name, index = _place(table, key, changed)
    size = params.length(changed[name]) or 0
    if index is not None and (index >= size or isinstance(value, list)):
        raise StudyError(
            f"[{table}] {key!r} must be a number for one of the entries 0 ... {size - 1}, got "
            f"{value!r}; correct the study"
        )
    if isinstance(value, list) and len(value) != size:
        raise StudyError(
            f"[{table}] {key!r} must have {size} entries, or be one number for all, got "
            f"{len(value)}; correct the study"
        )
    first, last = _range(changed[name])
    chosen = np.arange(first, last) if index is None else np.arange(index, index + 1)
    chosen = chosen[(chosen >= first) & (chosen < last)]
    new = np.asarray(value, dtype=float)
    entries = changed[name].array if params.is_distributed(changed[name]) else changed[name]
    entries[chosen - first] = law(entries[chosen - first], new[chosen] if new.ndim else new)


def _place(table: str, key: str, changed: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the name and the index of "k" or "k[3]"."""
    if key in changed:
        return key, None
    found = ENTRY.fullmatch(key)
    if found and found["name"] in changed:
        return found["name"], int(found["index"])
    raise StudyError(
        f"[{table}] must name parameters of the model, {sorted(changed)}, or one entry, "
        f'such as "{min(changed, default="name")}[0]", got {key!r}; correct the study'
    )


def _range(value: Any) -> tuple[int, int]:
    """Return the range of entries this rank holds."""
    if params.is_distributed(value):
        first, last = value.getOwnershipRange()
        return int(first), int(last)
    return 0, len(value)
