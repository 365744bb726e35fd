"""The layered layout: where nodes stand and how edges run."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nbflow.picture.layers import layered
from nbflow.picture.layout import Layout, layout

SIZE = (160.0, 54.0)


def spread(count: int, *, near: int = 30, seed: int = 1) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """A graph like a flow: each node but the first follows one or two of those shortly before it."""
    dice = random.Random(seed)
    edges = {
        (dice.randrange(max(0, node - near), node), node)
        for node in range(1, count)
        for _ in range(dice.choice((1, 1, 2)))
    }
    return [SIZE] * count, sorted(edges)


def overlaps(drawn: Layout) -> list[tuple[int, int]]:
    places = sorted(enumerate(drawn.places), key=lambda pair: (pair[1].x, pair[1].y))
    return [
        (one, other)
        for (one, above), (other, below) in pairwise(places)
        if above.x == below.x and above.y + above.height > below.y
    ]


def test_a_chain_is_one_straight_line():
    drawn = layout([SIZE] * 5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert len({place.y for place in drawn.places}) == 1
    assert [place.x for place in drawn.places] == sorted(place.x for place in drawn.places)
    assert all(route.points[0][1] == route.points[-1][1] for route in drawn.routes)


def test_what_forks_and_joins_stands_in_the_middle():
    drawn = layout([SIZE] * 5, [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)])
    first, *middle, last = drawn.places
    assert first.y == last.y == sorted(place.y for place in middle)[1]


def test_a_node_stands_right_of_all_that_it_follows():
    sizes, edges = spread(120)
    drawn = layout(sizes, edges)
    assert all(drawn.places[source].x < drawn.places[target].x for source, target in edges)


def test_a_source_stands_close_to_what_it_feeds():
    drawn = layout([SIZE] * 4, [(0, 1), (1, 2), (3, 2)])
    assert drawn.places[3].x == drawn.places[1].x


def test_crossings_that_can_be_avoided_are():
    layers = layered(6, [(0, 5), (1, 4), (2, 3)])
    assert [layers.rows[1].index(node) for node in (5, 4, 3)] == [0, 1, 2]


def test_an_edge_over_several_columns_runs_between_the_nodes():
    drawn = layout([SIZE] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    y_in_lane = drawn.routes[3].points[1][1]
    assert all(not place.y <= y_in_lane <= place.y + place.height for place in drawn.places[1:3])


def test_the_columns_are_as_wide_as_their_widest_and_the_gaps_as_their_labels():
    drawn = layout([(100, 50), (100, 50), (240, 50)], [(0, 1), (0, 2)], labels=[200, 0])
    assert drawn.places[1].width == drawn.places[2].width == 240
    assert drawn.places[1].x - 100 >= 200


def test_a_cycle_is_drawn_with_one_edge_that_runs_back():
    drawn = layout([SIZE] * 3, [(0, 1), (1, 2), (2, 0)])
    assert [route.backward for route in drawn.routes] == [False, False, True]
    assert drawn.places[0].x < drawn.places[1].x < drawn.places[2].x


def test_an_edge_to_itself_takes_room_above_its_node():
    drawn = layout([SIZE], [(0, 0)])
    assert drawn.routes[0].points == ()
    assert drawn.places[0].y >= 30


def test_nothing_is_drawn_of_nothing():
    assert layout([], []) == Layout((), (), 0.0, 0.0)


def test_two_hubs_over_a_long_chain_stay_affordable():
    count = 600
    edges = [(node, node + 1) for node in range(count - 1)] + [(0, node) for node in range(2, count)]
    drawn = layout([SIZE] * count, edges)
    assert len(drawn.routes) == len(edges)
    assert sum(len(route.points) for route in drawn.routes) < count * len(edges)


@given(
    st.integers(1, 14).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30))
    )
)
def test_any_graph_has_one_picture_in_which_nothing_overlaps(graph: tuple[int, list[tuple[int, int]]]):
    """Deterministic, inside its size, without overlaps; forward edges never run backwards. Cycles and doubles included."""
    count, edges = graph
    sizes = [(100.0 + node, 40.0 + 5 * (node % 3)) for node in range(count)]
    drawn = layout(sizes, edges)
    assert drawn == layout(sizes, edges)
    assert overlaps(drawn) == []
    assert len(drawn.routes) == len(edges)
    for place in drawn.places:
        assert -0.1 <= place.x <= place.x + place.width <= drawn.width + 0.1
        assert -0.1 <= place.y <= place.y + place.height <= drawn.height + 0.1
    for (source, target), route in zip(edges, drawn.routes, strict=True):
        assert (route.points == ()) == (source == target)
        if route.points and not route.backward:
            assert [x for x, _ in route.points] == sorted(x for x, _ in route.points)
