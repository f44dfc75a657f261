"""Jobs that go wrong: code of users, signals, folders, words of a study; smallest problems."""

import itertools

from failing_studies import OLD, Failing, shape, study, value
from faults import os_error
from study_files import ELEMENTS, write_chain

OWN = 'python = "model.py:%s"'
SEARCH = (
    '[optimize]\nobjective = "lam"\nsense = "max"\nparameters = ["p"]\n'
    "[optimize.bounds]\np = [0.0, 1.0]\n"
)
CHECKPOINT = frozenset({"checkpoint.h5"})
OLD_SEARCH = OLD | {"design.h5": b"old", "history.jsonl": b"old", "optimize.json": b"old"}


def asked_to_stop(place):
    """Return what all ranks find at every boundary: nothing, but once a signal."""
    visits = itertools.count()
    return {
        "geneig_adjoint.study.signals.StopRequest.agreed": (
            lambda _: "SIGUSR1" if next(visits) == place else None
        )
    }


def worn(*_):
    raise OSError("cannot close")


USERS = {
    "model": Failing(
        "exception on one rank", 70, (r"KeyError: 'mine'",),
        model="raising", text=study("", lam=value()),
        ranks=True,
    ),
    "objective": Failing(
        "exception on one rank", 70, (r"KeyError: 'mine'",),
        model="double", text=study("", lam=value(), own=OWN % "unable"),
        kept=CHECKPOINT,
        ranks=True,
    ),
    "search": Failing(
        "exception on one rank", 70, (r"KeyError: 'mine'",),
        model="raising", text=study("", lam=value()) + SEARCH, command="optimize",
        old=OLD_SEARCH,
    ),
    "product": Failing(
        "exception in a callback", 70, (r"ArithmeticError: no product today",),
        model="products",
        text=study('which = "largest_real"', 'harm = "raise"', lam=value()),
        ranks=True,
    ),
    "product of nan": Failing(
        "nan", 3, (r"apply_a must return finite numbers, got \d+ NaN or Inf",),
        model="products",
        text=study('which = "largest_real"', 'harm = "nan"', lam=value()),
    ),
    "objective of nan": Failing(
        "nan", 3, (r"the objective .* must be finite, got nan; check its formula",),
        model="double", text=study("", lam=value(), own=OWN % "not_a_number"),
        kept=CHECKPOINT,
    ),
    "complex objective": Failing(
        "shapes", 3, (r"must be one real number, got \(1\+2j\); differentiate real",),
        model="double", text=study("", lam=value(), own=OWN % "complex_valued"),
        kept=CHECKPOINT,
    ),
    "after an error": Failing(
        "failing clean-up", 4,
        (r"eigensolve must give 10 pairs", r"the clean-up failed, too: OSError: cannot close"),
        model="long_chain",
        text=study(
            'count = 10\nwhich = "largest_real"\noptions = { eps_max_it = 1, eps_ncv = 15 }',
            lam=value(),
        ),
        broken={"geneig_adjoint.pencil.Pencil.close": worn},
        ranks=True,
    ),
    "alone": Failing(
        "failing clean-up", 70, (r"OSError: cannot close",),
        model="double", text=study("", lam=value()),
        broken={"geneig_adjoint.pencil.Pencil.close": worn},
        failures={}, gradients=("lam",),
    ),
    "wrong": Failing(
        "wrong derivative", 5,
        (r"verdict +FAILED", r"the derivative in 'k' must agree with differences"),
        model="wrong", text=study("", lam=value()), command="check",
    ),
}  # fmt: skip
JOBS = {
    "after the solve": Failing(
        "killed", 75, (r"stopped on request \(SIGUSR1\); .*--resume",),
        model="double", text=study("", lam=value(), shape=shape()),
        broken=asked_to_stop(2), kept=CHECKPOINT,
        ranks=True,
    ),
    "before the solve": Failing(
        "killed", 75, (r"stopped on request \(SIGUSR1\); .*same command",),
        model="double", text=study("", lam=value()),
        broken=asked_to_stop(1),
    ),
    "search": Failing(
        "killed", 75, (r"stopped on request",),
        model="double", text=study("count = 1", lam=value()) + SEARCH, command="optimize",
        broken=asked_to_stop(1), kept=frozenset({"design.h5", "history.jsonl", "optimize.json"}),
        aside=".earlier", quiet=True,
    ),
    "disk full": Failing(
        "killed", 2, (r"results must be writable, got No space left .*make room",),
        model="double", text=study("", lam=value()),
        broken={"geneig_adjoint.study.results.write_json": lambda *_: os_error(None)},
        kept=CHECKPOINT,
        ranks=True,
    ),
    "file in the way": Failing(
        "unwritable output", 2, (r"output folder must be writable, got .*choose another",),
        model="raising",
        text=study("", lam=value()) + '[output]\ndirectory = "elements.h5/out"\n',
        ranks=True,
    ),
    "alone by mistake": Failing(
        "environment", 2, (r"all 3 processes must be one MPI job",),
        model="raising", text=study("", lam=value()), environ={"PMI_SIZE": "3"},
    ),
    "solver": Failing(
        "unknown key", 2, (r"'cuont'.*did you mean 'count'",),
        model="raising", text=study("cuont = 3", lam=value()),
        ranks=True,
    ),
    "kind": Failing(
        "unknown key", 2, (r"'eigenvalu'.*",),
        model="raising", text=study("", lam='kind = "eigenvalu"'),
    ),
    "option": Failing(
        "misspelt PETSc option", 0,
        model="double",
        text=study("options = { eps_tolerance = 1e-9, eps_tol = 1e-11 }", lam=value()),
        failures={}, gradients=("lam",), notes=(r"nothing has read: eps_tolerance\n",),
    ),
    "option value": Failing(
        "misspelt PETSc option", 2, (r"got eps_max_it = 'many' \(.*correct it",),
        model="double", text=study('options = { eps_max_it = "many" }', lam=value()),
        ranks=True,
    ),
    "adjoint option": Failing(
        "misspelt PETSc option", 0,
        model="double",
        text=study("", shape=shape())
        + '[adjoint]\nstrategy = "ksp"\noptions = { ksp_tye = "gmres", ksp_max_it = 99 }\n',
        failures={}, gradients=("shape",), notes=(r"has read: ksp_tye\n",),
    ),
    "run": Failing(
        "existing results", 2, (r"must be free of results, got .*result.json .*give --overwrite",),
        model="raising", text=study("", lam=value()), overwrite=False,
        ranks=True,
    ),
    "search over results": Failing(
        "existing results", 2, (r"must be free of results, got .*give --resume",),
        model="raising", text=study("", lam=value()) + SEARCH, command="optimize",
        overwrite=False,
    ),
}  # fmt: skip
SMALL = {
    "one row": Failing(
        "small problems", 0,
        model="one_row", text=study("", lam=value()),
        failures={}, gradients=("lam",), values=(2.0,),
        ranks=True,
    ),
    "no pairs": Failing(
        "small problems", 2, (r"count must be in 1 ... 4 .*, got 0",),
        model="double", text=study("count = 0", lam=value()),
    ),
    "more pairs than rows": Failing(
        "small problems", 2, (r"count must be in 1 ... 4 .*, got 5",),
        model="double", text=study("count = 5", lam=value()),
    ),
    "all pairs": Failing(
        "small problems", 0,
        model="double", text=study("count = 4", lam=value(3)),
        failures={}, gradients=("lam",), values=(1.0, 2.0, 2.0, 5.0),
    ),
    "names of another alphabet": Failing(
        "small problems", 0,
        text=ELEMENTS.replace("elements.h5", "größe-元.h5").replace('"f1"', '"приве́т"'),
        files=lambda folder: write_chain(folder / "größe-元.h5"),
        failures={}, gradients=("приве́т", "second", "motion"),
    ),
}  # fmt: skip
