"""Random masks: where the restored image is pasted into the reference.

A mask m is uint8 (H, W): 0 = reference, 255 = restored image.

A target area is drawn first and a shape is then fitted to it, so that small and large regions are equally likely on a
log scale whatever the shape, its place, or how much of it the image's border cuts off. How close the achieved area
(the mean of m / 255) comes to the drawn one:

    polygon · ellipse · stroke    within AREA_TOLERANCE of it, or within a few pixels where that is more
    semantic                      within half of the largest segment, unless every segment is larger than the drawn area
    full                          1, whatever was drawn
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

AREA_TOLERANCE = 0.05
FULL = 255
EDGE_SIGMA = 2.0  # of the Gaussian over edges, in pixels
BASIN_DEPTH = 6  # 8-bit steps between a basin and its edge below which two regions are one
SUBPIXEL_BITS = 4  # outlines are drawn in sixteenths of a pixel

Outline = np.ndarray  # float64 (N, 2) points x, y around (0, 0), which the outline encloses; largest radius about 1
Drawing = Callable[[float], np.ndarray]  # a size → uint8 (H, W) of 0 and 255; a larger size never covers less


def draw_mask(
    kind: str,
    rng: np.random.Generator,
    height: int,
    width: int,
    area: tuple[float, float],
    feather: tuple[float, float],
    segments: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a mask: uint8 (height, width), never empty.

    `kind` is polygon, ellipse, stroke, semantic, full (255 everywhere) or sham (the shape of a polygon, ellipse or stroke:
    the kind only says what is pasted). The target area is drawn log-uniformly in `area` (shares of the image), the sigma of
    the Gaussian that softens the edge uniformly in `feather` (pixels; 0 = a hard edge). Beyond 3 sigma from the region m is
    exactly 0, and 3 sigma inside it exactly 255. `segments`, int32 (height, width) labels ≥ 0, is needed by semantic alone.
    ValueError: an unknown kind, or segments that are missing or of another size.
    """
    if kind == "full":
        return np.full((height, width), FULL, np.uint8)
    low, high = area
    share = math.exp(rng.uniform(math.log(low), math.log(high)))
    sigma = rng.uniform(*feather)
    if kind == "semantic":
        region = _segment_union(rng, _checked(segments, height, width), share)
    else:
        shape = ("ellipse", "polygon", "stroke")[rng.integers(3)] if kind == "sham" else kind
        if shape not in SHAPES:
            raise ValueError(f"there is no mask kind '{kind}'; known: {', '.join([*SHAPES, 'semantic', 'full', 'sham'])}")
        region = SHAPES[shape](rng, height, width, share)
    return feathered(region, sigma)


def feathered(region: np.ndarray, sigma: float) -> np.ndarray:
    """Soften the edge of `region`, uint8 (H, W), by a Gaussian of `sigma` pixels, cut off at 3 sigma.

    The mean stays the same but for rounding; the image's border is mirrored, so a region that runs out of the image keeps
    its strength there. A region too small for its sigma to leave anything stays hard.
    """
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return region
    left, top, columns, rows = cv2.boundingRect(region)
    near = np.s_[max(top - radius, 0) : top + rows + radius, max(left - radius, 0) : left + columns + radius]
    soft = np.zeros_like(region)
    soft[near] = cv2.GaussianBlur(region[near], (2 * radius + 1, 2 * radius + 1), sigma, borderType=cv2.BORDER_REFLECT)
    return soft if soft.any() else region


def slic_segments(image: np.ndarray) -> np.ndarray:
    """About 200 segments of even colour in a uint8 (H, W, 3) RGB image: int32 (H, W) labels from 0 (SLIC, Achanta et al. 2012).

    Images of 256 pixels and more are segmented at half size, five times as fast: a mask's edge needs no finer contour.
    """
    from skimage.segmentation import slic

    height, width = image.shape[:2]
    halved = min(height, width) >= 256
    small = cv2.resize(image, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA) if halved else image
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    extent = float(lab.max() - lab.min()) or 1.0  # slic divides by it: the compactness of 10 is meant for Lab as it is
    labels = slic(lab, n_segments=200, compactness=10 / extent, convert2lab=False, start_label=0).astype(np.int32)
    return labels.repeat(2, axis=0).repeat(2, axis=1)[:height, :width] if halved else labels


def edge_segments(edges: np.ndarray) -> np.ndarray:
    """The regions that edges enclose: float32 (H, W) in [0, 1], 1 = surely an edge → int32 (H, W) labels from 0.

    Watershed: the edges, softened, are a relief, and each of its basins deeper than BASIN_DEPTH is a segment. What happens
    below one 8-bit step is rounded away, so that the arithmetic of another machine gives the same segments.
    """
    from scipy import ndimage
    from skimage.morphology import h_minima
    from skimage.segmentation import watershed

    relief = np.rint(cv2.GaussianBlur(edges, (0, 0), EDGE_SIGMA) * 255).astype(np.uint8)
    basins, _ = ndimage.label(h_minima(relief, BASIN_DEPTH))
    return np.maximum(watershed(relief, basins) - 1, 0).astype(np.int32)  # without any basin all is one segment


def labels_of(regions: Sequence[np.ndarray]) -> np.ndarray:
    """Labels of regions that may overlap, bool (H, W) each, at least one: int32 (H, W) from 0.

    A smaller region lies upon a larger one, of which the rest keeps its label. What no region covers is divided into its
    connected parts. Labels follow one another, none is left out.
    """
    order = sorted(range(len(regions)), key=lambda i: (-int(regions[i].sum()), i))
    labels = np.zeros(regions[0].shape, np.int32)
    for label, i in enumerate(order, start=1):
        labels[regions[i]] = label
    _, parts = cv2.connectedComponents((labels == 0).astype(np.uint8), connectivity=4)
    labels[labels == 0] = len(order) + parts[labels == 0]
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def _polygon(rng: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    corners = int(rng.integers(5, 13))
    angles = (np.arange(corners) + rng.uniform(-0.4, 0.4, corners)) * (2 * math.pi / corners)
    radii = rng.uniform(0.45, 1.0, corners)
    return _fitted(_placed(rng, height, width, np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)), share)


def _ellipse(rng: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    angles = np.arange(90) * (2 * math.pi / 90)
    flat = rng.uniform(0.35, 1.0)
    tilt = rng.uniform(0, math.pi)
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    return _fitted(_placed(rng, height, width, np.stack([np.cos(angles), flat * np.sin(angles)], axis=1) @ turn), share)


def _stroke(rng: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    side = math.sqrt(height * width)
    brush = side * rng.uniform(0.04, 0.12)
    path = _smoothed(_walk(rng, height, width, length=share * height * width / brush, step=side * rng.uniform(0.08, 0.2)))
    canvas = np.full((height, width), FULL, np.uint8)
    cv2.polylines(canvas, [np.rint(path).astype(np.int32)], isClosed=False, color=0)
    distance = np.asarray(cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)
    distance += np.arange(width, dtype=np.float32) * np.float32(0.5 / width)  # else whole rings of pixels are equally far
    distance += np.arange(height, dtype=np.float32)[:, None] * np.float32(0.001 / height)
    return _fitted(lambda radius: (distance <= radius).view(np.uint8) * np.uint8(FULL), share)


SHAPES = {"polygon": _polygon, "ellipse": _ellipse, "stroke": _stroke}


def _placed(rng: np.random.Generator, height: int, width: int, outline: Outline) -> Drawing:
    centre = np.array([rng.uniform(0, width - 1), rng.uniform(0, height - 1)])

    def draw(size: float) -> np.ndarray:
        points = np.rint((centre + size * outline) * 2**SUBPIXEL_BITS).astype(np.int32)
        return cv2.fillPoly(np.zeros((height, width), np.uint8), [points], FULL, shift=SUBPIXEL_BITS)

    return draw


def _fitted(draw: Drawing, share: float) -> np.ndarray:
    """The drawing whose area comes nearest to `share` of the image, found by bisection; at least one pixel."""
    smallest = draw(0.0)
    height, width = smallest.shape
    target = max(share * height * width, 1.0)
    low, high = 0.0, 4.0 * (height + width)  # an outline of this size covers the image from any centre in it
    best, error = smallest, abs(cv2.countNonZero(smallest) - target)
    for _ in range(24):
        middle = (low + high) / 2
        drawn = draw(middle)
        excess = cv2.countNonZero(drawn) - target
        if abs(excess) < error:
            best, error = drawn, abs(excess)
        if error <= 0.002 * target:
            break
        low, high = (low, middle) if excess > 0 else (middle, high)
    return best


def _walk(rng: np.random.Generator, height: int, width: int, length: float, step: float) -> np.ndarray:
    """A wandering path of about `length` pixels inside the image: float64 (N, 2) points x, y about a `step` apart."""
    extent = np.array([width - 1, height - 1], np.float64)
    points = [rng.uniform(0, 1, 2) * extent]
    heading = rng.uniform(0, 2 * math.pi)
    while length > 0:
        stride = min(step, length)
        following = points[-1] + stride * np.array([math.cos(heading), math.sin(heading)])
        if (following < 0).any() or (following > extent).any():  # turn back inside
            middle = rng.uniform(0.2, 0.8, 2) * extent - points[-1]
            heading = math.atan2(middle[1], middle[0])
            following = points[-1] + stride * np.array([math.cos(heading), math.sin(heading)])
        points.append(np.clip(following, 0, extent))
        heading += rng.normal(0, 0.7)
        length -= stride
    return np.array(points)


def _smoothed(path: np.ndarray) -> np.ndarray:
    """Round the corners of a path, float64 (N, 2), by cutting them twice (Chaikin 1974); its ends stay."""
    for _ in range(2):
        cut = np.stack([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1).reshape(-1, 2)
        path = np.concatenate([path[:1], cut, path[-1:]])
    return path


def _checked(segments: np.ndarray | None, height: int, width: int) -> np.ndarray:
    if segments is None:
        raise ValueError("a semantic mask needs segments")
    if segments.shape != (height, width) or not np.issubdtype(segments.dtype, np.integer):
        raise ValueError(f"segments must be integers ({height}, {width}), got {segments.dtype} {segments.shape}")
    return segments


def _segment_union(rng: np.random.Generator, segments: np.ndarray, share: float) -> np.ndarray:
    """Neighbouring segments, grown from a seed as long as one of the neighbours brings the area nearer to `share`.

    A neighbour is drawn with a weight of the share of its own neighbours that are in already, so that regions stay compact.
    """
    counts = np.bincount(segments.ravel())
    sizes = counts.tolist()
    target = share * segments.size
    neighbours = _neighbours(segments)
    present = np.flatnonzero(counts)
    fitting = present[counts[present] <= target]
    seed = int(rng.choice(fitting)) if len(fitting) else int(present[counts[present].argmin()])
    chosen, covered = {seed}, sizes[seed]
    border = set(neighbours.get(seed, ()))
    while nearer := sorted(label for label in border if sizes[label] < 2 * (target - covered)):
        weights = np.cumsum([len(neighbours[label] & chosen) / len(neighbours[label]) for label in nearer])
        label = nearer[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
        chosen.add(label)
        covered += sizes[label]
        border = (border | neighbours[label]) - chosen
    table = np.zeros(len(sizes), np.uint8)
    table[list(chosen)] = FULL
    return table[segments]


def _neighbours(segments: np.ndarray) -> dict[int, set[int]]:
    """For each label the labels that share an edge with it."""
    labels = int(segments.max()) + 1
    found: dict[int, set[int]] = {}
    for one, other in ((segments[:, :-1], segments[:, 1:]), (segments[:-1], segments[1:])):
        differ = one != other
        for pair in np.unique(one[differ].astype(np.int64) * labels + other[differ]).tolist():
            first, second = divmod(pair, labels)
            found.setdefault(first, set()).add(second)
            found.setdefault(second, set()).add(first)
    return found
