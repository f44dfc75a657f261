"""Derivatives of eigenvalues and eigenvectors of large sparse pencils A(p) x = lam B(p) x.

Names are loaded on first use: importing the package does not initialise PETSc or MPI.
"""

from __future__ import annotations

import importlib
from typing import Any

from geneig_adjoint._version import __version__ as __version__
from geneig_adjoint.errors import MissingPackageError

_MODULE_OF = {
    "AdjointSettings": "adjoint_settings",
    "AssembledModel": "assembled",
    "BaseState": "base_states",
    "BorderedSystem": "bordered",
    "ClusterDerivatives": "repeated",
    "CompiledKernel": "compiled_kernels",
    "Composed": "composed",
    "ConstrainedRowError": "errors",
    "ConvergenceError": "errors",
    "DefectiveEigenvalueError": "errors",
    "DegenerateEigenvalueError": "errors",
    "DensityFilter": "filters",
    "Differenced": "differenced_kernels",
    "EigenCotangent": "eigenpairs",
    "EigenTangent": "eigenpairs",
    "Eigenpairs": "eigenpairs",
    "ElementBlock": "element_blocks",
    "ElementModel": "elements",
    "EstimatedGradient": "gradient_steps",
    "GaugeError": "errors",
    "GeneigError": "errors",
    "Ghosts": "ghosts",
    "HelmholtzFilter": "helmholtz",
    "IllConditionedWarning": "errors",
    "TruncationWarning": "errors",
    "UnreadOptionWarning": "errors",
    "InputError": "errors",
    "JaxKernel": "jax_kernels",
    "JaxMap": "jax_maps",
    "KernelReport": "kernel_checks",
    "Linear": "laws",
    "LinearMap": "filters",
    "Map": "maps",
    "MatrixModel": "models",
    "MissingEigenvaluesError": "errors",
    "Model": "models",
    "ModeTrackingError": "errors",
    "NotHermitianError": "errors",
    "Named": "maps",
    "NearNullSpace": "near_null_space",
    "NumpyKernel": "kernels",
    "OperatorModel": "operators",
    "OptionError": "errors",
    "OperatorReport": "operator_checks",
    "Pencil": "pencil",
    "Pointwise": "maps",
    "PowerLaw": "laws",
    "Projection": "maps",
    "QuadraticElementModel": "quadratic_models",
    "QuadraticMatrixModel": "quadratic_models",
    "QuadraticModel": "quadratic",
    "QuadraticPairs": "quadratic_pairs",
    "QuadraticPencil": "quadratic_pencil",
    "ResidualBlock": "state_problems",
    "ScaledKernel": "kernels",
    "StaleError": "errors",
    "StoppedError": "errors",
    "StateProblem": "state_problems",
    "StateReport": "state_checks",
    "Symmetry": "filters",
    "Tied": "filters",
    "Tracking": "tracking",
    "UndefinedObjectiveError": "errors",
    "abort_on_failure": "endings",
    "check_base_state": "state_checks",
    "check_kernels": "kernel_checks",
    "check_operator": "operator_checks",
    "cluster_derivatives": "repeated",
    "coordinate_ids": "shapes",
    "derivative_products": "sensitivity",
    "directional_derivatives": "repeated",
    "enzyme_kernel": "enzyme_kernels",
    "flatten": "structures",
    "gradient": "sensitivity",
    "hessian_vector_product": "hessian",
    "jvp": "sensitivity",
    "observed": "observers",
    "rigid_body_modes": "near_null_space",
    "solve_eigenproblem": "solve",
    "solve_quadratic": "quadratic_solve",
    "track_modes": "tracking",
    "value_and_gradient": "chain",
    "verify_gradient": "verification",
}
_SUBMODULES = {"errors", "io", "objectives"}

__all__ = sorted([*_MODULE_OF, *_SUBMODULES, "__version__"])  # noqa: PLE0605

_REMEDY = {
    "petsc4py": "apt install python3-petsc4py, or pip install 'geneig-adjoint[petsc]'",
    "slepc4py": "apt install python3-slepc4py, or pip install 'geneig-adjoint[petsc]'",
    "mpi4py": "apt install python3-mpi4py, or pip install 'geneig-adjoint[petsc]'",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return _loaded(name)
    if name in _MODULE_OF:
        value = getattr(_loaded(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _loaded(module: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in _REMEDY:
            raise
        raise MissingPackageError(
            f"geneig_adjoint.{module} needs {missing}, which cannot be found; {_REMEDY[missing]}. "
            "On Debian, PETSC_DIR and SLEPC_DIR must name a build (here: . docker/env.sh real)",
            name=missing,
        ) from error


def __dir__() -> list[str]:
    return __all__
