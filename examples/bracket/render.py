"""Pictures of a field on curved surfaces with NumPy alone: no screen, no graphics library.

Every quadratic face is sampled more finely than the pixels and the nearest sample wins;
light, mesh lines and creases are added to the pixels afterwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
View = tuple[float, float, float]  # direction from the part towards the viewer

SUPERSAMPLING = 2
SAMPLES_PER_PIXEL = 1.4  # along one side of a face
CHUNK = 2_000_000  # samples at once
LIGHT = np.array([-0.25, -0.55, 0.80])  # in the picture: right, down, towards the viewer


@dataclass
class Pixels:
    """What each pixel shows: a face (-1: nothing), the place on it and its depth."""

    face: Integers
    place: Floats  # (pixels, 2) coordinates s, t on the face
    depth: Floats


def render(
    points: Floats,
    faces: Integers,
    field: Floats,
    *,
    colours: ScalarMappable,
    view: View,
    size: int,
) -> Floats:
    """Return a picture (rows, columns, 4), at most size x size, the empty border cut away.

    Parameters
    ----------
    points
        (points, 3), z up.
    faces
        (faces, 6): corners in anticlockwise order seen from outside, then the nodes
        between corners 01, 12 and 20.
    field
        One value per point; ``colours`` turns it into colours.

    """
    width = SUPERSAMPLING * size
    nodes = in_pixels(points @ viewer_axes(view).T, width)[faces]
    normals = node_normals(nodes)
    looking = (normals[:, :, 2] > 0).any(axis=1)
    nodes, normals, values = nodes[looking], normals[looking], field[faces[looking]]
    pixels = nearest_samples(nodes, width)
    picture = np.ones((width * width, 4))
    picture[:, 3] = pixels.face >= 0
    shown = np.flatnonzero(pixels.face >= 0)
    face, weights = pixels.face[shown], shape_functions(*pixels.place[shown].T)
    normal = np.zeros((width * width, 3))
    normal[shown] = unit(np.einsum("pn,pnc->pc", weights, normals[face]))
    picture[shown, :3] = colours.to_rgba(np.einsum("pn,pn->p", weights, values[face]))[:, :3]
    light(picture, normal)
    picture[shown[on_mesh_line(pixels.place[shown], nodes[face])], :3] *= 0.88
    crease = creases(normal.reshape(width, width, 3), pixels.depth.reshape(width, width))
    picture[crease.ravel(), :3] *= 0.35
    shape = (size, SUPERSAMPLING, size, SUPERSAMPLING, 4)
    return trimmed(picture.reshape(shape).mean(axis=(1, 3)))


def viewer_axes(view: View) -> Floats:
    """Return the rows right, up, towards the viewer."""
    towards = unit(np.array(view))
    right = unit(np.cross([0, 0, 1], towards))
    return np.stack([right, np.cross(towards, right), towards])


def unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def in_pixels(seen: Floats, width: int) -> Floats:
    """Scale and centre the points in a square picture; the second axis counts rows downwards."""
    low, high = seen.min(axis=0), seen.max(axis=0)
    scaled = (seen - (low + high) / 2) * 0.98 * width / (high - low)[:2].max()
    return scaled * (1, -1, 1) + (width / 2, width / 2, 0)


def shape_functions(s: Floats, t: Floats) -> Floats:
    r = 1 - s - t
    corners = [r * (2 * r - 1), s * (2 * s - 1), t * (2 * t - 1)]
    return np.stack([*corners, 4 * r * s, 4 * s * t, 4 * t * r], axis=-1)


def node_normals(nodes: Floats) -> Floats:
    """Return the outward unit normals at the six nodes of every face."""
    s, t = np.array([0, 1, 0, 0.5, 0.5, 0]), np.array([0, 0, 1, 0, 0.5, 0.5])
    step = 0.25  # central differences are exact: the shape functions are quadratic
    by_s = shape_functions(s + step, t) - shape_functions(s - step, t)
    by_t = shape_functions(s, t + step) - shape_functions(s, t - step)
    return unit(np.cross(by_t @ nodes, by_s @ nodes))  # in this order because rows count downwards


def nearest_samples(nodes: Floats, width: int) -> Pixels:
    """Find what every pixel of a square picture shows."""
    pixels = Pixels(np.full(width**2, -1), np.zeros((width**2, 2)), np.full(width**2, -np.inf))
    for faces, place in lattices(nodes):
        x, y, depth = np.moveaxis(shape_functions(*place.T) @ nodes[faces], 2, 0).reshape(3, -1)
        pixel = y.astype(np.intp) * width + x.astype(np.intp)
        np.maximum.at(pixels.depth, pixel, depth)
        won = np.flatnonzero(depth == pixels.depth[pixel])
        pixels.face[pixel[won]] = faces[won // len(place)]
        pixels.place[pixel[won]] = place[won % len(place)]
    return pixels


def lattices(nodes: Floats) -> Iterator[tuple[Integers, Floats]]:
    """Yield faces of about the same size with the places on them to sample."""
    span = np.ptp(nodes[:, :, :2], axis=1).max(axis=1)
    steps = 8 * np.ceil(SAMPLES_PER_PIXEL * span / 8).astype(int)
    for n in np.unique(steps):
        i, j = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
        place, faces = np.stack([i, j], axis=1) / n, np.flatnonzero(steps == n)
        for first in range(0, len(faces), per_chunk := max(1, CHUNK // len(place))):
            yield faces[first : first + per_chunk], place


def light(picture: Floats, normal: Floats) -> None:
    """Darken what turns away from the light and add a soft gloss."""
    towards_light = np.maximum(normal @ unit(LIGHT), 0)
    factor, gloss = 0.68 + 0.35 * towards_light, 0.10 * towards_light**40
    picture[:, :3] = np.minimum(picture[:, :3] * factor[:, None] + gloss[:, None], 1)


def on_mesh_line(place: Floats, nodes: Floats) -> NDArray[np.bool_]:
    """Tell which places lie within a pixel of the border of their face."""
    from_border = np.minimum(place.min(axis=1), 1 - place.sum(axis=1))
    return from_border * np.ptp(nodes[:, :3, :2], axis=1).max(axis=1) < 0.7


def creases(normal: Floats, depth: Floats) -> NDArray[np.bool_]:
    """Mark pixels where the normal turns or the depth jumps towards a neighbour."""
    depth = np.maximum(depth, -1e6)
    found = np.zeros(depth.shape, dtype=bool)
    for axis in (0, 1):
        turn = np.einsum("ijk,ijk->ij", normal, np.roll(normal, 1, axis)) < 0.8
        jump = np.abs(depth - np.roll(depth, 1, axis)) > 15
        found |= (turn & (depth > -1e6)) | jump
    return found


def trimmed(picture: Floats) -> Floats:
    shown = picture[:, :, 3] > 0
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
