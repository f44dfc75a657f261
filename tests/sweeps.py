"""Sweeps for tests: a chain of which one number is varied, models that fail in some samples."""

from study_files import MODEL, PYTHON, result, study_folder

F1 = '[[objective]]\nname = "f1"\nkind = "frequency"\n'
ONE = PYTHON[: PYTHON.index("[[objective]]")] + F1
STIFFNESS = '[sweep.grid]\n"parameters.k" = [1.0, 2.0, 4.0, 8.0]\n'
MODES = '[sweep.grid]\n"model.options.mode" = ["good", "{}", "good", "good"]\n'

# Something else happens where the sample says so.
FAILING = MODEL.replace(
    "    n =",
    """    mode, marker = options.get("mode", "good"), pathlib.Path(__file__).with_name("marker")
    if mode == "raise":
        raise KeyError("mine")
    if mode == "exit":
        sys.exit(0)
    if mode == "stop" and not marker.exists():
        comm.barrier()
        marker.touch()
        os.kill(os.getpid(), signal.SIGUSR1)
    if mode == "alone":
        collective.PATIENCE = 0.5
        endings.crowding = lambda: 1.0
        if comm.rank == comm.size - 1:
            raise KeyError("mine")
        comm.barrier()
    if mode == "kill" and comm.rank == comm.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    n =""",
).replace(
    "import numpy",
    "import os\nimport pathlib\nimport signal\nimport sys\n"
    "from geneig_adjoint import collective, endings\nimport numpy",
)
FILE = '[sweep.grid]\n"model.elements" = ["elements.h5", "none.h5", "elements.h5"]\n'


def sweep_folder(folder, sweep=STIFFNESS, text=ONE, **modules):
    """Write a study with a sweep; return the study file."""
    return study_folder(folder, text + sweep, **{"model": FAILING, **modules})


def statuses(folder, count=4):
    """Return status and exit code of every sample that has a record."""
    import json

    found = []
    for number in range(count):
        record = folder / "out" / f"sample_{number:04d}" / "sample.json"
        if record.exists():
            content = json.loads(record.read_text())
            found.append((content["status"], content["exit_code"]))
    return found


def frequencies(folder, count=4):
    """Return f1 of every sample."""
    return [
        result(folder / "out" / f"sample_{number:04d}")["objectives"]["f1"]
        for number in range(count)
    ]
