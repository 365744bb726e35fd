"""Where everything stands: a layered layout from left to right, in plain Python and deterministic.

`layers.py` gives the columns and their order; here they get coordinates. A column asks each vertex for the height of
its neighbours' median and grants the wishes as far as the distances allow: least squares under an order, solved
exactly by pooling adjacent violators. Lanes weigh more than nodes, so that long edges run straight.
Must not know flows: it takes sizes and pairs, and gives numbers. Units are pixels, y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nbflow.picture.layers import Layers, layered

__all__ = ["Layout", "Place", "Route", "layout"]

NODE_GAP = 26.0
LANE_GAP = 20.0  # the height of a label on an edge, and some air
RANK_GAP = 50.0
LABEL_AIR = 38.0
LOOP_HEIGHT = 36.0
ROUNDS = 4
NEARLY = 14.0  # offsets up to this look like a mistake in a line that could be straight
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A node's rectangle: its left upper corner and size. All nodes of a column are as wide as the widest of them."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """An edge's way. Between two points it moves sideways, with horizontal tangents; a backward one turns round after
    its first point and before its last. An edge from a node to itself has no points: it is a loop above the node."""

    points: tuple[Point, ...]
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in the order of the sizes given, routes in the order of the edges given, and the size of it all."""

    places: tuple[Place, ...]
    routes: tuple[Route, ...]
    width: float
    height: float


def layout(
    sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], labels: Sequence[float] = ()
) -> Layout:
    """Place nodes of these `(width, height)` and lead `edges` (pairs of their positions) between them.

    `labels` are the widths of what is written on each edge: the gap before its target is made wide enough for it.
    Doubled pairs share a route. Takes 1 / 20 / 250 ms for 20 / 200 / 2,000 nodes at the most.
    """
    loops = {source for source, target in edges if source == target}
    layers = layered(len(sizes), list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1])))
    heights = [height + (2 * LOOP_HEIGHT if node in loops else 0.0) for node, (_, height) in enumerate(sizes)]
    heights += [0.0] * (len(layers.rank) - len(sizes))
    middle = _heights(layers, heights)
    left, right = _columns(layers, sizes, edges, labels)
    places = tuple(
        Place(left[rank], round(middle[node] - height / 2, 1), right[rank] - left[rank], height)
        for node, ((_, height), rank) in enumerate(zip(sizes, layers.rank, strict=False))
    )
    routes = tuple(_route(layers, edge, (left, right), middle) for edge in edges)
    bottom = max((y + height / 2 for y, height in zip(middle, heights, strict=True)), default=0.0)
    return Layout(places, routes, right[-1] if right else 0.0, round(bottom, 1))


def _columns(
    layers: Layers, sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], labels: Sequence[float]
) -> tuple[list[float], list[float]]:
    widths, gaps = [0.0] * len(layers.rows), [RANK_GAP] * len(layers.rows)
    for node, (width, _) in enumerate(sizes):
        widths[layers.rank[node]] = max(widths[layers.rank[node]], width)
    for edge, label in zip(edges, labels, strict=False):
        gap = layers.rank[edge[1]]
        if label and edge[0] != edge[1] and edge not in layers.backward:
            gaps[gap] = max(gaps[gap], label + LABEL_AIR)
    left, right, x = list[float](), list[float](), 0.0
    for column, (width, gap) in enumerate(zip(widths, gaps, strict=True)):
        x += gap if column else 0.0
        left.append(round(x, 1))
        x += width
        right.append(round(x, 1))
    return left, right


def _heights(layers: Layers, heights: list[float]) -> list[float]:
    """The middle of each vertex; the topmost edge of all lies at 0."""
    count, middle = layers.count, [0.0] * len(layers.rank)
    offsets = [_offsets(row, heights, count) for row in layers.rows]
    for row, steps in zip(layers.rows, offsets, strict=True):
        for vertex, step in zip(row, steps, strict=True):
            middle[vertex] = step
    both = [up + down for up, down in zip(layers.up, layers.down, strict=True)]
    order = list(zip(layers.rows, offsets, strict=True))
    for _ in range(ROUNDS):
        for row, steps in order:
            _settle(row, steps, layers.up, middle, count)
        for row, steps in reversed(order):
            _settle(row, steps, layers.down, middle, count)
    for row, steps in order:
        _settle(row, steps, both, middle, count)
    _straighten(layers, heights, middle)
    top = min((y - height / 2 for y, height in zip(middle, heights, strict=True)), default=0.0)
    return [round(y - top, 1) for y in middle]


def _offsets(row: list[int], heights: list[float], count: int) -> list[float]:
    """How far below the first of its column each one stands at least."""
    offsets, y = list[float](), 0.0
    for index, vertex in enumerate(row):
        if index:
            y += _distance(row[index - 1], vertex, heights, count)
        offsets.append(y)
    return offsets


def _distance(above: int, below: int, heights: list[float], count: int) -> float:
    gap = NODE_GAP if above < count and below < count else LANE_GAP
    return (heights[above] + heights[below]) / 2 + gap


def _settle(row: list[int], offsets: list[float], near: list[list[int]], middle: list[float], count: int) -> None:
    """Move a column as close to its wishes as the distances allow (isotonic regression by pooling)."""
    pools: list[tuple[float, float, int]] = []
    for vertex, offset in zip(row, offsets, strict=True):
        wish, weight = _wish(vertex, near[vertex], middle, count)
        total, mass, size = (wish - offset) * weight, weight, 1
        while pools and pools[-1][0] * mass >= total * pools[-1][1]:
            before = pools.pop()
            total, mass, size = total + before[0], mass + before[1], size + before[2]
        pools.append((total, mass, size))
    steps = zip(row, offsets, strict=True)
    for total, mass, size in pools:
        level = total / mass
        for vertex, offset in islice(steps, size):
            middle[vertex] = level + offset


def _wish(vertex: int, near: list[int], middle: list[float], count: int) -> tuple[float, float]:
    """`(height, weight)`: the median of the neighbours, of the lanes alone if a lane has some."""
    if not near:
        return middle[vertex], 0.25
    if vertex >= count:
        lanes = [other for other in near if other >= count]
        return _median([middle[other] for other in lanes or near]), 8.0 if lanes else 2.0
    return _median([middle[other] for other in near]), 1.0


def _median(values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    values.sort()
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _straighten(layers: Layers, heights: list[float], middle: list[float]) -> None:
    """Pull a vertex to the height of its only neighbour where that is near and nobody stands in the way."""
    for rows, neighbours in ((layers.rows, layers.up), (layers.rows[::-1], layers.down)):
        for row in rows:
            _pull(row, neighbours, middle, heights, layers.count)


def _pull(row: list[int], neighbours: list[list[int]], middle: list[float], heights: list[float], count: int) -> None:
    for index, vertex in enumerate(row):
        near = neighbours[vertex]
        if len(near) != 1 or not 0 < abs(middle[near[0]] - middle[vertex]) <= NEARLY:
            continue
        y = middle[near[0]]
        if index and y - middle[row[index - 1]] < _distance(row[index - 1], vertex, heights, count):
            continue
        is_last = index + 1 == len(row)
        if is_last or middle[row[index + 1]] - y >= _distance(vertex, row[index + 1], heights, count):
            middle[vertex] = y


def _route(
    layers: Layers, edge: tuple[int, int], columns: tuple[list[float], list[float]], middle: list[float]
) -> Route:
    source, target = edge
    if source == target:
        return Route(())
    left, right = columns
    backward = edge in layers.backward
    points = [(right[layers.rank[source]], middle[source])]
    for lane in layers.lanes[edge]:
        rank, y = layers.rank[lane], middle[lane]
        points += [(right[rank], y), (left[rank], y)] if backward else [(left[rank], y), (right[rank], y)]
    points.append((left[layers.rank[target]], middle[target]))
    return Route(tuple(points), backward)
