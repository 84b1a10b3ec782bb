"""`graphtool suggest-pairs`."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from graphtool.matching import PresetName
from graphtool.structure import Tap

Run = Callable[..., Any]


def test_the_json_is_the_contract_down_to_the_order_of_its_keys(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    data = run("suggest-pairs", cnn, old_cnn, "--json").json
    (pair,) = run("suggest-pairs", cnn, cnn, "--json", "--limit", "1").json["pairs"]
    end = {
        "name": "add_2",
        "op": "pd_op.add",
        "op_index": 40,
        "output": 0,
        "module": "/Cnn/Linear",
        "layer": None,
        "shape": [-1, 5],
        "dtype": "float32",
    }

    assert pair == {
        "rank": 1,
        "score": 1.0,
        "kind": "logits",
        "teacher": end,
        "student": end,
        "relation": "equal",
        "adapter": None,
        "loss": "soft_label",
        "why": ["the output of the last weighted operator in both", "both 5 classes"],
        "warnings": [],
        "weight": 1.0,
        "alternatives": [],
        "cka": None,
    }
    assert list(data) == ["schema", "pairs"]
    assert data["schema"] == 1
    assert [one["rank"] for one in data["pairs"]] == [1, 2, 3, 4, 5]
    for one in data["pairs"]:
        assert list(one)[:8] == snapshot(
            ["rank", "score", "kind", "teacher", "student", "relation", "adapter", "loss"]
        )
        assert list(one)[8:] == snapshot(["why", "warnings", "weight", "alternatives", "cka"])
        assert list(one["teacher"]) == list(one["student"]) == list(end)


def test_text_that_is_piped_has_one_whole_line_for_each_pair(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    result = run("suggest-pairs", cnn, old_cnn)

    assert result.status == 0
    assert [cells[0] for cells in result.cells[:3]] == ["network", "teacher", "student"]
    assert re.sub(r"\|[^|]*$", "", result.table(4), flags=re.MULTILINE) == snapshot("""\
rank|kind|teacher|shape|layer or module|student|shape|relation|adapter|loss
1|logits|add_2|[?, 5]|/Cnn/Linear|linear_1.tmp_1|[?, 5]|equal|-|soft_label
2|embedding|flatten_0|[?, 4]|/Cnn|flatten_0.tmp_0|[?, 4]|equal|-|l2
3|stage|relu_2|[?, 4, 4, 4]|/Cnn/Residual|relu_2.tmp_0|[?, 4, 4, 4]|equal|-|l2
4|stage|relu_0|[?, 4, 8, 8]|/Cnn|relu_0.tmp_0|[?, 4, 8, 8]|equal|-|l2
5|feature|conv2d_2|[?, 4, 4, 4]|/Cnn/Residual/Conv2D_1|conv2d_5.tmp_0|[?, 4, 4, 4]|equal|-|l2""")
    assert result.cells[5][-1] == "the output of the last weighted operator in both; both 5 classes"


def test_for_ranks_the_partners_of_one_teacher_value_by_either_spelling(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    by_name = run("suggest-pairs", cnn, old_cnn, "--for", "relu_2", "--json").json["pairs"]
    by_legacy_name = run("suggest-pairs", old_cnn, cnn, "--for", "relu_2.tmp_0", "--json")

    assert {pair["teacher"]["name"] for pair in by_name} == {"relu_2"}
    assert [pair["student"]["name"] for pair in by_name] == ["relu_2.tmp_0", "relu_0.tmp_0"]
    assert by_legacy_name.json["pairs"][0]["student"]["name"] == "relu_2"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("relu_22", ("error[GT101] unknown-name: no Value is called `relu_22`\n", "`relu_2`")),
        ("fc", ("the program has no attribute paths (`layer4.2`)", "cnn.json --all\n")),
    ],
)
def test_for_a_name_that_is_not_there_names_the_nearest_three(
    run: Run, cnn: Path, name: str, parts: tuple[str, ...]
) -> None:
    result = run("suggest-pairs", cnn, cnn, "--for", name)

    result.assert_refused(1, *parts)
    assert next(line for line in result.err.splitlines() if "nearest: " in line).count("`") == 6


def test_match_shape_groups_both_networks_by_shape(run: Run, cnn: Path, old_cnn: Path) -> None:
    result = run("suggest-pairs", cnn, old_cnn, "--match", "shape", "--limit", "1")
    data = run("suggest-pairs", cnn, old_cnn, "--match", "shape", "--json").json

    assert result.table(0, -1) == snapshot("""\
shape|teacher|student
[?, 4, 8, 8]|conv2d_0|/Cnn/Conv2D|conv2d_3.tmp_0
add_0|/Cnn/Conv2D|conv2d_3.tmp_1
batch_norm_0|/Cnn/BatchNorm2D|batch_norm_0.tmp_2
relu_0|/Cnn|relu_0.tmp_0""")
    assert result.lines[-1].endswith("hidden: --limit 5 shows them")
    assert data["groups"][0]["shape"] == [-1, 4, 8, 8]
    assert [end["name"] for end in data["groups"][0]["student"]] == [
        *("conv2d_3.tmp_0", "conv2d_3.tmp_1", "batch_norm_0.tmp_2", "relu_0.tmp_0")
    ]


def test_networks_with_nothing_in_common_are_warned_of_on_stderr(
    run: Run, cnn: Path, fixtures: Path
) -> None:
    result = run("suggest-pairs", cnn, fixtures / "3.3.1" / "encoder.json", "--json")

    assert (result.status, result.json["pairs"]) == (0, [])
    assert result.err.startswith("warning[GT301] nothing-in-common: ")


def test_warnings_stand_below_the_table_with_the_pairs_they_are_about(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    student = tmp_path / "eight.json"
    eight = cnn.read_text().replace("[4,5]", "[4,8]").replace("[-1,5]", "[-1,8]")
    student.write_text(eight.replace("[5]", "[8]"))

    assert run("suggest-pairs", cnn, student).lines[-1] == snapshot(
        "warning pair 5: 5 against 8 classes: the logits cannot be compared one to one"
    )


def test_a_recipe_is_written_beside_the_output_and_replaced_with_force_alone(
    run: Run, cnn: Path, folder: Path
) -> None:
    recipe, argv = folder / "pairs.toml", ("suggest-pairs", cnn, cnn, "-o", "pairs.toml")

    result = run(*argv, "--json")
    assert (result.status, result.err) == (0, "wrote pairs.toml: 5 pairs\n")
    assert len(result.json["pairs"]) == 5
    assert "\nschema = 1\n" in recipe.read_text()

    recipe.write_text("# mine\n")
    refused = run(*argv)
    refused.assert_refused(2, "error[GT604]", "  = help: --force, or -o pairs-2.toml\n")
    assert recipe.read_text() == "# mine\n"

    result = run(*argv, "--force")
    assert (result.status, result.err) == (0, "replaced pairs.toml: 5 pairs\n")
    assert recipe.read_text().startswith("# A recipe of graphtool")


def test_a_recipe_that_cannot_be_written_is_an_error_and_leaves_nothing(
    run: Run, cnn: Path, folder: Path
) -> None:
    for path, fix in (("no-folder/pairs.toml", "mkdir -p no-folder"), ("/dev/full", "df -h /dev")):
        result = run("suggest-pairs", cnn, cnn, "-o", path)
        assert result.status == 1
        assert "error[GT601] unwritable-output: " in result.err
        assert result.err.endswith(f"  = help: {fix}\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("written", [("-o", "pairs.toml"), ("--as", "paddleclas")])
def test_partners_to_choose_from_are_not_written_as_pairs_to_train(
    run: Run, cnn: Path, folder: Path, written: tuple[str, str]
) -> None:
    argv = ("suggest-pairs", cnn, cnn, "--for", "relu_2")

    run(*argv, *written).assert_refused(2, "\n  = help: add --limit 1, which keeps the first\n")
    assert list(folder.iterdir()) == []
    assert run(*argv, "--limit", "1", "-o", "pairs.toml").status == 0
    assert (folder / "pairs.toml").read_text().count("[[pairs]]") == 1


@pytest.mark.parametrize(("option", "closed"), [("--recipe", PresetName), ("--tap", Tap)])
@pytest.mark.slow
def test_an_unknown_form_or_tap_is_answered_with_those_there_are_and_a_command(
    run: Run, cnn: Path, option: str, closed: type[Enum]
) -> None:
    run("suggest-pairs", cnn, cnn, option, "bogus").assert_refused(
        2,
        f"error[GT600] wrong-usage: argument {option}: invalid choice",
        *(member.value for member in closed),
        "  = help: graphtool suggest-pairs --help",
    )
    for member in closed:
        assert run("suggest-pairs", cnn, cnn, option, member.value, "--limit", "1").status != 2


@pytest.mark.slow
def test_layers_are_read_with_one_input_for_both_or_one_for_each(run: Run) -> None:
    models = "paddle.vision.models:resnet18", "paddle.vision.models:mobilenet_v1"
    argv = ("suggest-pairs", *models, "--input", "3,64,64", "--json")
    both = run(*argv).json["pairs"]
    each = run(*argv, "--student-input", "3,96,96").json["pairs"]

    assert [pair["student"]["layer"] for pair in both[2:4]] == ["conv6", "conv5_5"]
    assert [pair["teacher"]["shape"] for pair in each] == [x["teacher"]["shape"] for x in both]
    assert both[2]["student"]["shape"] == [-1, 1024, 2, 2]
    assert each[2]["student"]["shape"] == [-1, 1024, 3, 3]


@pytest.mark.slow
def test_as_prints_a_configuration_with_attribute_paths(run: Run) -> None:
    models = ("paddle.vision.models:resnet18",) * 2
    result = run("suggest-pairs", *models, "--input", "3,64,64", "--as", "paddleclas")

    assert result.status == 0
    assert "t_key: layer4[1]" in result.out
