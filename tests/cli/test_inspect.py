"""`graphtool inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("typed", "code", "help"),
    [
        ("nets.py", "GT004", "graphtool inspect nets:CALLABLE --input 3,224,224"),
        ("nets.py:Net", "GT036", "graphtool inspect nets:Net --input 3,224,224"),
    ],
)
def test_a_file_of_python_is_spelt_as_it_is_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: str, help: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text("class Net:\n    pass\n")
    result = run("inspect", typed)

    assert f"error[{code}]" in result.err
    assert result.err.endswith(f"  = help: {help}\n")


def test_the_summary_of_a_pir_file_names_kind_feeds_operators_and_costs(
    run: Run, cnn: Path
) -> None:
    result = run("inspect", cnn)

    assert result.status == 0
    assert result.err == ""
    assert result.lines[0] == str(cnn)
    assert [result.cells[line] for line in (2, 3, 4, 6, 7)] == snapshot(
        [
            ["program", "PIR, format version 4"],
            ["feeds", "image", "[?, 3, 16, 16] float32"],
            ["fetches", "add_2", "[?, 5] float32"],
            ["parameters", "449, and 24 running statistics"],
            ["multiply-adds", "11.5 k for one sample"],
        ]
    )
    assert result.row("operators").endswith("2 pool2d, 1 data, and 6 other types")
    assert result.cells[10:13] == snapshot(
        [
            ["stage", "resolution", "H × W", "blocks", "channels", "multiply-adds", "last output"],
            ["1", "1/2", "8 × 8", "1", "4", "60%", "relu_0"],
            ["2", "1/4", "4 × 4", "1", "4", "40%", "relu_2"],
        ]
    )


def test_the_values_shown_first_are_those_worth_pairing(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn)

    assert result.cells[14:] == snapshot(
        [
            [
                "name",
                "operator",
                "shape",
                "dtype",
                "role",
                "stage",
                "resolution",
                "depth",
                "cost so far",
                "layer or module",
            ],
            [
                "relu_0",
                "pd_op.relu",
                "[?, 4, 8, 8]",
                "float32",
                "stage end",
                "1",
                "1/2",
                "24%",
                "60%",
                "/Cnn",
            ],
            [
                "relu_2",
                "pd_op.relu",
                "[?, 4, 4, 4]",
                "float32",
                "stage end",
                "2",
                "1/4",
                "71%",
                "100%",
                "/Cnn/Residual",
            ],
            [
                "flatten_0",
                "pd_op.flatten",
                "[?, 4]",
                "float32",
                "embedding",
                "global",
                "82%",
                "100%",
                "/Cnn",
            ],
            [
                "add_2",
                "pd_op.add",
                "[?, 5]",
                "float32",
                "logits",
                "global",
                "100%",
                "100%",
                "/Cnn/Linear",
            ],
            ["feature maps worth pairing: 4 of 58 Values; --all shows all"],
        ]
    )


def test_a_legacy_file_is_summed_up_in_the_same_words(run: Run, old_cnn: Path) -> None:
    result = run("inspect", old_cnn)

    assert result.row("program") == "program        legacy, format version 2.6.2"
    assert result.row("parameters") == "parameters     449, and 24 running statistics"
    assert result.row("relu_2.tmp_0").split()[1:8] == snapshot(
        ["relu", "[?,", "4,", "4,", "4]", "float32", "stage"]
    )


def test_blocks_of_control_flow_are_counted(run: Run, fixtures: Path) -> None:
    result = run("inspect", fixtures / "3.3.1" / "control.json")

    assert result.row("operators").startswith("operators      36 in 4 blocks: 9 full, ")


def test_a_training_program_says_that_it_is_one(run: Run, fixtures: Path) -> None:
    pir = run("inspect", fixtures / "3.3.1" / "training.json")
    legacy = run("inspect", fixtures / "2.6.2" / "training.pdmodel")

    assert "for training: 21 operators compute gradients" in pir.row("program")
    assert "for training: 23 operators compute gradients" in legacy.row("program")


def test_a_file_of_unknown_size_says_that_its_multiply_adds_are_nominal(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    text = cnn.read_text()
    for known in ("16,16", "8,8", "4,4", "1,1"):
        text = text.replace(f"[-1,3,{known}]", "[-1,3,-1,-1]")
        text = text.replace(f"[-1,4,{known}]", "[-1,4,-1,-1]")
    model = tmp_path / "unknown.json"
    model.write_text(text)

    assert run("inspect", model).row("multiply-adds") == snapshot(
        "multiply-adds  ≈ 2.26 M for one sample (unknown sizes taken as 224 × 224, lengths as 128)"
    )


def test_shape_matches_with_any_size_for_a_question_mark_and_for_minus_one(
    run: Run, cnn: Path
) -> None:
    spellings = ["?,4,4,4", "-1,4,4,4", "[?, 4, 4, 4]", "[-1, 4, 4, 4]"]
    found = [
        [line.split()[0] for line in run("inspect", cnn, "--shape", spelling).lines]
        for spelling in spellings
    ]

    assert found == [found[0]] * 4
    assert found[0] == snapshot(
        [
            "name",
            "pool2d_0",
            "conv2d_1",
            "batch_norm_1",
            "relu_1",
            "conv2d_2",
            "batch_norm_2",
            "add_1",
            "relu_2",
        ]
    )


@pytest.mark.parametrize("spelling", ["add", "pd_op.add", "elementwise_add", "?dd"])
def test_op_takes_either_spelling_of_a_type_and_patterns(
    run: Run, cnn: Path, old_cnn: Path, spelling: str
) -> None:
    model = old_cnn if spelling == "elementwise_add" else cnn

    assert len(run("inspect", model, "--op", spelling).lines) == 1 + 3


@pytest.mark.slow
def test_side_results_of_a_normalisation_are_left_out_until_all_is_asked_for(
    run: Run, cnn: Path
) -> None:
    some = run("inspect", cnn, "--op", "batch_norm")
    everything = run("inspect", cnn, "--op", "batch_norm", "--all")

    assert len(some.lines) == 1 + 3 + 1
    assert some.lines[-1] == "15 side results left out: --all shows them"
    assert len(everything.lines) == 1 + 18


def test_name_matches_parameters_and_module_paths(run: Run, cnn: Path) -> None:
    by_name = run("inspect", cnn, "--name", "conv2d_0.*")
    by_module = run("inspect", cnn, "--name", "/Cnn/Residual/Conv2D*")

    assert by_name.row("conv2d_0.w_0").split()[1:3] == ["builtin.parameter", "[4,"]
    assert [line.split()[0] for line in by_module.lines[1:]] == ["conv2d_1", "conv2d_2"]


@pytest.mark.slow
def test_stage_counts_from_one(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--stage", "2")

    assert [line.split()[0] for line in result.lines[1:]] == ["pool2d_0", "add_1", "relu_2"]


@pytest.mark.slow
def test_a_stem_has_no_number(run: Run) -> None:
    """The stage behind it is the first, as in the reasons of `suggest-pairs`."""
    argv = ("inspect", "paddle.vision.models:resnet18", "--input", "3,64,64")

    assert [row[0] for row in run(*argv).cells[11:16]] == ["stem", "1", "2", "3", "4"]
    assert run(*argv, "--stage", "stem").lines[-1].startswith("relu_0 ")
    assert [stage["stage"] for stage in run(*argv, "--json").json["stages"]] == [0, 1, 2, 3, 4]
    assert "  = note: stages: stem, 1, 2, 3, 4\n" in run(*argv, "--stage", "5").err


def test_wishes_hold_together(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--op", "relu", "--shape", "?,4,8,8")

    assert [line.split()[0] for line in result.lines[1:]] == ["relu_0"]


@pytest.mark.parametrize("filter_", [("--op", "conv2d"), ("--stage", "1")])
def test_parameters_have_no_operator_and_no_stage(
    run: Run, cnn: Path, filter_: tuple[str, str]
) -> None:
    result = run("inspect", cnn, "--params", *filter_)

    assert (result.status, result.out) == (2, "")
    assert f"argument --params: not allowed with argument {filter_[0]}" in result.err


def test_rows_beyond_the_limit_are_counted_and_the_way_to_them_is_said(run: Run, cnn: Path) -> None:
    folded = run("inspect", cnn, "--params", "--limit", "2")
    whole = run("inspect", cnn, "--params", "--limit", "18")

    assert len(folded.lines) == 1 + 2 + 1
    assert folded.lines[-1] == "16 more rows hidden: --limit 18, or --all, shows them"
    assert len(whole.lines) == 1 + 18


@pytest.mark.slow
def test_all_lists_every_value_beyond_the_usual_limit(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--name", "*")
    everything = run("inspect", cnn, "--name", "*", "--all")

    assert len(everything.lines) == 1 + 58
    assert result.lines[-2] == "2 more rows hidden: --limit 42, or --all, shows them"


def test_json_has_the_summary_and_every_value(run: Run, cnn: Path) -> None:
    data = run("inspect", cnn, "--format", "json").json

    assert len(data["values"]) == 58
    assert data["multiply_adds"] == {"count": 11540, "exact": True}
    assert (data["parameters"], data["running_statistics"]) == (449, 24)
    assert data["operators"]["conv2d"] == 3
    assert data["stages"][1] == snapshot(
        {
            "stage": 2,
            "resolution": "1/4",
            "size": [4, 4],
            "channels": 4,
            "multiply_adds_before_end": 0.9982668977469671,
            "blocks": ["relu_2"],
        }
    )
    assert [row for row in data["values"] if row["name"] == "relu_2"] == snapshot(
        [
            {
                "name": "relu_2",
                "op": "pd_op.relu",
                "op_index": 33,
                "output": 0,
                "module": "/Cnn/Residual",
                "layer": None,
                "shape": [-1, 4, 4, 4],
                "dtype": "float32",
                "aliases": [],
                "role": "stage end",
                "stage": 2,
                "resolution": "1/4",
                "depth": 0.7058823529411765,
                "multiply_adds_before": 0.9982668977469671,
                "main_line": True,
            }
        ]
    )


def test_json_keeps_to_the_wishes(run: Run, cnn: Path) -> None:
    data = run("inspect", cnn, "--format", "json", "--op", "relu", "--limit", "2").json

    assert [row["name"] for row in data["values"]] == ["relu_0", "relu_1"]


def test_an_operator_type_that_is_not_there_names_the_nearest(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--op", "conf2d")

    assert (result.status, result.out) == (1, "")
    assert result.err.replace(str(cnn), "cnn.json") == snapshot("""\
error[GT101] unknown-name: no Value has an operator of type `conf2d`
  --> cnn.json
  = note: nearest: `conv2d`, `pool2d`, `batch_norm`
  = help: graphtool inspect cnn.json --op conv2d
""")


def test_a_name_that_fits_nothing_names_the_nearest(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--name", "rello_2")

    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[0] == snapshot(
        "error[GT101] unknown-name: no Value has the name `rello_2`"
    )
    assert "  = note: nearest: `relu_2`" in result.err


@pytest.mark.pir
def test_probabilities_go_by_the_name_of_their_value(
    run: Run, module: Callable[[str, str], None]
) -> None:
    module(
        "legacy_softmax",
        "import paddle\n"
        "def program():\n"
        "    with paddle.pir_utils.OldIrGuard():\n"
        "        main = paddle.static.Program()\n"
        "        with paddle.static.program_guard(main, paddle.static.Program()):\n"
        "            x = paddle.static.data('x', [-1, 8])\n"
        "            x = paddle.static.nn.fc(paddle.nn.functional.relu(x), 4)\n"
        "            paddle.nn.functional.softmax(x, name='odds')\n"
        "        return main\n",
    )
    result = run("inspect", "legacy_softmax:program", "--format", "json")

    (head,) = result.json["heads"]
    assert (head["output"], head["normalised_by"]) == ("odds.tmp_0", "odds.tmp_0")
    shown = run("inspect", "legacy_softmax:program").row("head")
    assert "normalised by odds.tmp_0" in shown


def test_a_stage_beyond_the_last_is_an_error(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn, "--stage", "3")

    assert result.status == 1
    assert result.err.splitlines()[0] == snapshot(
        "error[GT101] unknown-name: no Value has the stage `3`"
    )


def test_fields_that_the_reader_does_not_know_are_a_warning(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    document = json.loads(cnn.read_text())
    document["program"]["regions"][0]["blocks"][0]["ops"][-1]["XX"] = 1
    model = tmp_path / "newer.json"
    model.write_text(json.dumps(document))

    result = run("inspect", model)

    assert result.status == 0
    assert result.err.splitlines()[0] == snapshot(
        "warning[GT005] unknown-version: the file has unknown fields: operator field `XX`"
    )


def test_a_missing_file_is_an_error_with_exit_status_1(run: Run) -> None:
    result = run("inspect", "no-such-model.json")

    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[0] == (
        "error[GT001] no-such-path: `no-such-model.json` does not exist"
    )


@pytest.mark.pir
@pytest.mark.slow
def test_a_layer_is_read_with_its_attribute_paths(run: Run) -> None:
    result = run("inspect", "paddle.vision.models:resnet18", "--input", "3,64,64")

    assert result.row("parameters") == "parameters     11,689,512, and 9,600 running statistics"
    assert result.row("relu_16").split()[-1] == "layer4.1"
    assert Path("paddle.vision.models:resnet18").name in result.lines[0]


@pytest.mark.pir
@pytest.mark.slow
def test_a_stage_is_shown_with_what_is_behind_its_last_block(run: Run) -> None:
    network = "tests.networks:convolved_before_its_classifier"
    cells = run("inspect", network, "--input", "3,64,64").cells

    assert [row[4:6] for row in cells if row[-1:] == ["concat_2"]][:1] == [["8 → 32", "3%"]]
