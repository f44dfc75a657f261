"""Output folders as a run writes them, made without running anything."""

import json

import h5py
import meshio
import numpy as np

from geneig_adjoint.io import write_attributes
from geneig_adjoint.io.written_results import RESULT_FORMAT, RESULT_VERSION


def line_mesh(count=20):
    points = np.zeros((count + 1, 3))
    points[:, 0] = np.linspace(0, 2, count + 1)
    ends = np.column_stack([np.arange(count), np.arange(1, count + 1)])
    return points, [("line", ends)]


def plane_mesh(nx=24, ny=8, *, kind="quad", plane=(0, 1)):
    """A rectangle 3 x 1 in the plane of two axes."""
    x, y = np.meshgrid(np.linspace(0, 3, nx + 1), np.linspace(0, 1, ny + 1), indexing="ij")
    points = np.zeros((x.size, 3))
    points[:, plane[0]], points[:, plane[1]] = x.ravel(), y.ravel()
    first = (np.arange(nx)[:, None] * (ny + 1) + np.arange(ny)).ravel()
    quads = np.column_stack([first, first + ny + 1, first + ny + 2, first + 1])
    if kind == "quad":
        return points, [("quad", quads)]
    return points, [("triangle", np.vstack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))]


def frame_mesh():
    """A truss of six bays in the x-z plane."""
    low = np.column_stack([np.arange(7), np.zeros(7), np.zeros(7)])
    points = np.vstack([low, low + np.array([0, 0, 1])]).astype(float)
    bars = [(i, i + 1) for i in range(6)] + [(i + 7, i + 8) for i in range(6)]
    bars += [(i, i + 7) for i in range(7)] + [(i, i + 8) for i in range(6)]
    return points, [("line", np.array(bars))]


def box_mesh(counts=(6, 3, 2)):
    """Hexahedra, with their faces at x = 0 listed first as a mesher does."""
    nx, ny, nz = counts
    grid = np.meshgrid(*(np.arange(n + 1) for n in counts), indexing="ij")
    points = np.column_stack([g.ravel() for g in grid]).astype(float)
    number = np.arange(len(points)).reshape([n + 1 for n in counts])
    at = [
        number[i : i + nx, j : j + ny, k : k + nz].ravel()
        for i, j, k in [
            (0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1),
        ]
    ]  # fmt: skip
    side = number[0]
    faces = np.column_stack(
        [side[:-1, :-1].ravel(), side[1:, :-1].ravel(), side[1:, 1:].ravel(), side[:-1, 1:].ravel()]
    )
    return points, [("quad", faces), ("hexahedron", np.column_stack(at))]


def cell_centres(points, cells):
    return np.concatenate([points[corners].mean(axis=1) for _, corners in cells])


def _references(name, gradient):
    return {k: {"path": f"gradients/{name}/{k}", "size": len(v)} for k, v in gradient.items()}


def _fields(modes):
    data = {}
    for j, mode in enumerate(modes):
        halves = {"_re": mode.real, "_im": mode.imag} if np.iscomplexobj(mode) else {"": mode}
        data |= {f"mode_{j}{half}": part for half, part in halves.items()}
    return data


def write_folder(
    folder, values=(), *, mesh=None, modes=(), cell_modes=(), gradients=None, right=None, **summary
):
    """Write result.json, result.h5 and, with a mesh, modes.vtu with its modes."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values, dtype=complex)
    gradients = gradients or {}
    content = {
        "run": "the only one",
        "values": [[v.real, v.imag] for v in values],
        "residuals": [3e-14 * 3**j for j in range(len(values))],
        "condition": [1.0] * len(values),
        "clusters": [[j] for j in range(len(values))],
        "gradients": {name: _references(name, part) for name, part in gradients.items()},
        "timings": {"build model": 0.4, "assemble": 0.1, "solve eigenproblem": 2.0},
        **summary,
    }
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with h5py.File(folder / "result.h5", "w") as file:
        file.attrs["run"] = "the only one"
        write_attributes(file, format=RESULT_FORMAT, version=RESULT_VERSION)
        file["values"] = values
        if right is not None:
            file["right"] = right
        for name, gradient in gradients.items():
            for key, part in gradient.items():
                file[f"gradients/{name}/{key}"] = part
    if mesh is not None:
        points, cells = mesh
        ends = np.cumsum([len(part) for _, part in cells])[:-1]
        in_cells = {name: np.split(part, ends) for name, part in _fields(cell_modes).items()}
        made = meshio.Mesh(points, cells, point_data=_fields(modes), cell_data=in_cells)
        made.write(folder / "modes.vtu")
    return folder


def write_events(folder, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "events.jsonl").write_text(text, encoding="utf-8")


def events():
    """A run that was stopped in its second step."""
    lines = [
        {"event": "begin", "step": "build model", "seconds": 0.0},
        {"event": "end", "step": "build model", "seconds": 1.5},
        {"event": "begin", "step": "solve eigenproblem", "seconds": 1.5},
    ]
    lines += [
        {
            "event": "progress", "step": "solve eigenproblem", "seconds": 1.6 + 0.2 * i,
            "converged": i // 2, "residual": 10.0 ** (-i), "text": "x",
        }
        for i in range(12)
    ]  # fmt: skip
    lines += [
        {"event": "checkpoint", "step": "solve eigenproblem", "seconds": 3.0},
        {"event": "unheard of", "seconds": 3.1},
        {"event": "stop", "seconds": 4.4},
    ]
    return lines
