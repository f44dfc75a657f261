"""Bodies and surfaces in space, rendered off-screen by PyVista in a process of its own.

A machine without any OpenGL makes VTK crash: the process that draws them may, this one not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures.meshes import Shape
from geneig_adjoint.pictures.style import AMPLITUDE, SIGNED, mark_missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECONDS_TO_START, SECONDS_A_SCENE = 60, 30
WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"
SOFTWARE = "vtkOSOpenGLRenderWindow"


@dataclass(frozen=True)
class Scene:
    """What to show on a body.

    Attributes
    ----------
    field : ndarray
        One number per point or per cell.
    limits : tuple of float
        Where the colours end.
    motion : ndarray or None
        Displacements of the points.
    clipped : bool
        Whether numbers lie far beyond the limits.
    by_cell : bool
        Whether the field has a number per cell.

    """

    field: Block
    limits: tuple[float, float]
    motion: Block | None = None
    clipped: bool = False
    by_cell: bool = False

    @property
    def colours(self) -> str:
        """Name of the colour map."""
        return SIGNED if self.limits[0] < 0 else AMPLITUDE


def rendered(shape: Shape, scenes: Sequence[Scene]) -> tuple[list[Block], str]:
    """Return an image of each scene, or none and a note that says why."""
    if find_spec("pyvista") is None:
        return [], "bodies need PyVista: pip install 'geneig-adjoint[plot3d]'"
    if not scenes:
        return [], ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "job.npz", **_job(shape, scenes))
        seconds = SECONDS_TO_START + SECONDS_A_SCENE * len(scenes)
        chosen = os.environ.get(WINDOW)
        # Without a screen and a graphics card; then whatever VTK finds by itself.
        for window in [chosen] if chosen else [SOFTWARE, None]:
            said = _render(folder, window, seconds)
            if not said:
                return [_image(folder / f"{i}.png") for i in range(len(scenes))], ""
    return [], (
        f"PyVista could not render off-screen ({said}); it needs OpenGL, in software for example "
        "from Debian's libosmesa6"
    )


def _job(shape: Shape, scenes: Sequence[Scene]) -> dict[str, Block]:
    job: dict[str, Block] = {"points": shape.points, "count": np.array(len(scenes))}
    for number, cells in enumerate(shape.cells):
        job[f"cells_{number}_{cells.kind}"] = cells.corners
    for number, scene in enumerate(scenes):
        job[f"field_{number}"] = shape.drawn(scene.field) if scene.by_cell else scene.field
        job[f"by_cell_{number}"] = np.array(scene.by_cell)
        job[f"limits_{number}"] = np.array(scene.limits)
        if scene.motion is not None:
            job[f"motion_{number}"] = scene.motion
    return job


def _render(folder: Path, window: str | None, seconds: float) -> str:
    """Render the job of a folder; return what went wrong."""
    environment = dict(os.environ) | ({WINDOW: window} if window else {})
    command = [sys.executable, "-m", "geneig_adjoint.pictures.renderer", str(folder)]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    if ended.returncode == 0:
        return ""
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    ending = f"exit code {ended.returncode}"
    if ended.returncode < 0:
        return f"signal {-ended.returncode}"
    return f"{ending}: {said[-1].strip()[:200]}" if said else ending


def _image(path: Path) -> Block:
    """Return an image without its white margins."""
    from matplotlib.image import imread

    image = np.asarray(imread(path))[..., :3]
    rows, columns = (np.flatnonzero((image < 1).any(axis=axis)) for axis in ((1, 2), (0, 2)))
    if not rows.size:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def image_aspect(images: Sequence[Block]) -> float | None:
    """Return height over width of the tallest image."""
    return max((image.shape[0] / image.shape[1] for image in images), default=None)


def shown(axes: Axes, image: Block, scene: Scene) -> None:
    """Put an image and its colours into axes."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes.imshow(image, interpolation="lanczos")
    axes.set_axis_off()
    made = axes.get_figure()
    assert made is not None
    bar = made.colorbar(
        ScalarMappable(Normalize(*scene.limits), scene.colours), ax=axes, shrink=0.72, pad=0.02,
        aspect=22, extend="both" if scene.clipped else "neither",
    )  # fmt: skip
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.yaxis.get_offset_text().set_fontsize(7)
    mark_missing(axes, scene.field)
