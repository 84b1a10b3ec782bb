"""A feed map is guessed where there is one that makes sense, and not otherwise."""

from dataclasses import replace
from time import process_time
from typing import Any

import pytest

from graphtool import checks, read
from graphtool.graph import Graph
from tests.checks.programs import data, program


def _graph(*feeds: tuple[Any, ...]) -> Graph:
    def build():
        for name, *shape in feeds:
            dtype = "int64" if name in ("label", "y") else "float32"
            data(name, *shape, dtype=dtype).astype("float32").mean()

    return read(program(build)[0])


def test_feeds_of_other_names_go_together_where_only_one_fits():
    teacher, student = (
        _graph(("x", -1, 3, 8, 8), ("y", -1, 1)),
        _graph(("image", 4, 3, -1, -1), ("label", -1, 1)),
    )
    assert checks.guess_feed_map(teacher, student) == {"x": "image", "y": "label"}
    assert [guess.why for guess in checks.guess_feeds(teacher, student)] == [
        "is the only one whose shape and dtype fit"
    ] * 2


def test_the_same_name_decides_between_feeds_that_fit_alike():
    both = _graph(("left", -1, 4), ("right", -1, 4))
    assert checks.guess_feed_map(both, both) == {"left": "left", "right": "right"}


def test_nothing_is_guessed_where_two_feeds_fit():
    teacher, student = _graph(("x", -1, 4)), _graph(("left", -1, 4), ("right", -1, 4))
    assert checks.guess_feed_map(teacher, student) is None
    (guess,) = checks.guess_feeds(teacher, student)
    assert guess.why == "may be one of left, right"


def test_nothing_is_guessed_where_two_teacher_feeds_want_one():
    teacher, student = _graph(("a", -1, 4), ("b", -1, 4)), _graph(("image", -1, 4))
    assert checks.guess_feed_map(teacher, student) is None


def test_a_feed_of_the_teacher_alone_is_left_out():
    teacher, student = _graph(("x", -1, 4), ("mask", -1, 9, 9)), _graph(("image", -1, 4))
    assert checks.guess_feed_map(teacher, student) == {"x": "image"}


def test_nothing_is_guessed_where_no_feed_fits():
    assert checks.guess_feed_map(_graph(("x", -1, 4)), _graph(("image", -1, 5))) is None


def test_hundreds_of_feeds_of_the_same_names_cost_no_time():
    """To try each with each would take half a second."""
    graph = _fed_by(800, "x")
    started = process_time()
    assert checks.guess_feed_map(graph, graph) == {name: name for name in graph.feeds}
    assert process_time() - started < 0.1


@pytest.mark.slow
def test_hundreds_of_feeds_that_all_fit_are_compared_with_those_around_their_place():
    """To compare each name with each would take ten seconds."""
    teacher, student = _fed_by(300, "teacher_slot_"), _fed_by(300, "student_slot_")
    started = process_time()
    guesses = checks.guess_feeds(teacher, student)
    assert process_time() - started < 3
    assert [guess.student for guess in guesses] == list(student.feeds)
    assert guesses[0].why == (
        f"may be one of {', '.join(student.feeds[:8])} and {len(student.feeds) - 8} more"
    )


def _fed_by(count: int, name: str) -> Graph:
    graph = _graph(("x", -1, 4))
    names = [f"{name}{number}" for number in range(count)]
    feeds = {name: replace(graph.values["x"], name=name) for name in names}
    return replace(graph, values=feeds, feeds=tuple(feeds))
