"""Reports, merged Programs and their folders, drawn on both networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle
import pytest

import graphtool as gt
from graphtool.diagnostics import Report, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet, Relation
from graphtool.rendering.board import Board, Level, RowIndex
from graphtool.rendering.boards import board_of
from graphtool.rendering.scenes import Scene, scene_of_plan, subject_of
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"


@pytest.fixture(scope="module")
def cnn() -> Graph:
    return read(FIXTURES / "cnn.json")


def scene_of(x: Any) -> Scene:
    scene, _ = subject_of(x)
    assert isinstance(scene, Scene)
    return scene


def named(board: Board, place: int, spot: RowIndex | None) -> str | None:
    return spot and board.panels[place].cards[spot.card].rows[spot.row].name


def test_findings_stand_at_the_rows_that_they_speak_of(cnn: Graph) -> None:
    report = gt.check_merge(cnn, cnn, {}, name_prefix="")
    board = board_of(scene_of(report))
    marks = [
        (pill.tags[0].label, pill.severity, *(named(board, i, x) for i, x in enumerate(pill.spots)))
        for pill in board.pills
    ]

    assert marks == [
        ("GT201", Severity.ERROR, "Linear", "Linear"),
        ("GT201", Severity.ERROR, "Conv 3×3", "Conv 3×3"),
        ("GT213", Severity.ERROR, "Conv 3×3", None),
        ("GT204", Severity.WARNING, None, None),
        ("GT230", Severity.WARNING, None, "Conv 3×3"),
        *(mark for mark in marks if mark[1] is Severity.NOTE),
    ]
    assert board.headline == ("3 errors", f"of {len(marks)} findings")
    dot = gt.render(report).dot
    assert dot.count('BGCOLOR="#FBE5EB" PORT="r') == 4


def test_a_mismatch_of_a_pair_joins_both_of_its_rows(cnn: Graph) -> None:
    report = gt.check_pairs([("relu_0", "relu_2")], cnn, cnn)
    board = board_of(scene_of(report))
    (pill,) = board.pills

    assert pill.tags[0].label == "GT333"
    assert [named(board, i, spot) for i, spot in enumerate(pill.spots)] == [
        "Conv 3×3",
        "Residual",
    ]
    assert sum(len(line.pills) for band in board.bands for line in band.lines) == 1


@pytest.mark.parametrize("level", ["stage", "block", "op"])
def test_all_findings_are_listed_with_code_severity_and_message(cnn: Graph, level: str) -> None:
    report = gt.check_merge(cnn, cnn, {}, name_prefix="")
    dot = gt.render(report, level=level).dot

    for found in report:
        assert f">{found.code}<" in dot
        assert f">{found.slug}<" in dot
        assert f">{found.severity.value}<" in dot
    assert "the prefix is empty" in dot


def test_of_many_findings_the_last_are_counted_and_none_is_said(cnn: Graph) -> None:
    names = [(f"nothing_{index}", "relu_0") for index in range(20)]
    dot = gt.render(gt.check_pairs(names, cnn, cnn)).dot

    assert dot.count(">unknown-name<") == 12
    assert "and 8 findings more" in dot
    assert ">0 errors<" in gt.render(gt.check_pairs([("relu_0", "relu_0")], cnn, cnn)).dot


@pytest.mark.parametrize("report", [Report(), gt.UsageError().report])
def test_a_report_about_no_networks_is_refused(report: Report) -> None:
    with pytest.raises(gt.UsageError) as refused:
        gt.render(report)

    (found,) = refused.value.report
    assert found.code == "GT248"
    assert "wanted a Report about two networks" in found.message


def test_a_plan_shows_the_prefix_and_which_feeds_become_one(cnn: Graph) -> None:
    from graphtool.checks import plan_without_facts

    plan = plan_without_facts(cnn, cnn, {"image": "picture"}, prefix="big_")
    board = board_of(scene_of_plan(plan))

    assert board.headline == ("merged", "big_*, image → picture")
    assert [panel.state for panel in board.panels] == ["frozen", "trained"]


@pytest.mark.pir
@pytest.mark.slow
def test_losses_of_distill_loss_are_drawn_with_their_weights_and_adapters() -> None:
    from tests.losses.networks import convolutions

    built = convolutions()
    merged = built.merged
    with built.building():
        gt.distill_loss(merged, built.pairs, weights={"l2_relu_3": 0.5})
        gt.distill_loss(merged, [("relu_3", "relu_3", "attention")])

    scene = scene_of(merged)
    drawn = [(pair.rank, pair.teacher.name, pair.loss, pair.adapter) for pair in scene.pairs]
    expected = [(pair.rank, pair.teacher.name, pair.loss, pair.adapter) for pair in built.pairs]
    assert drawn == [*expected, (len(expected) + 1, "relu_3", "attention", None)]
    weights = {(pair.loss, pair.weight) for pair in scene.pairs}
    assert ("l2", 0.5) in weights
    assert ("attention", 1.0) in weights
    assert scene.merge is not None
    assert scene.merge.losses
    board = board_of(scene)
    assert board.headline == (f"{len(drawn)} pairs in the loss", "teacher_*, image")
    texts = {tag.extra for pill in board.pills for tag in pill.tags}
    assert "0.5 × l2, conv 1×1" in texts


@pytest.mark.pir
@pytest.mark.slow
def test_losses_that_could_not_be_built_are_not_recorded() -> None:
    from tests.losses.networks import convolutions

    built = convolutions()
    with built.building(), pytest.raises(gt.PairError):
        gt.distill_loss(built.merged, [("relu_3", "relu_3"), ("relu_3", "nothing")])

    assert built.merged.losses == []


@pytest.mark.pir
def test_the_loss_and_the_accuracy_of_a_student_are_no_heads_of_their_own() -> None:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        image = paddle.static.data("image", [-1, 3, 32, 32])
        label = paddle.static.data("label", [-1, 1], "int64")
        map_ = paddle.nn.functional.relu(paddle.nn.Conv2D(3, 8, 3, 2, 1)(image))
        map_ = paddle.nn.functional.relu(paddle.nn.Conv2D(8, 16, 3, 2, 1)(map_))
        logits = paddle.nn.Linear(16, 10)(paddle.mean(map_, axis=[2, 3]))
        paddle.mean(paddle.nn.functional.cross_entropy(logits, label))
        paddle.static.accuracy(paddle.nn.functional.softmax(logits), label)

    (panel,) = board_of(read(program)).panels
    assert panel.inputs == "image 3 × 32 × 32, label 1 int64"
    assert [card.title for card in panel.cards] == ["16 × 16", "8 × 8", "Head"]
    assert [row.name for row in panel.cards[-1].rows] == ["Mean", "Linear", "Cross entropy", "Mean"]


@pytest.mark.slow
def test_a_merge_without_losses_says_that_there_are_none_yet() -> None:
    from tests.losses.networks import convolutions

    merged = convolutions().merged
    board = board_of(scene_of(merged))

    assert board.pills == ()
    assert board.headline == ("merged", "teacher_*, image")
    assert gt.render(merged).level is Level.BLOCK


@pytest.mark.pir
@pytest.mark.slow
def test_the_folder_of_a_merge_is_drawn_with_its_pairs_or_the_losses_in_it(tmp_path: Path) -> None:
    from tests.losses.networks import convolutions

    built = convolutions()
    gt.save_merged(built.merged, tmp_path / "pairs", pairs=built.pairs)
    with built.building():
        gt.distill_loss(built.merged, built.pairs)
    built.start()
    gt.save_merged(built.merged, tmp_path / "losses")

    planned, there = scene_of(tmp_path / "pairs"), scene_of(tmp_path / "losses")
    assert [pair.teacher.name for pair in planned.pairs] == [
        pair.teacher.name for pair in built.pairs
    ]
    assert board_of(planned).headline[0] == f"merged, {len(built.pairs)} pairs"
    assert board_of(there).headline[0] == f"{len(built.pairs)} pairs in the loss"
    live = [(pair.teacher.name, pair.loss, pair.adapter) for pair in scene_of(built.merged).pairs]
    assert [(pair.teacher.name, pair.loss, pair.adapter) for pair in there.pairs] == live
    loaded = gt.load_merged(tmp_path / "losses", scope=paddle.static.Scope())
    assert [(pair.teacher.name, pair.loss, pair.adapter) for pair in loaded.losses] == live
    assert "losses" not in (tmp_path / "pairs" / "manifest.json").read_text("utf-8")


@pytest.mark.pir
@pytest.mark.slow
def test_of_two_teachers_the_one_asked_for_is_drawn_and_the_other_is_told(tmp_path: Path) -> None:
    import paddle

    from tests.losses.networks import convolutions
    from tests.networks import PlainConvolutions

    first = convolutions()
    big = gt.from_layer(
        lambda: PlainConvolutions([24, 48, 72]), [("image", (3, 32, 32))], train=False
    )
    scope = paddle.static.Scope()
    first.executor.run(big.startup, scope=scope)
    second = gt.merge(
        big,
        first.merged.program,
        {"image": "image"},
        teacher_scope=scope,
        scope=first.scope,
        name_prefix="big_",
    )
    with first.building():
        gt.distill_loss(second, [("add_6", "add_6")])

    for scene in (scene_of(second), scene_of(first.merged)):
        assert "teacher_add_6" not in scene.pairs.student.values
        assert len(scene.pairs.student.operators) == len(first.merged.before.graph.operators)
    notes = board_of(scene_of(second)).notes
    assert notes == ("the teacher merged as `teacher_*` not drawn: a picture has room for one",)
    drawn = [(pair.teacher.name, pair.student.name) for pair in scene_of(second).pairs]
    assert drawn == [("add_6", "add_6")]
    assert len(scene_of(first.merged).pairs) == 0
    gt.save_merged(second, tmp_path / "two")
    assert scene_of(tmp_path / "two").merge == scene_of(second).merge


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")

    with pytest.raises(gt.ReadError) as refused:
        gt.render(tmp_path)

    assert [found.code for found in refused.value.report] == ["GT613"]


def test_a_picture_compares_the_shapes_of_a_pair_itself(cnn: Graph) -> None:
    pairs = gt.suggest_pairs(cnn, cnn)
    unknown = tuple(replace(pair, relation=Relation.UNKNOWN) for pair in pairs)
    by_hand = board_of(Scene(pairs=replace(pairs, pairs=unknown)))

    assert by_hand.pills == board_of(Scene(pairs=pairs)).pills
    assert {"5 = 5", "4 = 4"} <= {tag.text for pill in by_hand.pills for tag in pill.tags}


def test_pairs_alone_are_counted(cnn: Graph) -> None:
    pairs = PairSet(teacher=cnn, student=cnn, pairs=())

    assert board_of(Scene(pairs=pairs)).headline == ("0 pairs", "teacher ← student")
