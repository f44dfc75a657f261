"""Entries of a study by their dotted names: found, written, replaced."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from geneig_adjoint.errors import StudyError

PARAMETER_TABLES = ("parameters", "scale")
"""Tables whose keys are names of parameters: what they are set to, and multiplied by."""


def name_and_value(change: str) -> tuple[str, Any]:
    """Return the two sides of "table.key=value"; values as in TOML.  (Not collective.)"""
    name, equals, text = change.partition("=")
    if not equals or "." not in name:
        raise StudyError(
            f"--set must be table.key=value, got {change!r}; write for example solver.count=20"
        )
    return name.strip(), value_of(text)


def value_of(text: str) -> Any:
    """Return what a text means in TOML; a bare word is a string.  (Not collective.)"""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def replace_entry(tables: dict[str, Any], name: str, value: Any, *, what: str) -> None:
    """Replace one entry of tables in place.  (Not collective.)

    Parameters
    ----------
    tables
        Tables of a study.
    name
        "table.key", or "table.key.key" of a table in a table; in tables of parameters all
        behind the first dot is the name.
    value
        The new value.
    what
        What asks for it, in messages.

    Raises
    ------
    StudyError
        A name that is none, or leads through something that is no table.

    """
    keys = name.split(".")
    if keys[0] in PARAMETER_TABLES:
        keys = [keys[0], ".".join(keys[1:])]
    if len(keys) < 2 or not all(keys):
        raise StudyError(
            f"{what} must be table.key=value, got {name!r}; write for example solver.count=20"
        )
    place: Any = tables
    for key in keys[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise StudyError(
                f"{what} must name a table, got {name!r} where {key!r} is none; lists such as "
                "[[objective]] are changed in the file"
            )
    place[keys[-1]] = value


def flattened(
    table: Mapping[str, Any], is_leaf: Callable[[Any], bool] = lambda value: False
) -> dict[str, Any]:
    """Return a table of tables with dotted names: TOML's a.b = 1 and "a.b" = 1 are alike.

    Not collective. Tables of which ``is_leaf`` holds are values.
    """
    found = {}
    for key, value in table.items():
        if isinstance(value, dict) and not is_leaf(value):
            found.update(
                {f"{key}.{name}": leaf for name, leaf in flattened(value, is_leaf).items()}
            )
        else:
            found[key] = value
    return found
