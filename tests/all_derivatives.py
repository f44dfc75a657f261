"""All first and second derivatives of a model, for comparisons of one model with another."""

import numpy as np

import geneig_adjoint as ga


def objective(pairs):
    return ga.objectives.QuadraticForm(np.arange(*pairs.rows) + 1.0, (0, 1))


def everything(model, p, p_dot):
    """Return gradient, tangents and a Hessian-vector product as arrays."""
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.3) as pairs:
        found = {"values": pairs.values}
        one = objective(pairs)
        found |= {f"gradient {k}": v for k, v in ga.gradient(model, p, pairs, one).items()}
        found["values_dot"] = ga.jvp(model, p, pairs, p_dot).values
        bends = ga.hessian_vector_product(model, p, pairs, one, p_dot)
        found |= {f"hessian {k}": v for k, v in bends.items()}
    return found
