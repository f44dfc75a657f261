"""Three springs of which two cross."""

import numpy as np

import geneig_adjoint as ga


def crossing(comm):
    """Return a diagonal model and t -> p, with eigenvalues 1 + 1.5 t, 2 and 3."""
    own = np.arange(3)[comm.rank :: comm.size]
    block = ga.ElementBlock("A", own[:, None], ga.ScaledKernel(np.ones((1, 1))), {"k": own})
    model = ga.ElementModel(3, [block], comm=comm)
    return model, lambda t: {"k": np.array([1.0 + 1.5 * t, 2.0, 3.0])}
