"""How the buckling load of a plate changes with its thickness, element by element.

    python plate.py [picture.png], or mpirun -n 2 python plate.py

A square plate, simply supported, is compressed by an even pressure on two opposite edges. The
stresses in its plane depend on the thickness, too: they are a state that is solved for, and the
derivative goes through them. Known answers for even thickness: the critical stress
4 pi^2 D / (b^2 t) of Timoshenko & Gere, "Theory of Elastic Stability", 2nd ed., section 9.2; the
critical edge load is proportional to t^3, so that sum t_e dlam/dt_e = 3 lam. Without the
derivative through the state that sum is 2 lam, and the map of derivatives is wrong everywhere.
"""

import sys

import jax.numpy as jnp
import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

E, POISSON, SIDE, THICKNESS = 210e9, 0.3, 1.0, 0.01  # Pa, -, m, m
LOAD = 1.0  # N/m on the edge: the eigenvalue is the critical load
PLANE = np.array([[1, POISSON, 0], [POISSON, 1, 0], [0, 0, (1 - POISSON) / 2]])
PLANE *= E / (1 - POISSON**2)
GAUSS, WEIGHTS = np.polynomial.legendre.leggauss(4)
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def hermite(z):
    """Return the cubic Hermite functions on [0, 1] and two derivatives, (3, 2 nodes, 2 kinds)."""
    values = [[1 - 3 * z**2 + 2 * z**3, z - 2 * z**2 + z**3], [3 * z**2 - 2 * z**3, z**3 - z**2]]
    slopes = [[6 * z**2 - 6 * z, 1 - 4 * z + 3 * z**2], [6 * z - 6 * z**2, 3 * z**2 - 2 * z]]
    bends = [[12 * z - 6, 6 * z - 4], [6 - 12 * z, 6 * z - 2]]
    return np.array([values, slopes, bends])


def tables(h):
    """Return weights, plane strains, curvatures and slopes at the Gauss points of a square.

    Shapes (16,), (16, 3, 8), (16, 3, 16), (16, 2, 16): bilinear displacements (u, v per node) and
    the deflection of Bogner, Fox and Schmit (w, w_y, w_x, w_xy per node), which is conforming.
    """
    found = []
    units = np.array([1.0, h])
    for x, wx in zip((GAUSS + 1) / 2, WEIGHTS / 2, strict=True):
        for y, wy in zip((GAUSS + 1) / 2, WEIGHTS / 2, strict=True):
            fx = np.where(CORNERS[:, 0], 1, -1) * np.where(CORNERS[:, 1], y, 1 - y) / h
            fy = np.where(CORNERS[:, 1], 1, -1) * np.where(CORNERS[:, 0], x, 1 - x) / h
            strains = np.zeros((3, 4, 2))
            strains[0, :, 0], strains[1, :, 1] = fx, fy
            strains[2, :, 0], strains[2, :, 1] = fy, fx
            X, Y = hermite(x) * units, hermite(y) * units

            def deflection(i, j, X=X, Y=Y):
                table = np.einsum("ab,cd->acbd", X[i], Y[j])[CORNERS[:, 0], CORNERS[:, 1]]
                return table.ravel() / h ** (i + j)

            bends = [deflection(2, 0), deflection(0, 2), 2 * deflection(1, 1)]
            tilts = [deflection(1, 0), deflection(0, 1)]
            found.append((wx * wy * h * h, strains.reshape(3, 8), bends, tilts))
    return [np.array(part) for part in zip(*found, strict=True)]


class Plate:
    """The plate on a grid of count x count elements; stresses and buckling on all ranks."""

    def __init__(self, comm, count):
        self.count, h = count, SIDE / count
        weights, strains, bends, tilts = tables(h)

        def membrane(thickness):
            return thickness * jnp.einsum("g,gai,ab,gbj->ij", weights, strains, PLANE, strains)

        def bending(thickness):
            D = thickness**3 / 12 * PLANE
            return jnp.einsum("g,gai,ab,gbj->ij", weights, bends, D, bends)

        def softening(thickness, state):  # minus the geometric stiffness: lam > 0 is pressure
            force = -thickness * jnp.einsum("ab,gbi,i->ga", PLANE, strains, state)
            pairs = force[:, jnp.array([[0, 2], [2, 1]])]
            return jnp.einsum("g,gai,gab,gbj->ij", weights, tilts, pairs, tilts)

        mine = np.array_split(np.arange(count**2), comm.size)[comm.rank]
        flat, self.flat_size = self.plane_dofs()
        bent, bent_size = self.bending_dofs()
        ids = {"thickness": mine}
        self.statics = ga.ElementModel(
            self.flat_size,
            [ga.ElementBlock("A", flat[mine], ga.JaxKernel(membrane), ids)],
            comm=comm,
        )
        kernel = ga.JaxKernel(softening)
        self.inner = ga.ElementModel(
            bent_size,
            [
                ga.ElementBlock("A", bent[mine], ga.JaxKernel(bending), ids),
                ga.ElementBlock("B", bent[mine], kernel, {**ids, "state": flat[mine]}),
            ],
            comm=comm,
        )
        load = self.edge_load()[slice(*self.statics.rows)]
        self.state = ga.BaseState.linear(self.statics, load)
        self.model = ga.Composed(self.inner, [self.state])

    def nodes(self):
        """Return the nodes (m, 4) of every element; node (i, j) has number i (count + 1) + j."""
        i, j = np.divmod(np.arange(self.count**2), self.count)
        return (i[:, None] + CORNERS[:, 0]) * (self.count + 1) + j[:, None] + CORNERS[:, 1]

    def numbered(self, free):
        """Return dofs (m, 4 x kinds) of a table of free dofs (nodes, kinds), and their number."""
        numbers = np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)
        return numbers[self.nodes()].reshape(self.count**2, -1), int(free.sum())

    def plane_dofs(self):
        """Hold u on the left edge and v in one point: the plate may widen."""
        free = np.ones(((self.count + 1) ** 2, 2), dtype=bool)
        free[: self.count + 1, 0] = False
        free[0, 1] = False
        return self.numbered(free)

    def bending_dofs(self):
        """Hold w and its slope along the edge on all edges."""
        i, j = np.divmod(np.arange((self.count + 1) ** 2), self.count + 1)
        free = np.ones((i.size, 4), dtype=bool)
        for edge, slope in ((i, 1), (j, 2)):
            on = (edge == 0) | (edge == self.count)
            free[on, 0] = free[on, slope] = False
        return self.numbered(free)

    def edge_load(self):
        """Return the load vector of an even pressure on the right edge."""
        dofs = self.plane_dofs()[0].reshape(-1, 4, 2)[-self.count :, 1:3, 0]
        load = np.zeros(self.flat_size)
        np.add.at(load, dofs.ravel(), -LOAD * SIDE / self.count / 2)
        return load

    def derivatives(self, p, count=2):
        """Return lam and its derivatives, through the state and without it."""
        objective = ga.objectives.Eigenvalue(0)
        with self.model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
            total = ga.gradient(self.model, p, pairs, objective)["thickness"]
            value = pairs.values[0].real
            y, x = pairs.left[:, :1], pairs.right[:, :1]
            frozen = self.state(p)
            explicit = self.inner.contract(frozen, y, -value * y, x)
            frozen["state"].destroy()
            explicit["state"].destroy()
        return value, total, explicit["thickness"]


def draw(path, total, explicit, count):
    """Draw both maps of derivatives with the same colours."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    limit = max(np.abs(total).max(), np.abs(explicit).max())
    for ax, field, title in [
        (axes[0], total, "with the change of the stresses"),
        (axes[1], explicit, "stresses held fixed: wrong"),
    ]:
        image = ax.imshow(
            field.reshape(count, count).T,
            origin="lower",
            extent=(0, SIDE, 0, SIDE),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
        )
        ax.set(title=title, xlabel="x, m (compressed along x)", ylabel="y, m")
    figure.suptitle("Where thickness t raises (red) or lowers (blue) the buckling load")
    figure.colorbar(image, ax=axes, shrink=0.8, label="t / lam  dlam/dt per element, % per %")
    figure.savefig(path, dpi=130)


def main(arguments):
    comm, count = MPI.COMM_WORLD, 24
    plate = Plate(comm, count)
    p = {"thickness": np.full(count**2, THICKNESS)}
    value, total, explicit = plate.derivatives(p)
    plate.model.close()
    plate.state.close()
    if comm.rank == 0:
        D = E * THICKNESS**3 / 12 / (1 - POISSON**2)
        print(f"critical load {value:.2f} N/m, {value / (np.pi**2 * D / SIDE**2):.6f} pi^2 D / b^2")
        print(f"sum t dlam/dt / lam: {total @ p['thickness'] / value:.6f} (3 is exact)")
        print(f"without the state:   {explicit @ p['thickness'] / value:.6f}")
        if arguments:
            draw(arguments[0], total * THICKNESS / value, explicit * THICKNESS / value, count)


if __name__ == "__main__":
    with ga.abort_on_failure():
        main(sys.argv[1:])
