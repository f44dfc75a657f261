"""One design in several kinds of structures, for the nonsymmetric chain of `builders`."""

from collections import namedtuple
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from builders import distributed
from maps_of_tests import SIZE, chain_model
from petsc4py import PETSc

import geneig_adjoint as ga

SOLVER = {"count": 3, "target": 0.0}
RNG = np.random.default_rng(11)
FIELD = RNG.uniform(0.5, 1.5, SIZE)
# To and fro: coordinates no larger than lengths, so that differences see them well.
NODES = RNG.uniform(0.3, 0.6, (SIZE + 1, 3)) * (-1.0) ** np.arange(SIZE + 1)[:, None]
Layer = namedtuple("Layer", "weight title")


@dataclass(frozen=True)
class Material:
    young: float
    density: float
    name: str = "steel"
    copies: int = 2
    ratio: float = field(init=False, default=0.0)

    def __post_init__(self):
        # What holds for designs need not hold for derivatives.
        if isinstance(self.young, float) and self.young <= 0:
            raise ValueError("young must be positive")
        object.__setattr__(self, "ratio", self.young / self.density)


@dataclass(frozen=True, slots=True)
class Design:
    core: Material
    layers: list
    field: object
    nodes: np.ndarray
    ids: np.ndarray = field(metadata={"static": True})


@jax.tree_util.register_pytree_with_keys_class
class Tree:
    """A class that JAX has been told of."""

    def __init__(self, core, layers, field, nodes, ids):
        self.core, self.layers, self.field, self.nodes, self.ids = core, layers, field, nodes, ids

    def tree_flatten_with_keys(self):
        keys = ["core", "layers", "field", "nodes"]
        return [(jax.tree_util.GetAttrKey(key), getattr(self, key)) for key in keys], self.ids

    @classmethod
    def tree_unflatten(cls, ids, children):
        return cls(*children, ids)


IDS = np.arange(SIZE) % 2


def dataclass_design(values):
    return Design(
        Material(1.3, 0.8), [Layer(0.375, "even"), Layer(-0.25, "odd")], values, NODES.copy(), IDS
    )


def nested_design(values):
    return {
        "core": Material(1.3, 0.8),
        "layers": ({"weight": np.float64(0.375)}, {"weight": -0.25, "title": None}),
        "field": values,
        "nodes": NODES.copy(),
        "flag": True,
    }


def tree_design(values):
    layers = [Layer(jnp.asarray(weight, dtype=float), "x") for weight in (0.375, -0.25)]
    return Tree(Material(1.3, 0.8), layers, values, NODES.copy(), "static")


DESIGNS = {"dataclass": dataclass_design, "nested": nested_design, "pytree": tree_design}
NAMES = [
    "core/young",
    "core/density",
    "layers/0/weight",
    "layers/1/weight",
    "field",
    "nodes",
]


def part(p, name):
    """Return a part of any of the designs by its name in `NAMES`."""
    for key in name.split("/"):
        if isinstance(p, dict):
            p = p[key]
        elif key.isdecimal():
            p = p[int(key)]
        else:
            p = getattr(p, key)
    return p


def spread(p, xp=np):
    """Return the chain's parameters of a design; everything enters both matrices or one."""
    length = xp.sqrt(((part(p, "nodes")[1:] - part(p, "nodes")[:-1]) ** 2).sum(axis=1))
    weights = (part(p, "layers/0/weight"), part(p, "layers/1/weight"))
    layer = 1 + xp.where(IDS == 0, weights[0], weights[1])
    core = part(p, "core")
    # ratio: what is computed from parameters moves with them
    k = xp.exp(0.3 * core.ratio) * part(p, "field") ** 2 * layer / length
    return {"k": k, "m": core.density * length * (1 + 0.2 * part(p, "field"))}


def spread_entries(p, xp=np):
    """Return the chain's parameters of a design whose field may be distributed."""
    length = xp.sqrt(((part(p, "nodes")[1:] - part(p, "nodes")[:-1]) ** 2).sum(axis=1))
    core, values = part(p, "core"), part(p, "field")
    first, second = part(p, "layers/0/weight"), part(p, "layers/1/weight")
    k = xp.exp(0.3 * core.ratio) * values**2 * (1 + first * values + second)
    return {"k": k, "m": core.density * length * (1 + 0.1 * second)}


# Made once: each of them is compiled once for every kind of structure.
MAPS = {function: ga.JaxMap(partial(function, xp=jnp)) for function in (spread, spread_entries)}


def model_of(comm, function=spread):
    """Return the chain behind one of the two functions."""
    return ga.Composed(chain_model(comm), [MAPS[function]])


def value_at(comm, p, function=spread, index=1):
    """Return an eigenvalue by plain NumPy up to the model: no structure, no map."""
    model = chain_model(comm)
    with model.assemble(function(p)) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        return pairs.values[index].real


def whole(value):
    """Return the entries of any leaf, flat and on every rank."""
    if isinstance(value, PETSc.Vec):
        parts = value.comm.tompi4py().allgather(value.array_r.real.copy())
        return np.concatenate(parts)
    return np.ravel(np.asarray(value, dtype=float))


def flat(p):
    return np.concatenate([whole(part(p, name)) for name in NAMES])


def fields(comm):
    """Return what makes the field of a design: replicated or distributed."""
    return {"replicated": np.array, "distributed": lambda array: distributed(array, comm)}
