"""Types shared by all layers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Block: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""This rank's rows of one or more vectors: (n_local, k), or a plain array."""

EPS = float(np.finfo(float).eps)
TINY = float(np.finfo(float).tiny)
"""Keeps a quotient finite where both parts vanish."""
