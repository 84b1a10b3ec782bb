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
    ("typed", "status", "code", "meant"),
    [("nets.py", 1, "GT004", "nets:CALLABLE"), ("nets.py:Net", 2, "GT036", "nets:Net")],
)
def test_a_file_of_python_is_spelt_as_it_is_imported(
    run: Run, folder: Path, typed: str, status: int, code: str, meant: str
) -> None:
    (folder / "nets.py").write_text("class Net:\n    pass\n")
    fix = f"  = help: graphtool inspect {meant} --input 3,224,224\n"

    run("inspect", typed).assert_refused(status, f"error[{code}]", fix)


def test_a_file_has_a_summary_stages_and_the_values_worth_pairing(run: Run, cnn: Path) -> None:
    result = run("inspect", cnn)

    assert (result.status, result.err, result.lines[0]) == (0, "", str(cnn))
    assert result.table(2, 5) == snapshot("""\
program|PIR, format version 4
feeds|image|[?, 3, 16, 16] float32
fetches|add_2|[?, 5] float32""")
    assert result.table(6) == snapshot("""\
parameters|449, and 24 running statistics
multiply-adds|11.5 k for one sample
read as|2 stages
head|logits add_2 [?, 5], embedding flatten_0 [?, 4]

stage|resolution|H × W|blocks|channels|multiply-adds|last output
1|1/2|8 × 8|1|4|60%|relu_0
2|1/4|4 × 4|1|4|40%|relu_2

name|operator|shape|dtype|role|stage|resolution|depth|cost so far|layer or module
relu_0|pd_op.relu|[?, 4, 8, 8]|float32|stage end|1|1/2|24%|60%|/Cnn
relu_2|pd_op.relu|[?, 4, 4, 4]|float32|stage end|2|1/4|71%|100%|/Cnn/Residual
flatten_0|pd_op.flatten|[?, 4]|float32|embedding|global|82%|100%|/Cnn
add_2|pd_op.add|[?, 5]|float32|logits|global|100%|100%|/Cnn/Linear
feature maps worth pairing: 4 of 58 Values; --all shows all""")
    assert result.row("operators").endswith("2 pool2d, 1 data, and 6 other types")


@pytest.mark.parametrize(
    ("file", "title", "said"),
    [
        ("2.6.2/cnn.pdmodel", "program", "legacy, format version 2.6.2"),
        ("2.6.2/cnn.pdmodel", "parameters", "449, and 24 running statistics"),
        ("2.6.2/cnn.pdmodel", "relu_2.tmp_0", "[?, 4, 4, 4]  float32  stage end"),
        ("3.3.1/control.json", "operators", "36 in 4 blocks: 9 full, "),
        ("3.3.1/training.json", "program", "for training: 21 operators compute gradients"),
        ("2.6.2/training.pdmodel", "program", "for training: 23 operators compute gradients"),
    ],
)
def test_legacy_files_control_flow_and_training_are_summed_up_in_the_same_words(
    run: Run, fixtures: Path, file: str, title: str, said: str
) -> None:
    assert said in run("inspect", fixtures / file).row(title)


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


OF_4X4 = "pool2d_0 conv2d_1 batch_norm_1 relu_1 conv2d_2 batch_norm_2 add_1 relu_2"
ADDED = "add_0 add_1 add_2"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("--shape", "?,4,4,4"), OF_4X4),
        (("--shape", "-1,4,4,4"), OF_4X4),
        (("--shape", "[?, 4, 4, 4]"), OF_4X4),
        (("--shape", "[-1, 4, 4, 4]"), OF_4X4),
        (("--op", "add"), ADDED),
        (("--op", "pd_op.add"), ADDED),
        (("--op", "?dd"), ADDED),
        (("--name", "/Cnn/Residual/Conv2D*"), "conv2d_1 conv2d_2"),
        (("--stage", "2"), "pool2d_0 add_1 relu_2"),
        (("--op", "relu", "--shape", "?,4,8,8"), "relu_0"),
    ],
)
def test_values_are_filtered(run: Run, cnn: Path, filters: tuple[str, ...], names: str) -> None:
    assert run("inspect", cnn, *filters).names == names.split()


def test_parameters_go_by_name_and_types_by_their_legacy_spelling(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    by_name = run("inspect", cnn, "--name", "conv2d_0.*")

    assert by_name.row("conv2d_0.w_0").split()[1:3] == ["builtin.parameter", "[4,"]
    assert len(run("inspect", old_cnn, "--op", "elementwise_add").names) == 3


@pytest.mark.slow
def test_side_results_of_a_normalisation_are_left_out_until_all_is_asked_for(
    run: Run, cnn: Path
) -> None:
    some = run("inspect", cnn, "--op", "batch_norm")

    assert len(some.lines) == 1 + 3 + 1
    assert some.lines[-1] == "15 side results left out: --all shows them"
    assert len(run("inspect", cnn, "--op", "batch_norm", "--all").names) == 18


@pytest.mark.slow
def test_a_stem_has_no_number(run: Run) -> None:
    """The stage behind it is the first, as in the reasons of `suggest-pairs`."""
    argv = ("inspect", "paddle.vision.models:resnet18", "--input", "3,64,64")

    assert [row[0] for row in run(*argv).cells[12:17]] == ["stem", "1", "2", "3", "4"]
    assert run(*argv, "--stage", "stem").lines[-1].startswith("relu_0 ")
    assert [stage["stage"] for stage in run(*argv, "--json").json["stages"]] == [0, 1, 2, 3, 4]
    assert "  = note: stages: stem, 1, 2, 3, 4\n" in run(*argv, "--stage", "5").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--op conf2d", "error[GT101] unknown-name: no Value has an operator of type `conf2d`"),
        ("--op conf2d", "  = note: nearest: `conv2d`, `pool2d`, `batch_norm`\n"),
        ("--op conf2d", "  = help: graphtool inspect cnn.json --op conv2d\n"),
        ("--name rello_2", "error[GT101] unknown-name: no Value has the name `rello_2`\n"),
        ("--name rello_2", "  = note: nearest: `relu_2`"),
        ("--stage 3", "error[GT101] unknown-name: no Value has the stage `3`\n"),
        ("--stage 3", "  = note: stages: 1, 2\n  = help: graphtool inspect cnn.json --all\n"),
        ("--stage 1 --op relu --name add*", " has the name `add*` and an operator of type `re"),
    ],
)
def test_filters_that_nothing_matches_name_what_is_near(
    run: Run, cnn: Path, monkeypatch: pytest.MonkeyPatch, options: str, message: str
) -> None:
    monkeypatch.chdir(cnn.parent)

    run("inspect", "cnn.json", *options.split()).assert_refused(1, message)


@pytest.mark.slow
def test_rows_beyond_the_limit_are_counted_and_the_way_to_them_is_said(run: Run, cnn: Path) -> None:
    few = run("inspect", cnn, "--params", "--limit", "2")
    usual = run("inspect", cnn, "--name", "*")

    assert len(few.lines) == 1 + 2 + 1
    assert few.lines[-1] == "16 more rows hidden: --limit 18, or --all, shows them"
    assert len(run("inspect", cnn, "--params", "--limit", "18").names) == 18
    assert usual.lines[-2] == "2 more rows hidden: --limit 42, or --all, shows them"
    assert len(run("inspect", cnn, "--name", "*", "--all").names) == 58


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
    some = run("inspect", cnn, "--format", "json", "--op", "relu", "--limit", "2").json
    assert [row["name"] for row in some["values"]] == ["relu_0", "relu_1"]


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

    (head,) = run("inspect", "legacy_softmax:program", "--format", "json").json["heads"]
    assert (head["output"], head["normalised_by"]) == ("odds.tmp_0", "odds.tmp_0")
    assert "normalised by odds.tmp_0" in run("inspect", "legacy_softmax:program").row("head")


def test_fields_that_the_reader_does_not_know_are_a_warning(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    document = json.loads(cnn.read_text())
    document["program"]["regions"][0]["blocks"][0]["ops"][-1]["XX"] = 1
    model = tmp_path / "newer.json"
    model.write_text(json.dumps(document))

    result = run("inspect", model)

    assert result.status == 0
    assert result.err.splitlines()[0] == (
        "warning[GT005] unknown-version: the file has unknown fields: operator field `XX`"
    )


@pytest.mark.pir
@pytest.mark.slow
def test_a_layer_is_read_with_its_attribute_paths(run: Run) -> None:
    result = run("inspect", "paddle.vision.models:resnet18", "--input", "3,64,64")

    assert result.row("parameters") == "parameters     11,689,512, and 9,600 running statistics"
    assert result.row("relu_16").split()[-1] == "layer4.1"
    assert result.lines[0] == "paddle.vision.models:resnet18"


@pytest.mark.pir
@pytest.mark.slow
def test_a_stage_is_shown_with_what_is_behind_its_last_block(run: Run) -> None:
    network = "tests.networks:convolved_before_its_classifier"
    cells = run("inspect", network, "--input", "3,64,64").cells

    assert [row[4:6] for row in cells if row[-1:] == ["concat_2"]][:1] == [["8 → 32", "3%"]]
