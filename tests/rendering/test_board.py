"""The model of a picture: cards, rows, sums, and what stands beside what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from graphtool import suggest_pairs
from graphtool.graph import Graph
from graphtool.rendering.board import Board, Card, CardPart, Level
from graphtool.rendering.boards import board_of
from graphtool.rendering.scenes import Scene
from graphtool.sources import read
from graphtool.structure import analyse
from tests.rendering.graphs import assert_shared_out, heads

FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"
VISION = (
    "alexnet",
    "densenet121",
    "googlenet",
    "mobilenet_v1",
    "mobilenet_v3_small",
    "resnet50",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "vgg16",
)


def vision(name: str) -> Graph:
    from tests.networks import vision

    return vision(name)


def card(board: Board, title: str, panel: int = 0) -> Card:
    return next(card for card in board.panels[panel].cards if card.title == title)


def lines(board: Board) -> list[tuple[str, ...]]:
    """Return what stands side by side, as text: card and row of each network."""
    found: list[tuple[str, ...]] = []
    for band in board.bands:
        for line in band.lines:
            cells: list[str] = []
            for panel, index, row in zip(board.panels, band.cards, line.rows, strict=True):
                shown = panel.cards[index] if index is not None else None
                cells.append(
                    f"{shown.title}: {shown.rows[row].name}" if shown and row is not None else ""
                )
            found.append(tuple(cells))
    return found


def test_every_operator_stands_in_one_row_and_all_sums_are_those_of_the_network() -> None:
    graph = read(FIXTURES / "cnn.json")
    board = board_of(graph)

    assert_shared_out(graph, board)
    assert board.panels[0].parameters == 449


@pytest.mark.slow
def test_a_transformer_has_embeddings_numbered_layers_and_a_head() -> None:
    from tests.networks import Encoder, built

    board = board_of(built(lambda: Encoder(4), [10, 16]))
    parts = [card.part for card in board.panels[0].cards]
    rows = [row.name for card in board.panels[0].cards for row in card.rows]

    assert parts == [CardPart.EMBEDDINGS, CardPart.ENCODER, CardPart.HEAD]
    assert rows[1] == "Layers 0 – 3"
    assert board.panels[0].unit == "dim"


def test_a_paired_value_ends_its_row_and_stands_beside_its_partner() -> None:
    graph = read(FIXTURES / "cnn.json")
    board = board_of(Scene(pairs=suggest_pairs(graph, graph)))

    for pill in board.pills:
        teacher, student = pill.spots
        assert teacher is not None
        assert teacher == student
        row = board.panels[0].cards[teacher.card].rows[teacher.row]
        assert set(pill.ranks) <= set(row.ranks)
    assert {left for left, right in lines(board) if left == right} == set(dict(lines(board)))


def test_one_network_with_control_flow_counts_the_parameters_inside_of_blocks() -> None:
    graph = read(FIXTURES / "control.json")
    board = board_of(graph, Level.BLOCK)
    names = [row.name for card in board.panels[0].cards for row in card.rows]

    assert {"Condition", "Loop"} <= set(names)
    assert board.panels[0].parameters == 72


@pytest.mark.slow
def test_a_resnet_beside_a_mobilenet_reads_as_an_expert_would_draw_it() -> None:
    pairs = suggest_pairs(vision("resnet50"), vision("mobilenet_v3_small"))
    board = board_of(Scene(pairs=pairs))
    middle = card(board, "14 × 14")

    assert [card.title for card in board.panels[0].cards] == [
        "112 × 112",
        "56 × 56",
        "28 × 28",
        "14 × 14",
        "7 × 7",
        "Head",
    ]
    assert [(row.name, row.factor, row.times, row.size) for row in middle.rows] == [
        ("Bottleneck block", "↓2", 1, 1024),
        ("Bottleneck block", "", 5, 1024),
    ]
    assert middle.parameters == 7_098_368
    assert middle.multiply_adds == 1_464_336_384
    assert [row.bar for row in middle.rows][1] == 1
    assert ("Head: Linear", "Head: Linear") in lines(board)
    texts = {tag.text for pill in board.pills for tag in pill.tags}
    assert {"1000 = 1000", "2048 ← 96"} <= texts


@pytest.mark.slow
def test_growing_rows_of_a_densenet_merge() -> None:
    board = board_of(vision("densenet121"))

    rows = [(row.name, row.times, row.size) for row in card(board, "14 × 14").rows]
    assert rows == [("Dense layer", 24, 1024), ("Conv 1×1", 1, 512), ("Avg pool", 1, 512)]


@pytest.mark.slow
def test_auxiliary_heads_read_from_the_stage_that_they_hang_on() -> None:
    panel = board_of(vision("googlenet")).panels[0]
    titles = [card.title for card in panel.cards]
    flows = {(titles[source], titles[target]) for source, target in panel.flows}

    assert titles[-3:] == ["Head 1", "Head 2", "Head 3"]
    assert {("6 × 6", "Head 1"), ("13 × 13", "Head 2"), ("13 × 13", "Head 3")} <= flows


@pytest.mark.slow
@pytest.mark.parametrize("level", [Level.STAGE, Level.BLOCK, Level.MODULE])
@pytest.mark.parametrize("name", VISION)
def test_rows_share_out_whole_networks_of_many_families(name: str, level: Level) -> None:
    graph = vision(name)
    assert_shared_out(graph, board_of(graph, level))


@pytest.mark.slow
@pytest.mark.parametrize("student", ["mobilenet_v1", "squeezenet1_1", "densenet121"])
@pytest.mark.parametrize("teacher", ["resnet50", "vgg16", "googlenet"])
def test_each_row_is_in_one_line_and_rows_keep_their_order(teacher: str, student: str) -> None:
    pairs = suggest_pairs(vision(teacher), vision(student))
    board = board_of(Scene(pairs=pairs))

    for place, panel in enumerate(board.panels):
        shown = [
            (band.cards[place], line.rows[place])
            for band in board.bands
            for line in band.lines
            if line.rows[place] is not None
        ]
        rows = [(c, r) for c, card in enumerate(panel.cards) for r in range(len(card.rows))]
        assert shown == rows
    pills = Counter(index for band in board.bands for line in band.lines for index in line.pills)
    assert pills == dict.fromkeys(range(len(board.pills)), 1)
    assert sorted(rank for pill in board.pills for rank in pill.ranks) == list(
        range(1, len(pairs) + 1)
    )


@pytest.mark.slow
def test_layers_of_equal_blocks_are_written_once_at_level_module() -> None:
    board = board_of(vision("resnet50"), Level.MODULE)
    rows = [(row.name, row.factor, row.times) for row in card(board, "14 × 14").rows]

    assert rows == [
        ("Conv 1×1", "", 1),
        ("Conv 3×3", "↓2", 1),
        ("Conv 1×1", "", 1),
        ("Conv 1×1", "↓2", 1),
        ("Add + relu", "", 1),
        ("Conv 1×1", "", 5),
        ("Conv 3×3", "", 5),
        ("Conv 1×1", "", 5),
        ("Add + relu", "", 5),
    ]


def test_a_picture_taller_than_two_screens_is_drawn_as_an_overview() -> None:
    assert board_of(heads(20)).level is Level.BLOCK
    assert board_of(heads(40)).level is Level.STAGE
    assert board_of(heads(40), Level.BLOCK).level is Level.BLOCK


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((-1, 3, 16, 16), "float32", "3 × 16 × 16"),
        ((-1, 3, 16, 16), "float16", "3 × 16 × 16 float16"),
        ((-1, 64), "int64", "64 tokens"),
        ((-1,), "bool", "1 bool"),
        (None, "float32", "?"),
    ],
)
def test_an_input_says_its_dtype_where_that_is_not_float32(
    shape: tuple[int, ...] | None, dtype: str, said: str
) -> None:
    graph = read(FIXTURES / "cnn.json")
    image = replace(graph.values["image"], shape=shape, dtype=dtype)
    graph = replace(graph, values={**graph.values, "image": image})

    assert board_of(graph).panels[0].inputs == f"input {said}"


@pytest.mark.pir
@pytest.mark.slow
def test_a_convolution_behind_the_last_block_counts_for_its_stage_as_inspect_says() -> None:
    from tests.networks import built, convolved_before_its_classifier

    structure = analyse(built(convolved_before_its_classifier, [3, 64, 64]))
    (panel,) = board_of(structure.graph).panels
    spent = [
        structure.cost_fraction(structure.last_parametric_value(stage))
        for stage in structure.stages
    ]

    cards = [card for card in panel.cards if card.part is CardPart.STAGE]
    shares = [end - start for start, end in zip([0.0, *spent], spent, strict=False)]
    assert [card.share for card in cards[-2:]] == pytest.approx(shares[-2:])
    assert cards[-1].size == 32
    assert structure.stages[-1].end == "concat_2"
