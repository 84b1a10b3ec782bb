"""What a saved model would do when it is run: it is told, and nothing of it runs for evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paddle
import pytest

import graphtool as gt
from graphtool.diagnostics import PairError, ReadError, Severity
from graphtool.merging import check_merge
from tests.refused import refused

FIXTURES = Path(__file__).parents[1] / "fixtures"
CNN = (FIXTURES / "3.3.1" / "cnn.json").read_text()
FEEDS = {"image": "image"}
RANDOM: dict[str, Any] = {"evidence": "random", "allow_random": True}


@pytest.mark.parametrize(
    "type", ["save_combine", "load_combine", "read_file", "py_func", "send_v2"]
)
def test_operators_that_do_more_than_compute_are_warned_of(tmp_path: Path, type: str) -> None:
    model = tmp_path / "net.json"
    model.write_text(CNN.replace('"1.relu"', f'"1.{type}"', 1))

    report = check_merge(model, FIXTURES / "3.3.1" / "cnn.json", FEEDS)

    (found,) = [found for found in report if found.code == "GT242"]
    assert found.severity is Severity.WARNING
    assert found.message == f"operators of the teacher have side effects: `pd_op.{type}`"
    assert found.where[0].program == str(model)


def test_networks_that_only_compute_are_not_warned_of() -> None:
    for model in sorted(FIXTURES.glob("3.3.1/*.json")):
        if model.name != "counts.json":
            graph = gt.read(model)
            feeds = {name: name for name in graph.feeds}
            assert "GT242" not in {found.code for found in check_merge(graph, graph, feeds)}


@pytest.mark.pir
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_that_writes_files_is_not_run_for_evidence(tmp_path: Path, role: str) -> None:
    writer, honest = tmp_path / "writer.json", str(FIXTURES / "3.3.1" / "cnn.json")
    writer.write_text(CNN.replace('"1.relu"', '"1.save_combine"', 1))
    sides = {"teacher": honest, "student": honest, role: str(writer)}

    found = refused(PairError, gt.suggest_pairs, *sides.values(), **RANDOM)
    assert (found.code, found.severity, found.message) == (
        "GT242",
        Severity.ERROR,
        f"operators of the {role} have side effects: `pd_op.save_combine`",
    )


def writer(path: Path, target: Path) -> None:
    """Write a legacy model that saves a feature map to a file each time it runs."""
    paddle.enable_static()
    with paddle.pir_utils.OldIrGuard():
        main = paddle.static.Program()
        with paddle.static.program_guard(main, paddle.static.Program()):
            image = paddle.static.data("image", [-1, 3, 8, 8])
            maps = paddle.static.nn.conv2d(image, 4, 3, stride=2)
            for size in (8, 16):
                maps = paddle.nn.functional.relu(paddle.static.nn.conv2d(maps, size, 2))
            # Its output is a map that is read again, so that pruning keeps it.
            attributes = {"file_path": str(target), "overwrite": True}
            block: Any = main.global_block()
            outputs = {"Y": [block.create_var(name="y")]}
            block.append_op(
                type="save_combine", inputs={"X": [maps]}, outputs=outputs, attrs=attributes
            )
        path.write_bytes(main.desc.serialize_to_string())


@pytest.mark.pir
def test_merging_a_model_that_writes_files_writes_none(tmp_path: Path) -> None:
    target = tmp_path / "written"
    writer(tmp_path / "net.pdmodel", target)

    report = check_merge(tmp_path / "net.pdmodel", tmp_path / "net.pdmodel", FEEDS)
    with pytest.raises(PairError, match="GT242"):
        gt.suggest_pairs(*[tmp_path / "net.pdmodel"] * 2, **RANDOM)
    gt.render(gt.suggest_pairs(*[tmp_path / "net.pdmodel"] * 2))

    assert [found.count for found in report if found.code == "GT242"] == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["net.pdmodel"]


@pytest.mark.pir
def test_a_model_that_paddle_refuses_to_open_is_a_diagnostic(tmp_path: Path) -> None:
    document = json.loads(CNN)
    held = {"N": "note", "AT": {"#": "0.a_f64", "D": float("nan")}}
    ops = document["program"]["regions"][0]["blocks"][0]["ops"]
    next(op for op in ops if op["#"] == "1.relu")["A"].append(held)
    model = tmp_path / "net.json"
    model.write_text(json.dumps(document))

    found = refused(ReadError, gt.for_training, model)
    assert (found.code, found.help) == ("GT032", f"graphtool inspect {model}")
    assert found.notes[0].startswith("[json.exception.parse_error.101] parse error at line 1")
    assert gt.read(model).operators


def test_bytes_that_paddle_refuses_are_a_diagnostic(tmp_path: Path) -> None:
    data = (FIXTURES / "3.3.1-legacy" / "cnn.pdmodel").read_bytes()
    model = tmp_path / "net.pdmodel"
    # The version of an operator `x` without its number, which Paddle requires.
    model.write_bytes(data + b"\x2a\x07\x0a\x05\x0a\x01x\x12\x00")

    with pytest.raises(ReadError) as raised:
        gt.suggest_pairs(model, model, **RANDOM)

    assert {found.code for found in raised.value.report} == {"GT032"}
