"""Training Programs whose loss is written out pair and export their logits, not the loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool import export_student, suggest_pairs
from graphtool.merging import check_merge
from tests.checks.programs import data, program
from tests.matching import written_losses
from tests.matching.written_losses import LOSSES, WANTED


@pytest.mark.pir
@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_a_written_loss_hides_no_logits(name: str, tmp_path: Path) -> None:
    assert written_losses.outcome(LOSSES[name], tmp_path) == WANTED


def test_paddle_2_6_hides_none_either(tmp_path: Path, on_paddle26: Callable[..., str]) -> None:
    said = on_paddle26("tests.matching.written_losses", str(tmp_path))
    assert json.loads(said) == dict.fromkeys(LOSSES, WANTED)


@pytest.mark.pir
def test_probabilities_that_a_written_loss_reads_are_no_answer() -> None:
    teacher, student = (
        written_losses.network(loss)[0] for loss in (None, LOSSES["logarithm of softmax"])
    )

    assert "GT228" not in [found.code for found in check_merge(teacher, student, {})]


def _detector(*, loss: bool) -> Callable[[], None]:
    def build() -> None:
        shallow = F.relu(nn.Conv2D(3, 8, 3, 2, 1)(data("image", -1, 3, 32, 32)))
        deep = F.relu(nn.Conv2D(8, 16, 3, 2, 1)(shallow))
        maps = [nn.Conv2D(8, 27, 1)(shallow), nn.Conv2D(16, 27, 1)(deep)]
        total: Any = 0.0
        for index, found in enumerate(maps if loss else ()):
            side = found.shape[-1]
            wanted = data(f"wanted{index}", -1, 3, side, side, 9)
            found = found.reshape([-1, 3, 9, side, side]).transpose([0, 1, 3, 4, 2])
            there = wanted[..., 4:5]
            total += (there * (F.sigmoid(found[..., :2]) - wanted[..., :2]) ** 2).mean()
            total += (there * (paddle.exp(found[..., 2:4]) - wanted[..., 2:4]) ** 2).mean()
            total += F.binary_cross_entropy_with_logits(found[..., 4:5], there)
            total += (there * (F.sigmoid(found[..., 5:]) - wanted[..., 5:]) ** 2).mean()

    return build


@pytest.mark.pir
def test_parts_of_a_detectors_map_are_one_answer() -> None:
    plain, trained = (program(_detector(loss=loss))[0] for loss in (False, True))
    pairs = suggest_pairs(plain, trained)

    assert [(pair.kind.value, pair.teacher.name, pair.student.name) for pair in pairs][:2] == [
        ("head", "add_2", "add_2"),
        ("head", "add_3", "add_3"),
    ]
    assert not pairs.report


def _towers(loss: Callable[[Any, Any], Any]) -> Callable[[], None]:
    def build() -> None:
        queries, documents = (
            nn.Linear(8, 6)(F.relu(nn.Linear(4, 8)(data(name, -1, 4))))
            for name in ("query", "document")
        )
        loss(queries, documents)

    return build


def _likeness(queries: Any, documents: Any) -> None:
    likeness = (queries * documents).sum(-1)
    F.softplus(-likeness * (data("label", -1) * 2 - 1)).mean()


@pytest.mark.pir
def test_where_a_loss_does_not_say_the_answer_a_warning_does(tmp_path: Path) -> None:
    main, startup = program(_towers(_likeness))
    plain = program(_towers(lambda *_: None))[0]
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(startup)

    (unclear,) = (x for x in suggest_pairs(plain, main).report if x.code == "GT309")
    with pytest.warns(UserWarning, match="GT631"):
        exported = export_student(main, tmp_path / "student", scope=scope)

    assert str(unclear) == (
        "warning[GT309] unclear-prediction: the student ends in `mean_0`, so its prediction is "
        "unclear: guessed `add_1`, `add_3`\n"
        "  --> student  <Program>  add_1  [-1, 6]\n"
        "  --> student  <Program>  add_3  [-1, 6]\n"
        '  = help: gt.distill_loss(merged, [("add_1", "add_1")])'
    )
    assert (sorted(exported.feeds), exported.fetches) == (["document", "query"], ("add_1", "add_3"))


@pytest.mark.pir
def test_a_loss_on_one_number_for_each_sample_is_said_to_pair_no_logits() -> None:
    def build() -> None:
        weight = paddle.create_parameter([4], "float32")
        scores = paddle.matmul(data("x", -1, 4), weight)
        ((scores - data("label", -1)) ** 2).mean()

    main = program(build)[0]
    found = [x for x in suggest_pairs(main, main).report if x.code == "GT309"]

    assert [diagnostic.message for diagnostic in found] == [
        f"the {role} ends in `mean_0`, so its prediction is unclear: no logits are paired"
        for role in ("teacher", "student")
    ]
    assert found[0].help == "print(*gt.read(program).values)"
