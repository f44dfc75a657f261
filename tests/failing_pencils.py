"""Eigenproblems that go wrong: multiple, missing, defective, ill-conditioned, badly solved."""

import functools

from failing_studies import Failing, frequency, shape, study, value
from test_completeness import exact_values

from geneig_adjoint import solve

SQUARE = tuple(exact_values(10)[:3])
JACOBI = 'options = { st_ksp_type = "gmres", st_pc_type = "jacobi", %s }'


def nothing(eps, pencil, wanted, pool, **_):
    return pool[0][:0], pool[1][:, :0]


MISSING = {
    "geneig_adjoint.completeness._search": nothing,
    "geneig_adjoint.completeness.Counter.inside": lambda self, cut: 5,
}
# A study has no word for this: it is what the check of copies is there for.
UNCOUNTED = {
    "geneig_adjoint.study.run.solve_eigenproblem": functools.partial(
        solve.solve_eigenproblem, count_check="off"
    )
}
UNKNOWN = "the numbers of the pairs are not known: some are missing"

PENCILS = {
    "found": Failing(
        "missed copies", 0,
        model="square",
        text=study("count = 2", lam=value()),
        failures={}, gradients=("lam",), values=SQUARE, notes=("'mended': [1-9]",),
    ),
    "still short": Failing(
        "missed copies", 4, ("note: pairs are missing: all 5 eigenvalues",),
        model="square",
        text=study("count = 2", lam=value(), shape=shape()),
        failures={
            "solve eigenproblem": r"all 5 .* must be found, got \d in spite of .*raise eps_ncv",
            "lam": UNKNOWN,
            "shape": UNKNOWN,
        },
        broken=MISSING,
        ranks=True,
    ),
    "none": Failing(
        "too few pairs", 4,
        (r"eigensolve must give 10 pairs, got .*raise eps_max_it",),
        model="long_chain",
        text=study(
            'count = 10\nwhich = "largest_real"\noptions = { eps_max_it = 1, eps_ncv = 15 }',
            lam=value(),
        ),
        ranks=True,
    ),
    "some": Failing(
        "too few pairs", 4, (r"last: InputError",),
        model="long_chain",
        text=study(
            "count = 20\ntarget = 1.0\noptions = { eps_max_it = 1, eps_ncv = 25 }",
            first=value(), shape=shape(), last=value(19),
        ),
        failures={
            "solve eigenproblem": r"must give 20 pairs, got .*raise eps_max_it",
            "last": r"InputError: .*got 19",
        },
        gradients=("first", "shape"),
    ),
    "on an eigenvalue": Failing(
        "shift on an eigenvalue", 0,
        model="diagonal",
        text=study("count = 3\ntarget = 4.0", lam=value()),
        failures={}, gradients=("lam",), notes=(r"the shift was moved from 4",),
        values=(4.0,),
    ),
    "singular A": Failing(
        "shift on an eigenvalue", 0,
        model="diagonal",
        text=study("count = 3\ntarget = 0.0", "first = 0.0\ncoupling = 1.0", lam=value()),
        failures={}, gradients=("lam",), notes=(r"the shift was moved from 0",),
        values=(0.0, 1.0, 2.0),
        ranks=True,
    ),
    "declared": Failing(
        "not Hermitian as declared", 3,
        (r"needs A Hermitian, got .* = 5.000e-01 at entry \((1, 6|6, 1)\)",),
        model="declared",
        text=study("", lam=value()),
        ranks=True,
    ),
    "indefinite": Failing(
        "B not positive", 0,
        model="general_masses",
        text=study(
            "count = 2\ntarget = 0.1",
            "a = [1, 2, 3, 4, 5, 6]\nb = [1, 1, -1, 1, -1, 1]",
            lam=value(), shape=shape(),
        ),
        failures={}, gradients=("lam", "shape"), values=(1.0, 2.0),
    ),
    "both indefinite": Failing(
        "B not positive", 0,
        model="general_masses",
        text=study(
            "count = 2\ntarget = 0.1",
            "a = [1, -2, 3, 4, 5, 6]\nb = [1, 1, -1, 1, -1, 1]",
            lam=value(),
        ),
        failures={}, gradients=("lam",), values=(1.0, -2.0),
    ),
    "negative": Failing(
        "B not positive", 6,
        model="general_masses",
        text=study(
            "count = 2\ntarget = 0.0",
            "a = [1, 2, 3, 4, 5, 6]\nb = [-1, -1, -1, -1, -1, -1]",
            lam=value(), f=frequency(1),
        ),
        failures={"f": r"frequency needs a positive real eigenvalue, got -2.* pair 1"},
        gradients=("lam",), values=(-1.0, -2.0),
    ),
    "singular": Failing(
        "B not positive", 0,
        model="general_masses",
        text=study(
            "count = 3\ntarget = 0.1", "a = [1, 2, 3, 4, 5]\nb = [1, 1, 0, 1, 0]",
            lam=value(), shape=shape(),
        ),
        failures={}, gradients=("lam", "shape"), values=(1.0, 2.0, 4.0),
        ranks=True,
    ),
    "zero": Failing(
        "B not positive", 3, (r"B must have entries, got zeros only",),
        model="diagonal",
        text=study("", "n = 3\nB = [0, 0, 0]", lam=value()),
    ),
    "kept": Failing(
        "constrained rows", 6,
        model="clamped",
        text=study("count = 3\ntarget = 0.9", row=value(), shape=shape(1), elastic=value(2)),
        failures={
            "row": r"ConstrainedRowError: .*modes of the problem.*leave",
            "shape": "ConstrainedRowError: ",
        },
        gradients=("elastic",), values=(1.0, 1.0),
        notes=(r"2 of the pairs \(0, 1\) belong to 2 constrained rows with the value 1: leave",),
        ranks=True,
    ),
    "in the way of nothing": Failing(
        "constrained rows", 0,
        model="clamped",
        text=study("count = 2\ntarget = 300.0", elastic=value()),
        failures={}, gradients=("elastic",),
    ),
    "free": Failing(
        "rigid bodies", 6,
        model="free",
        text=study(
            "count = 4\ntarget = 0.0",
            zero=value(1), elastic=frequency(3), moved=shape(0), f=frequency(0),
        ),
        failures={
            "zero": "DegenerateEigenvalueError: .*cluster",
            "moved": "DegenerateEigenvalueError: .*cluster",
            "f": r"(UndefinedObjectiveError: .*positive .*pair 0|DegenerateEigenvalueError: )",
        },
        gradients=("elastic",), values=(0.0, 0.0, 0.0),
    ),
    "negative value": Failing(
        "rigid bodies", 6,
        model="negative_masses",
        text=study("count = 2", f=frequency(1), lam=value(1)),
        failures={
            "f": r"UndefinedObjectiveError: .*positive real eigenvalue, got -0.\d+\+0j for pair 1;"
        },
        gradients=("lam",),
        ranks=True,
    ),
    "one of two": Failing(
        "repeated eigenvalue", 6, (r"one: DegenerateEigenvalueError", r"does not exist"),
        model="double",
        text=study("count = 3\ntarget = 0.0", first=value(), one=value(1), shape=shape(2)),
        failures={
            "one": r"DegenerateEigenvalueError: .*cluster",
            "shape": r"DegenerateEigenvalueError: .*cluster",
        },
        gradients=("first",), values=(1.0, 2.0, 2.0),
        ranks=True,
    ),
    "flutter": Failing(
        "exceptional point", 6,
        model="flutter",
        text=study("count = 3\ntarget = 0.5", one=value(), moved=shape(), own=value(2)),
        failures={
            "one": r"DefectiveEigenvalueError: .*condition number .*exceptional point",
            "moved": r"DefectiveEigenvalueError: ",
        },
        gradients=("own",), values=(),
        ranks=True,
    ),
    "inaccurate": Failing(
        "left vectors", 4, (r"left vectors must .* got .*lower eps_tol",),
        model="convection",
        text=study("target = 0.4", lam=value()),
        broken={"geneig_adjoint.left_vectors.residual_limit": lambda tolerance: 1e-30},
        ranks=True,
    ),
    "sensitive": Failing(
        "ill-conditioned eigenvalue", 0,
        (r"\nnote: eigenvalue 0 .*below 1e\+06, got 3.0e\+06: its estimated error is",),
        model="sensitive",
        text=study("target = 0.8", lam=value()),
        failures={}, gradients=("lam",), notes=(r"condition number 3",),
        ranks=True,
    ),
    "hidden copy": Failing(
        "singular adjoint", 4, (r"shape: ConvergenceError",),
        model="square",
        text=study("count = 2", lam=value(), shape=shape(1)) + '[adjoint]\nstrategy = "direct"\n',
        failures={"shape": r"ConvergenceError: .*must reach rtol 1.0e-10, got .*may be multiple"},
        gradients=("lam",),
        broken=UNCOUNTED,
        ranks=True,
    ),
    "stopped": Failing(
        "loose inner solves", 4,
        (r"inner solves of the eigensolve must reach st_ksp_rtol 1.0e-13, got DIVERGED_MAX_IT",
         r"after 3 of 3 iterations \(gmres with jacobi\); raise st_ksp_max_it"),
        model="convection",
        text=study("target = 0.4\n" + JACOBI % "st_ksp_max_it = 3", lam=value()),
        ranks=True,
    ),
    "loose": Failing(
        "loose inner solves", 4, (r"stop at st_ksp_rtol 1.0e-03: lower that to 1.0e-13",),
        model="convection",
        text=study("target = 0.4\n" + JACOBI % "st_ksp_rtol = 1e-3", lam=value()),
    ),
    "adjoint": Failing(
        "loose inner solves", 4, (r"shape: ConvergenceError",),
        model="convection",
        text=study("target = 0.4", lam=value(), shape=shape())
        + '[adjoint]\nstrategy = "ksp"\noptions = { ksp_max_it = 1, pc_type = "none" }\n',
        failures={"shape": r"ConvergenceError: the adjoint solve .*got .*DIVERGED.*"},
        gradients=("lam",),
    ),
    "lost": Failing(
        "lost mode", 4, (r"modes \[1\] must continue .*smaller steps",),
        model="jumping",
        text=study("count = 2", lam=value(1))
        + '[optimize]\nobjective = "lam"\nsense = "max"\nparameters = ["p"]\n'
        "[optimize.bounds]\np = [0.0, 1.0]\n",
        command="optimize", kept=frozenset({"design.h5", "history.jsonl"}),
        aside=".earlier",
        ranks=True,
    ),
}  # fmt: skip
