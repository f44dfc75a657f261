"""Draw the bracket and mesh it with Gmsh: bracket.msh (fine) and bracket_coarse.msh.

Only needed to change the part; both mesh files are in the repository.

    pip install gmsh && python make_mesh.py

The part is an aluminium motor bracket in metres, z up: a foot, an upright that narrows
towards a bearing ring, a fillet in the corner and a rib with a lightening hole.  The
bottom of the foot is the physical group ``clamped``, the inside of the ring is ``tip``.
The coarse mesh, for tests, is the same part without its small details.
"""

from collections.abc import Callable
from pathlib import Path

import gmsh

Point = tuple[float, float, float]
Volume = tuple[int, int]  # Gmsh's (dimension, tag)

FOOT = (0.110, 0.090, 0.010)  # length along x, width along y, thickness
UPRIGHT = 0.010  # thickness
RING = (0.125, 0.022, 0.013, 0.024)  # height of its axis, outer and inner radius, length
CORNER_RADIUS, FILLET_RADIUS = 0.014, 0.009
RIB = 0.008  # thickness
RIB_HOLE = (0.0335, 0.0355, 0.0105)  # x, z, radius
BOLTS = [(x, y) for x in (0.028, 0.092) for y in (-0.031, 0.031)]
BOLT_RADIUS = 0.0046

FINE = {"MeshSizeMax": 0.0056, "MeshSizeMin": 0.0015, "MeshSizeFromCurvature": 12}
COARSE = {"MeshSizeFactor": 1.5}
COMMON = {"ElementOrder": 2, "HighOrderOptimize": 2, "Algorithm3D": 10, "MshFileVersion": 2.2}

occ = gmsh.model.occ


def extruded(corners: list[Point], x: float, y: float) -> Volume:
    """Return the volume that the plane polygon sweeps along (x, y, 0)."""
    points = [occ.addPoint(*corner) for corner in corners]
    lines = [occ.addLine(a, b) for a, b in zip(points, points[1:] + points[:1], strict=True)]
    face = occ.addPlaneSurface([occ.addCurveLoop(lines)])
    return next(entity for entity in occ.extrude([(2, face)], x, y, 0) if entity[0] == 3)


def foot(rounded: bool) -> Volume:
    length, width, thickness = FOOT
    radius = CORNER_RADIUS if rounded else 0.0
    return 3, occ.addBox(0, -width / 2, 0, length - radius, width, thickness)


def rounded_front() -> list[Volume]:
    """Return the front strip of the foot and the two cylinders that round its corners."""
    length, width, thickness = FOOT
    r, y = CORNER_RADIUS, width / 2 - CORNER_RADIUS
    strip = occ.addBox(length - r, -y, 0, r, 2 * y, thickness)
    corners = [occ.addCylinder(length - r, side, 0, 0, 0, thickness, r) for side in (-y, y)]
    return [(3, tag) for tag in [strip, *corners]]


def upright(top: float) -> Volume:
    half, narrow, knee = FOOT[1] / 2, RING[1] - 0.0004, 0.022
    left = [(0.0, -half, 0.0), (0.0, -half, knee), (0.0, -narrow, top)]
    right = [(x, -y, z) for x, y, z in reversed(left)]
    return extruded(left + right, UPRIGHT, 0)


def rib() -> Volume:
    x, y, z = UPRIGHT, -RIB / 2, FOOT[2]
    corners = [(x, z), (0.086, z), (0.086, z + 0.006), (x + 0.005, 0.096), (x, 0.096)]
    return extruded([(a, y, b) for a, b in corners], 0, RIB)


def corner_fillet() -> Volume:
    """Return a square bar in the corner less a cylinder."""
    width, r, x, z = FOOT[1], FILLET_RADIUS, UPRIGHT, FOOT[2]
    bar = occ.addBox(x, -width / 2, z, r, width, r)
    cylinder = occ.addCylinder(x + r, -width / 2, z + r, 0, width, 0, r)
    return occ.cut([(3, bar)], [(3, cylinder)])[0][0]


def ring() -> Volume:
    height, outer, _, length = RING
    return 3, occ.addCylinder(0, 0, height, length, 0, 0, outer)


def bore() -> Volume:
    height, _, inner, length = RING
    return 3, occ.addCylinder(-0.001, 0, height, length + 0.002, 0, 0, inner)


def small_holes() -> list[Volume]:
    x, z, radius = RIB_HOLE
    bolts = [occ.addCylinder(x, y, -0.001, 0, 0, 0.02, BOLT_RADIUS) for x, y in BOLTS]
    return [(3, tag) for tag in [*bolts, occ.addCylinder(x, -0.02, z, 0, 0.04, 0, radius)]]


def draw_fine() -> None:
    base = [foot(rounded=True), *rounded_front()]
    column = [upright(top=RING[0]), ring(), rib(), corner_fillet()]
    combine(base + column, [bore(), *small_holes()])


def draw_coarse() -> None:
    combine([foot(rounded=False), upright(top=RING[0] + RING[1]), rib()], [bore()])


def combine(pieces: list[Volume], holes: list[Volume]) -> None:
    """Make one solid and name its faces."""
    solid, _ = occ.fuse(pieces[:1], pieces[1:])
    solid, _ = occ.cut(solid, holes)
    if len(solid) != 1:
        raise RuntimeError(f"the bracket must be one solid, got {len(solid)}; let pieces touch")
    occ.synchronize()
    y, z, near = RING[2], RING[0], 1e-5
    add_group("clamped", (-1, -1, -near), (1, 1, near))
    add_group("tip", (-1, -y - near, z - y - near), (1, y + near, z + y + near))
    gmsh.model.addPhysicalGroup(3, [solid[0][1]], name="solid")


def add_group(name: str, lower: Point, upper: Point) -> None:
    """Name all faces that lie inside a box."""
    faces = gmsh.model.getEntitiesInBoundingBox(*lower, *upper, 2)
    gmsh.model.addPhysicalGroup(2, [tag for _, tag in faces], name=name)


def shorten(path: Path) -> None:
    """Round the coordinates to a nanometre; it halves the file."""
    head, start, rest = path.read_text().partition("$Nodes\n")
    nodes, end, tail = rest.partition("$EndNodes\n")
    lines = [" ".join(map(rounded, line.split())) for line in nodes.splitlines()]
    path.write_text(head + start + "\n".join(lines) + "\n" + end + tail)


def rounded(number: str) -> str:
    return f"{round(float(number), 9) + 0.0:.10g}"


def write_mesh(path: Path, draw: Callable[[], None], options: dict[str, float]) -> None:
    gmsh.initialize()
    gmsh.option.setNumber("General.Terminal", 0)
    draw()
    for name, value in (COMMON | options).items():
        gmsh.option.setNumber(f"Mesh.{name}", value)
    gmsh.model.mesh.generate(3)
    gmsh.write(str(path))
    gmsh.finalize()
    shorten(path)


if __name__ == "__main__":
    here = Path(__file__).parent
    write_mesh(here / "bracket.msh", draw_fine, FINE)
    write_mesh(here / "bracket_coarse.msh", draw_coarse, COARSE)
