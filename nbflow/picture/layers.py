"""The first half of the layered layout: which column each node stands in, and in which order the columns are stacked.

Columns come from longest paths, after the edges that close a cycle have been set aside. An edge that passes columns gets
a lane (a dummy vertex) in each of them; edges of one source share their lanes. The order within the columns is that of
least crossings that barycentre sweeps and swaps of neighbours find (Sugiyama, Tagawa and Toda 1981; Gansner et al. 1993).
All ties are broken by the order of the nodes, so that one graph has one picture. Must not know sizes or coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Layers", "layered"]

SWEEPS = 24
PATIENCE = 4  # sweeps without a gain after which more of them have never been seen to help
SMALL = 150  # up to so many vertices, neighbours are swapped after each sweep and not only at the end
LANES = 2_000  # lanes that any picture may have, whatever the number of its nodes
Pair = tuple[int, int]


@dataclass(slots=True)
class Layers:
    """Vertices `0 … count-1` are the nodes, those from `count` on are lanes. `rows` are the columns, ordered."""

    count: int
    rank: list[int]
    up: list[list[int]]
    down: list[list[int]]
    rows: list[list[int]] = field(default_factory=list[list[int]])
    place: list[int] = field(default_factory=list[int])
    lanes: dict[Pair, list[int]] = field(default_factory=dict[Pair, list[int]])
    backward: set[Pair] = field(default_factory=set[Pair])

    def add_lane(self, rank: int) -> int:
        self.rank.append(rank)
        self.up.append([])
        self.down.append([])
        return len(self.rank) - 1

    def link(self, left: int, right: int) -> None:
        self.down[left].append(right)
        self.up[right].append(left)


def layered(count: int, edges: Sequence[Pair]) -> Layers:
    """Columns and their order for `count` nodes. `edges` are distinct pairs of different nodes; cycles are allowed."""
    out: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        out[source].append(target)
    visit, backward = _visit(count, edges, out)
    forward = [edge for edge in edges if edge not in backward]
    layers = Layers(count, _ranks(count, forward), [[] for _ in range(count)], [[] for _ in range(count)])
    layers.backward = backward
    keys: list[float] = [float(number) for number in visit]
    _lay_lanes(layers, forward, keys)
    _lay_backward(layers, keys)
    _stack(layers, keys)
    _untangle(layers)
    return layers


def _visit(count: int, edges: Sequence[Pair], out: list[list[int]]) -> tuple[list[int], set[Pair]]:
    """When a depth-first walk first comes to each node, and the edges that lead back to a node the walk stands on."""
    has_source = [False] * count
    for _, target in edges:
        has_source[target] = True
    number, open_nodes, backward, clock = [-1] * count, [False] * count, set[Pair](), 0
    for root in sorted(range(count), key=has_source.__getitem__):
        if number[root] >= 0:
            continue
        stack = [(root, iter(out[root]))]
        number[root], open_nodes[root], clock = clock, True, clock + 1
        while stack:
            node, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                open_nodes[node] = False
                stack.pop()
            elif number[child] < 0:
                number[child], open_nodes[child], clock = clock, True, clock + 1
                stack.append((child, iter(out[child])))
            elif open_nodes[child]:
                backward.add((node, child))
    return number, backward


def _ranks(count: int, forward: Sequence[Pair]) -> list[int]:
    """The longest path from a source; then sources are drawn close to what they feed."""
    out: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for source, target in forward:
        out[source].append(target)
        missing[target] += 1
    rank = [0] * count
    is_source = [not number for number in missing]
    ready = [node for node in range(count) if is_source[node]]
    for node in ready:  # grows while it is read
        for target in out[node]:
            rank[target] = max(rank[target], rank[node] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    for node in range(count):
        if is_source[node] and out[node]:
            rank[node] = min(rank[target] for target in out[node]) - 1
    return rank


def _lay_lanes(layers: Layers, forward: Sequence[Pair], keys: list[float]) -> None:
    """Short edges first, while there are lanes to give. An edge without one is drawn straight, behind what it passes."""
    rank, trunks = layers.rank, dict[int, list[int]]()
    left = LANES + 2 * layers.count
    for source, target in sorted(forward, key=lambda edge: rank[edge[1]] - rank[edge[0]]):
        span = rank[target] - rank[source]
        trunk = trunks.setdefault(source, [])
        if span - 1 - len(trunk) > left:
            layers.lanes[source, target] = []
            continue
        while len(trunk) < span - 1:
            lane = layers.add_lane(rank[source] + len(trunk) + 1)
            keys.append(keys[target])
            layers.link(trunk[-1] if trunk else source, lane)
            trunk.append(lane)
            left -= 1
        layers.lanes[source, target] = trunk[: span - 1]
        layers.link(trunk[span - 2] if span > 1 else source, target)


def _lay_backward(layers: Layers, keys: list[float]) -> None:
    """An edge that closes a cycle turns round in the column of its source and again in that of its target."""
    for source, target in sorted(layers.backward):
        last: int | None = None
        lanes: list[int] = []
        for rank in range(layers.rank[target], layers.rank[source] + 1):
            lane = layers.add_lane(rank)
            keys.append(keys[source] + 0.5)
            if last is not None:
                layers.link(last, lane)
            lanes.append(lane)
            last = lane
        layers.lanes[source, target] = lanes[::-1]


def _stack(layers: Layers, keys: list[float]) -> None:
    layers.rows = [[] for _ in range(max(layers.rank, default=-1) + 1)]
    for vertex in sorted(range(len(layers.rank)), key=keys.__getitem__):
        layers.rows[layers.rank[vertex]].append(vertex)
    layers.place = [0] * len(layers.rank)
    _number(layers)


def _number(layers: Layers) -> None:
    place = layers.place
    for row in layers.rows:
        for index, vertex in enumerate(row):
            place[vertex] = index


def _untangle(layers: Layers) -> None:
    best, kept, stale = _crossings(layers), layers.place[:], 0
    small = len(layers.rank) <= SMALL
    for sweep in range(SWEEPS):
        if not best or stale >= PATIENCE:
            break
        _sweep(layers, downwards=sweep % 2 == 0)
        if small:
            _swap_neighbours(layers, rounds=1)
        crossings = _crossings(layers)
        stale += 1
        if crossings < best:
            best, kept, stale = crossings, layers.place[:], 0
    for row in layers.rows:
        row.sort(key=kept.__getitem__)
    _number(layers)
    if best:
        _swap_neighbours(layers, rounds=8 if small else 2)


def _sweep(layers: Layers, *, downwards: bool) -> None:
    """Each vertex goes to the mean place of its neighbours in the column before."""
    place = layers.place
    neighbours = layers.up if downwards else layers.down
    for row in layers.rows if downwards else reversed(layers.rows):
        mean: dict[int, float] = {}
        for vertex in row:
            near = neighbours[vertex]
            mean[vertex] = sum([place[other] for other in near]) / len(near) if near else place[vertex]
        row.sort(key=mean.__getitem__)  # stable: equal ones keep their order
        for index, vertex in enumerate(row):
            place[vertex] = index


def _crossings(layers: Layers) -> int:
    """Pairs of edges between neighbouring columns that cross: inversions, counted with a Fenwick tree."""
    place, total = layers.place, 0
    for left, right in zip(layers.rows, layers.rows[1:], strict=False):
        size = len(right)
        tree, seen = [0] * (size + 1), 0
        for vertex in left:
            ends = sorted([place[other] for other in layers.down[vertex]])
            for end in ends:
                total += seen - _at_most(tree, end + 1)
            for end in ends:
                _count(tree, end + 1, size)
            seen += len(ends)
    return total


def _at_most(tree: list[int], index: int) -> int:
    total = 0
    while index:
        total += tree[index]
        index &= index - 1
    return total


def _count(tree: list[int], index: int, size: int) -> None:
    while index <= size:
        tree[index] += 1
        index += index & -index


def _swap_neighbours(layers: Layers, rounds: int) -> None:
    """Swap two that stand next to each other wherever that takes crossings away (Gansner's transposition)."""
    for _ in range(rounds):
        swaps = [_swap_in(layers, row) for row in layers.rows]
        if not any(swaps):
            return


def _swap_in(layers: Layers, row: list[int]) -> bool:
    place, swapped = layers.place, False
    for index in range(len(row) - 1):
        first, second = row[index], row[index + 1]
        if _gain(layers, first, second) > 0:
            row[index], row[index + 1] = second, first
            place[second], place[first] = index, index + 1
            swapped = True
    return swapped


def _gain(layers: Layers, first: int, second: int) -> int:
    """How many crossings fewer there are when `second` stands before `first`."""
    place, gain = layers.place, 0
    for neighbours in (layers.up, layers.down):
        near, far = neighbours[first], neighbours[second]
        if not near or not far or len(near) * len(far) > 400:  # hubs: the sweeps have placed them
            continue
        others = [place[other] for other in far]
        for vertex in near:
            mine = place[vertex]
            gain += sum([(mine > other) - (mine < other) for other in others])
    return gain
