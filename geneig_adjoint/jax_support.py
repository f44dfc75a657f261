"""What everything written in JAX has in common: double precision, what can be traced."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from geneig_adjoint.errors import InputError, MissingPackageError

NARROW = {"bfloat16", "float16", "float32", "complex64"}


def jax_module(what: str = "function") -> Any:
    """Return jax, or say how to get it.  (Not collective.)"""
    try:
        import jax
    except ImportError as error:
        raise MissingPackageError(
            f"a {what} needs jax, which cannot be imported; pip install 'geneig-adjoint[jax]' "
            "(on Debian 12, where numpy must be below 2: pip install 'jax==0.7.1' 'numpy<2')",
            name="jax",
        ) from error
    return jax


@contextmanager
def float64() -> Iterator[None]:
    """Compute in double precision here, whatever the program has chosen for its own arrays."""
    jax = jax_module()
    # Newer releases deprecate the one of jax.experimental.
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    with home.enable_x64(True):
        yield


@contextmanager
def traceable(what: str) -> Iterator[None]:
    """Say what is wrong with a function that cannot be traced.  (Not collective.)"""
    errors = jax_module(what).errors
    try:
        yield
    except errors.JAXTypeError as error:
        raise InputError(
            f"the function of a {what} must be one that JAX can trace, got "
            f"{type(error).__name__}: {str(error).splitlines()[0]}; use jax.numpy in place of "
            "numpy, jax.numpy.where in place of if, and no float(...) of a value"
        ) from error


def check_precision(what: str, variables: list[Any]) -> None:
    """Raise unless all of a computation is in double precision.  (Not collective.)"""
    for variable in variables:
        if str(variable.dtype) in NARROW:
            raise InputError(
                f"the function of a {what} must compute in double precision, got a "
                f"{variable.dtype} array of shape {variable.shape}; constants made by jax.numpy "
                "outside of the function are rounded to single precision: make them with numpy"
            )


def variables_of(jaxpr: Any) -> Iterator[Any]:
    """Yield shape and type of constants and intermediate results, inner functions included."""
    for constant in jaxpr.constvars:
        yield constant.aval
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if hasattr(variable.aval, "dtype"):
                yield variable.aval
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, list | tuple) else (parameter,):
                found = getattr(inner, "jaxpr", inner)
                if hasattr(found, "eqns"):
                    yield from variables_of(found)
