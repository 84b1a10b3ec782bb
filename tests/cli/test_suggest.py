"""`graphtool suggest-pairs`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from graphtool.matching import PresetName
from graphtool.structure import Tap

Run = Callable[..., Any]

PAIR_KEYS = [
    "rank",
    "score",
    "kind",
    "teacher",
    "student",
    "relation",
    "adapter",
    "loss",
    "why",
    "warnings",
    "weight",
    "alternatives",
    "cka",
]
END_KEYS = ["name", "op", "op_index", "output", "module", "layer", "shape", "dtype"]


def test_the_json_is_the_contract_down_to_the_order_of_its_keys(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    data = run("suggest-pairs", cnn, old_cnn, "--json").json

    assert list(data) == ["schema", "pairs"]
    assert data["schema"] == 1
    assert len(data["pairs"]) == 5
    for rank, pair in enumerate(data["pairs"], 1):
        assert list(pair) == PAIR_KEYS
        assert list(pair["teacher"]) == list(pair["student"]) == END_KEYS
        assert pair["rank"] == rank
        assert isinstance(pair["score"], float)


def test_json_and_format_json_print_the_same(run: Run, cnn: Path) -> None:
    short = run("suggest-pairs", cnn, cnn, "--json")
    long = run("suggest-pairs", cnn, cnn, "--format", "json")

    assert short.out == long.out
    assert short.out.isascii()


def test_the_first_pair_of_a_network_with_itself_is_its_logits(run: Run, cnn: Path) -> None:
    (pair,) = run("suggest-pairs", cnn, cnn, "--json", "--limit", "1").json["pairs"]

    assert pair == snapshot(
        {
            "rank": 1,
            "score": 1.0,
            "kind": "logits",
            "teacher": {
                "name": "add_2",
                "op": "pd_op.add",
                "op_index": 40,
                "output": 0,
                "module": "/Cnn/Linear",
                "layer": None,
                "shape": [-1, 5],
                "dtype": "float32",
            },
            "student": {
                "name": "add_2",
                "op": "pd_op.add",
                "op_index": 40,
                "output": 0,
                "module": "/Cnn/Linear",
                "layer": None,
                "shape": [-1, 5],
                "dtype": "float32",
            },
            "relation": "equal",
            "adapter": None,
            "loss": "soft_label",
            "why": ["the output of the last weighted operator in both", "both 5 classes"],
            "warnings": [],
            "weight": 1.0,
            "alternatives": [],
            "cka": None,
        }
    )


def test_text_that_is_piped_has_one_whole_line_for_each_pair(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    result = run("suggest-pairs", cnn, old_cnn)

    assert result.status == 0
    assert [cells[0] for cells in result.cells[:3]] == ["network", "teacher", "student"]
    assert [cells[:-1] for cells in result.cells[4:]] == snapshot(
        [
            [
                "rank",
                "kind",
                "teacher",
                "shape",
                "layer or module",
                "student",
                "shape",
                "relation",
                "adapter",
                "loss",
            ],
            [
                "1",
                "logits",
                "add_2",
                "[?, 5]",
                "/Cnn/Linear",
                "linear_1.tmp_1",
                "[?, 5]",
                "equal",
                "-",
                "soft_label",
            ],
            [
                "2",
                "embedding",
                "flatten_0",
                "[?, 4]",
                "/Cnn",
                "flatten_0.tmp_0",
                "[?, 4]",
                "equal",
                "-",
                "l2",
            ],
            [
                "3",
                "stage",
                "relu_2",
                "[?, 4, 4, 4]",
                "/Cnn/Residual",
                "relu_2.tmp_0",
                "[?, 4, 4, 4]",
                "equal",
                "-",
                "l2",
            ],
            [
                "4",
                "stage",
                "relu_0",
                "[?, 4, 8, 8]",
                "/Cnn",
                "relu_0.tmp_0",
                "[?, 4, 8, 8]",
                "equal",
                "-",
                "l2",
            ],
            [
                "5",
                "feature",
                "conv2d_2",
                "[?, 4, 4, 4]",
                "/Cnn/Residual/Conv2D_1",
                "conv2d_5.tmp_0",
                "[?, 4, 4, 4]",
                "equal",
                "-",
                "l2",
            ],
        ]
    )
    assert result.cells[5][-1] == snapshot(
        "the output of the last weighted operator in both; both 5 classes"
    )


def test_limit_bounds_the_pairs(run: Run, cnn: Path) -> None:
    assert len(run("suggest-pairs", cnn, cnn, "--json", "--limit", "2").json["pairs"]) == 2


def test_for_ranks_the_partners_of_one_teacher_value_by_either_spelling(
    run: Run, cnn: Path, old_cnn: Path
) -> None:
    by_name = run("suggest-pairs", cnn, old_cnn, "--for", "relu_2", "--json").json["pairs"]
    by_legacy_name = run("suggest-pairs", old_cnn, cnn, "--for", "relu_2.tmp_0", "--json")

    assert {pair["teacher"]["name"] for pair in by_name} == {"relu_2"}
    assert [pair["student"]["name"] for pair in by_name] == snapshot(
        ["relu_2.tmp_0", "relu_0.tmp_0"]
    )
    assert by_legacy_name.json["pairs"][0]["student"]["name"] == "relu_2"


def test_for_a_name_that_is_not_there_names_the_nearest(run: Run, cnn: Path) -> None:
    result = run("suggest-pairs", cnn, cnn, "--for", "relu_22")

    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[0] == "error[GT101] unknown-name: no Value is called `relu_22`"
    assert "`relu_2`" in result.err


def test_match_shape_groups_both_networks_by_shape(run: Run, cnn: Path, old_cnn: Path) -> None:
    result = run("suggest-pairs", cnn, old_cnn, "--match", "shape", "--limit", "1")
    data = run("suggest-pairs", cnn, old_cnn, "--match", "shape", "--json").json

    assert result.cells[:-1] == snapshot(
        [
            ["shape", "teacher", "student"],
            ["[?, 4, 8, 8]", "conv2d_0", "/Cnn/Conv2D", "conv2d_3.tmp_0"],
            ["add_0", "/Cnn/Conv2D", "conv2d_3.tmp_1"],
            ["batch_norm_0", "/Cnn/BatchNorm2D", "batch_norm_0.tmp_2"],
            ["relu_0", "/Cnn", "relu_0.tmp_0"],
        ]
    )
    assert result.lines[-1].endswith("hidden: --limit 5 shows them")
    assert data["groups"][0]["shape"] == [-1, 4, 8, 8]
    assert [end["name"] for end in data["groups"][0]["student"]] == snapshot(
        ["conv2d_3.tmp_0", "conv2d_3.tmp_1", "batch_norm_0.tmp_2", "relu_0.tmp_0"]
    )


def test_networks_with_nothing_in_common_are_warned_of_on_stderr(
    run: Run, cnn: Path, fixtures: Path
) -> None:
    result = run("suggest-pairs", cnn, fixtures / "3.3.1" / "encoder.json", "--json")

    assert result.status == 0
    assert result.json["pairs"] == []
    assert result.err.startswith("warning[GT301] nothing-in-common: ")


def test_warnings_stand_below_the_table_with_the_pairs_they_are_about(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    student = tmp_path / "eight.json"
    eight = cnn.read_text().replace("[4,5]", "[4,8]").replace("[-1,5]", "[-1,8]")
    student.write_text(eight.replace("[5]", "[8]"))
    result = run("suggest-pairs", cnn, student)

    assert result.lines[-1] == snapshot(
        "warning pair 5: 5 against 8 classes: the logits cannot be compared one to one"
    )


def test_o_writes_a_recipe_and_still_prints_the_pairs(run: Run, cnn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "pairs.toml"

    result = run("suggest-pairs", cnn, cnn, "-o", recipe, "--json")

    assert result.status == 0
    assert result.err == f"wrote {recipe}: 5 pairs\n"
    assert len(result.json["pairs"]) == 5
    assert "\nschema = 1\n" in recipe.read_text()


def test_a_recipe_that_is_there_is_replaced_with_force_alone(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "pairs.toml"
    recipe.write_text("# mine\n")
    refused = run("suggest-pairs", cnn, cnn, "-o", recipe)

    assert (refused.status, refused.out) == (2, "")
    assert refused.err == (
        f"error[GT604] exists-already: `{recipe}` exists, and may have been edited\n"
        f"  = help: --force, or -o {tmp_path}/pairs-2.toml\n"
    )
    assert recipe.read_text() == "# mine\n"
    result = run("suggest-pairs", cnn, cnn, "-o", recipe, "--force")
    assert (result.status, result.err) == (0, f"replaced {recipe}: 5 pairs\n")
    assert recipe.read_text().startswith("# A recipe of graphtool")


def test_a_recipe_that_cannot_be_written_is_an_error_and_leaves_nothing(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    result = run("suggest-pairs", cnn, cnn, "-o", tmp_path / "no-such-folder" / "pairs.toml")

    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error[GT601] unwritable-output: ")
    assert result.err.endswith(f"  = help: mkdir -p {tmp_path}/no-such-folder\n")
    assert list(tmp_path.iterdir()) == []
    full = run("suggest-pairs", cnn, cnn, "-o", "/dev/full")
    assert full.err.endswith("No space left on device\n  = help: df -h /dev\n")


@pytest.mark.parametrize("written", [("-o", "pairs.toml"), ("--as", "paddleclas")])
def test_partners_to_choose_from_are_not_written_as_pairs_to_train(
    run: Run, cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("suggest-pairs", cnn, cnn, "--for", "relu_2", *written)

    assert (result.status, result.out) == (2, "")
    assert "\n  = help: add --limit 1, which keeps the first\n" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_first_partner_alone_is_written(run: Run, cnn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "pairs.toml"
    result = run("suggest-pairs", cnn, cnn, "--for", "relu_2", "--limit", "1", "-o", recipe)

    assert result.status == 0
    assert recipe.read_text().count("[[pairs]]") == 1


def test_a_name_that_is_like_none_still_has_its_nearest_three(run: Run, cnn: Path) -> None:
    result = run("suggest-pairs", cnn, cnn, "--for", "fc")
    note = next(line for line in result.err.splitlines() if "nearest: " in line)

    assert result.status == 1
    assert note.count("`") == 6
    assert "the program has no attribute paths (`layer4.2`)" in result.err
    assert result.err.endswith(f"= help: graphtool inspect {cnn} --all\n")


@pytest.mark.parametrize(
    "options",
    [
        ("--match", "shape", "--as", "paddleocr"),
        ("--match", "shape", "-o", "pairs.toml"),
        ("--match", "shape", "--for", "relu_0"),
        ("--as", "paddleclas", "--json"),
        ("-o", "pairs.yaml"),
        ("--force",),
        ("--limit", "0"),
        ("--limit", "many"),
        ("--as", "no-such-format"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    run: Run, cnn: Path, options: tuple[str, ...]
) -> None:
    result = run("suggest-pairs", cnn, cnn, *options)

    assert (result.status, result.out) == (2, "")
    assert not list(Path().glob("pairs.*"))


@pytest.mark.parametrize(("option", "closed"), [("--recipe", PresetName), ("--tap", Tap)])
@pytest.mark.slow
def test_an_unknown_form_or_tap_is_answered_with_those_there_are_and_a_command(
    run: Run, cnn: Path, option: str, closed: type[Enum]
) -> None:
    result = run("suggest-pairs", cnn, cnn, option, "bogus")
    message, advice = result.err.splitlines()

    assert (result.status, result.out) == (2, "")
    assert message.startswith(f"error[GT600] wrong-usage: argument {option}: invalid choice")
    assert all(member.value in message for member in closed)
    assert advice == "  = help: graphtool suggest-pairs --help"
    for member in closed:
        assert run("suggest-pairs", cnn, cnn, option, member.value, "--limit", "1").status != 2


@pytest.mark.slow
def test_layers_are_read_with_one_input_for_both_or_one_for_each(run: Run) -> None:
    models = "paddle.vision.models:resnet18", "paddle.vision.models:mobilenet_v1"

    both = run("suggest-pairs", *models, "--input", "3,64,64", "--json").json["pairs"]
    each = run(
        "suggest-pairs", *models, "--input", "3,64,64", "--student-input", "3,96,96", "--json"
    ).json["pairs"]

    assert [pair["student"]["layer"] for pair in both[2:4]] == ["conv6", "conv5_5"]
    assert [pair["teacher"]["shape"] for pair in each] == [x["teacher"]["shape"] for x in both]
    assert both[2]["student"]["shape"] == [-1, 1024, 2, 2]
    assert each[2]["student"]["shape"] == [-1, 1024, 3, 3]


@pytest.mark.slow
def test_as_prints_a_configuration_with_attribute_paths(run: Run) -> None:
    models = "paddle.vision.models:resnet18", "paddle.vision.models:resnet18"

    result = run("suggest-pairs", *models, "--input", "3,64,64", "--as", "paddleclas")

    assert result.status == 0
    assert "t_key: layer4[1]" in result.out
