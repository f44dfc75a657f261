"""Studies whose derivatives are wrong at one place."""

from study_files import MODEL, PYTHON

ONE_OBJECTIVE = PYTHON.split('[[objective]]\nname = "second"')[0]
# The vjp of one element (the fifth spring) is a tenth too large; its matrices are right.
KERNEL = (
    MODEL.replace("def build", "def right")
    + """
from dataclasses import replace

class Wrong:
    def __init__(self, kernel, ids):
        self.kernel, self.ids = kernel, np.asarray(ids)
        self.matrices, self.derivative = kernel.matrices, kernel.derivative

    def vjp(self, values, left, right, rows):
        found = self.kernel.vjp(values, left, right, rows)
        found["k"][self.ids[rows] == 5] *= 1.1
        return found

def build(comm, options):
    model, p = right(comm, options)
    first, *others = model.blocks
    wrong = replace(first, kernel=Wrong(first.kernel, first.parameters["k"]))
    return ga.ElementModel(model.n, [wrong, *others], comm=comm), p
"""
)
# Contract is wrong in one entry of 41, and no kernel can be asked.
ENTRY = (
    MODEL.replace("def build", "def right")
    + """
class Wrong:
    def __init__(self, model):
        self.model, self.comm, self.assemble = model, model.comm, model.assemble

    def contract(self, p, *vectors):
        found = self.model.contract(p, *vectors)
        found["k"][33] *= 1.01
        return found

def build(comm, options):
    model, p = right(comm, {"n": 40})
    return Wrong(model), p
"""
)
# The objective forgets a factor; the model is right.
COTANGENT = (
    MODEL
    + """
def factory(model):
    def objective(pairs):
        lam = pairs.values.real
        return float(lam[0] ** 2), ga.EigenCotangent(values=np.array([lam[0], 0.0]))
    return objective
"""
)
OWN = '[[objective]]\nname = "own"\npython = "model.py:factory"\n'
OWN_OBJECTIVE = PYTHON.split("[[objective]]")[0] + OWN
# A kernel that fails where one element alone is looked at.
FAILING = KERNEL.replace(
    "self.matrices, self.derivative = kernel.matrices, kernel.derivative",
    "self.derivative = kernel.derivative",
).replace(
    "    def vjp(",
    """    def matrices(self, values, rows):
        if rows == slice(0, 1):
            raise ArithmeticError("one only")
        return self.kernel.matrices(values, rows)

    def vjp(""",
)
