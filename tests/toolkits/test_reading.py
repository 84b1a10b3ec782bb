"""Pairs read from configurations of PaddleClas and PaddleOCR."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from graphtool.diagnostics import PairError, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet, suggest_pairs
from graphtool.sources import read
from graphtool.toolkits import export, read_recipe

OLD = Path(__file__).parents[1] / "fixtures" / "2.6.2" / "cnn.pdmodel"
Networks = tuple[Graph, Graph]


def read_from(folder: Path, text: str, networks: Networks) -> PairSet:
    path = folder / "config.yml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, teacher=networks[0], student=networks[1]).pairs


def errors(folder: Path, text: str, networks: Networks) -> Any:
    with pytest.raises(PairError) as error:
        read_from(folder, text, networks)
    return error.value.report.errors


def remarks(pairs: PairSet) -> list[tuple[str, str]]:
    """Return place and reason of each remark."""
    assert {found.code for found in pairs.report} <= {"GT325"}
    found = (
        re.fullmatch(r"`.*?(\[[^`]*)`(?: is not a pair)?: (.*)", x.message) for x in pairs.report
    )
    return [(match[1], match[2]) for match in found if match is not None]


def assert_remarks(pairs: PairSet, *expected: tuple[str, str]) -> None:
    found = remarks(pairs)
    assert [place for place, _ in found] == [place for place, _ in expected]
    for (_, reason), (_, words) in zip(found, expected, strict=True):
        assert words in reason


def by_layer(pairs: PairSet) -> list[tuple[str | None, str | None, str]]:
    return [(pair.teacher.layer, pair.student.layer, pair.loss) for pair in pairs]


@pytest.mark.parametrize(
    ("form", "networks"), [("paddleclas", "classifiers"), ("paddleocr", "recognisers")]
)
@pytest.mark.slow
def test_what_is_written_is_read_back_as_the_same_pairs(
    form: str, networks: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    both: Networks = request.getfixturevalue(networks)
    pairs = suggest_pairs(*both)

    found = read_from(tmp_path, export(pairs, form), both)

    suggested = [(one.kind, one.teacher, one.student) for one in pairs]
    ranks = [suggested.index((one.kind, one.teacher, one.student)) for one in found]
    assert len(found) == 2
    assert ranks == sorted(ranks)
    assert {one.loss for one in found} == {"kl", "l2"}


CLAS = """
Global: {input_name: x, input_name: y}
Arch:
  name: "DistillationModel"
  freeze_params_list: [True, False]
  models:
    - Teacher:
        name: ResNet34
        return_patterns: &t_stages ["blocks[0]", "blocks[2]"]
    - Student:
        name: ResNet18
        return_patterns: &s_stages ["blocks[0]", "blocks[2]"]
Loss:
  Train:
    - DistillationGTCELoss: {weight: 1.0, model_names: ["Student"]}
    - DistillationDKDLoss: {weight: 0.5, model_name_pairs: [["Student", "Teacher"]]}
    - DistillationDistanceLoss:
        weight: 2
        key: "blocks[2]"
        model_name_pairs: ["Teacher", "Student"]
    - DistillationPairLoss:
        weight: 25.0
        base_loss_name: MGDLoss
        model_name_pairs: [["Student", "Teacher"]]
        s_key: *s_stages
        t_key: *t_stages
    - DistillationRKDLoss:
        weight: 1.0
        model_name_pairs: [["Student", "Teacher"], ["Student2", "Teacher"]]
        student_keepkeys: ["blocks[1]"]
        teacher_keepkeys: ["blocks[1]"]
    - AFDLoss:
        weight: 50.0
        model_name_pair: ["Student", "Teacher"]
        student_keys: ["bilinear_key", "value"]
        teacher_keys: ["query", "value"]
  Eval:
    - CELoss: {weight: 1.0}
"""


def test_each_loss_of_paddleclas_is_a_pair_or_the_report_says_why_not(
    classifiers: Networks, tmp_path: Path
) -> None:
    """The key given twice under `Global` is not read, and not refused."""
    pairs = read_from(tmp_path, CLAS, classifiers)

    assert by_layer(pairs) == [
        ("head", "head", "dkd"),
        ("blocks.2.2", "blocks.2.2", "l2"),
        ("blocks.0.2", "blocks.0.2", "l2"),
        ("blocks.1.2", "blocks.1.2", "relational"),
    ]
    assert [pair.weight for pair in pairs] == [0.5, 2.0, 25.0, 1.0]
    assert pairs[2].why == ("read from `Loss.Train[3].DistillationPairLoss`",)
    # `DistanceLoss` compares as they are; `MGDLoss` brings layers of its own.
    assert [pair.adapter for pair in pairs] == [None, None, "conv1x1(4->8)", None]
    assert_remarks(
        pairs,
        ("[0].DistillationGTCELoss", "with the labels"),
        ("[1].DistillationDKDLoss", "`temperature: 1`, `beta: 1`, `use_target_as_gt: False`"),
        ("[3].DistillationPairLoss", "`MGDLoss` is not a loss of graphtool; read with `l2`"),
        ("[3].DistillationPairLoss", "it repeats `Loss.Train[2].DistillationDistanceLoss`"),
        ("[4].DistillationRKDLoss", "computes something else; read with `relational`"),
        ("[4].DistillationRKDLoss", "`Student2` and `Teacher` are not a student and its teacher"),
        ("[5].AFDLoss", "it learns which layers go together"),
    )


OCR = """
Loss:
  name: CombinedLoss
  loss_config_list:
  - DistillationDMLLoss:
      {weight: 1.0, act: softmax, key: head_out, model_name_pairs: [["Student", "Teacher"]]}
  - DistillationDMLLoss:
      {key: head_out, multi_head: True, dis_head: ctc, model_name_pairs: [["Student", "Teacher"]]}
  - DistillationDMLLoss:
      model_name_pairs:
      - ["Student", "Student2"]
      maps_name: thrink_maps
      key: maps
  - DistillationDilaDBLoss: {key: maps, model_name_pairs: [["Student", "Teacher"]]}
  - DistillationDistanceLoss:
      {mode: l2, key: neck_out, model_name_pairs: [["Student", "Teacher"]]}
  - DistillationVQADistanceLoss:
      {key: hidden_states_5, model_name_pairs: [["Student", "Teacher"]]}
  - DistillationCTCLoss: {model_name_list: ["Student", "Teacher"], key: head_out}
"""


def test_each_loss_of_paddleocr_is_a_pair_or_the_report_says_why_not(
    recognisers: Networks, tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, OCR, recognisers)

    assert by_layer(pairs) == [("head", "head", "kl"), ("neck", "neck", "l2")]
    assert_remarks(
        pairs,
        ("[0].DistillationDMLLoss", "is not a loss of graphtool and has `act: softmax`"),
        ("[1].DistillationDMLLoss", "it compares a part of a Value, `dis_head: ctc`"),
        ("[2].DistillationDMLLoss", "`Student` and `Student2` are not a student and its teacher"),
        ("[3].DistillationDilaDBLoss", "which Value `maps` is"),
        ("[5].DistillationVQADistanceLoss", "which Value `hidden_states_5` is"),
        ("[6].DistillationCTCLoss", "with the labels"),
    )


def test_a_part_that_a_network_does_not_have_is_not_guessed(
    classifiers: Networks, tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, OCR.replace("neck_out", "backbone_out"), classifiers)

    assert by_layer(pairs) == [("head", "head", "kl")]
    reason = "in the teacher, no sublayer `backbone` is known, which returns `backbone_out`"
    assert ("[4].DistillationDistanceLoss", reason) in remarks(pairs)


def test_a_saved_program_has_outputs_and_no_parts(tmp_path: Path) -> None:
    old = read(OLD)
    (pair,) = read_from(tmp_path, OCR, (old, old))
    assert (pair.teacher.name, pair.loss) == ("linear_1.tmp_1", "kl")


def loss(name: str, options: str = "") -> str:
    networks = 'model_name_pairs: [["Student", "Teacher"]]'
    return f"\nLoss:\n  Train:\n    - {name}: {{weight: 1.0, {networks}, {options}}}\n"


@pytest.mark.parametrize(
    ("name", "options", "nearest", "differs"),
    [
        ("DistillationCELoss", "", "soft_label", None),
        ("DistillationCELoss", "epsilon: 0.1", "soft_label", "has `epsilon: 0.1`"),
        ("DistillationKLDivLoss", "", "kl", None),
        ("DistillationKLDivLoss", "temperature: 4.0", "kl", None),
        ("DistillationKLDivLoss", "temperature: 1.0", "kl", "has `temperature: 1.0`"),
        ("DistillationKLDivLoss", "temprature: 1", "kl", "has `temprature: 1`"),
        ("DistillationDISTLoss", "beta: 1, gamma: 1.0", "dist", None),
        ("DistillationDISTLoss", "gamma: 2", "dist", "has `gamma: 2`"),
        ("DistillationDistanceLoss", "", "l2", None),
        ("DistillationDistanceLoss", "act: null, name: x", "l2", None),
        ("DistillationDistanceLoss", "act: softmax", "l2", "has `act: softmax`"),
        ("DistillationDistanceLoss", "mode: l1, wieght: 2", "l2", "has `mode: l1`, `wieght: 2`"),
        ("DistillationDKDLoss", "temperature: 4, beta: 8.0, use_target_as_gt: True", "dkd", None),
        (
            "DistillationSKDLoss",
            "temperature: 1.0, multiplier: 2.0",
            "skd",
            "adds the loss on labels and has `temperature: 1.0`, `multiplier: 2.0`",
        ),
    ],
)
def test_the_report_names_the_options_by_which_a_loss_differs(
    name: str,
    options: str,
    nearest: str,
    differs: str | None,
    classifiers: Networks,
    tmp_path: Path,
) -> None:
    pairs = read_from(tmp_path, loss(name, options), classifiers)

    assert by_layer(pairs) == [("head", "head", nearest)]
    expected = [] if differs is None else [f"`{name}` {differs}, which is ignored"]
    assert [reason.rpartition("; read with")[0] for _, reason in remarks(pairs)] == expected
    assert all(found.severity is Severity.NOTE for found in pairs.report)


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ("", ["the teacher learns as well; read with `l2`"]),
        ("freeze_params_list: [no]", ["the teacher learns as well; read with `l2`"]),
        ("freeze_params_list: [True, False]", []),
    ],
)
def test_a_teacher_that_learns_as_well_is_reported(
    frozen: str, expected: list[str], classifiers: Networks, tmp_path: Path
) -> None:
    arch = f"Arch:\n  models: [Teacher: {{name: A}}, Student: {{name: B}}]\n  {frozen}"
    pairs = read_from(tmp_path, arch + loss("DistillationDistanceLoss"), classifiers)
    assert [reason for _, reason in remarks(pairs)] == expected


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        (loss("DistilationCELoss"), "DistillationCELoss"),
        (loss("DistillationPairLoss", "base_loss_name: DistenceLoss"), "DistanceLoss"),
        (OCR.replace("DistillationVQA", "VQA"), "DistillationVQADistanceLoss"),
    ],
)
def test_a_loss_that_the_toolkit_does_not_have_is_refused_with_the_nearest(
    text: str, nearest: str, classifiers: Networks, tmp_path: Path
) -> None:
    found = next(one for one in errors(tmp_path, text, classifiers) if one.code == "GT314")
    assert found.help == nearest
    assert found.notes[0].startswith(f"nearest: `{nearest}`")
    assert nearest in found.notes[1]


def test_of_a_key_given_twice_the_last_counts(recognisers: Networks, tmp_path: Path) -> None:
    """So it is in files of PaddleOCR."""
    text = """
Loss:
  loss_config_list:
  - DistillationDistanceLoss:
      model_name_pairs:
      - ["Student", "Teacher"]
      key: neck_out
      model_name_pairs: ["Student", "Teacher"]
      key: "head_out"
"""
    assert by_layer(read_from(tmp_path, text, recognisers)) == [("head", "head", "l2")]


def test_the_first_network_has_the_first_key_and_is_the_one_that_learns(
    classifiers: Networks, tmp_path: Path
) -> None:
    text = """
Loss:
  Train:
    - DistillationPairLoss:
        {base_loss_name: DistanceLoss, weight: 1.0, model_name_pairs: [["Teacher", "Student"]],
         s_key: "blocks[0]", t_key: "blocks[1]"}
    - DistillationKLDivLoss: {weight: 1.0, model_name_pairs: [["Teacher", "Student"]]}
    - DistillationDMLLoss: {weight: 1.0, model_name_pairs: [["Other", "Student", "Teacher"]]}
"""
    pairs = read_from(tmp_path, text, classifiers)

    assert by_layer(pairs) == [("blocks.0.2", "blocks.1.2", "l2")]
    swapped, three = (reason for _, reason in remarks(pairs))
    assert swapped == "it pulls the first of its networks, which is the teacher"
    assert three == "`Other` and `Student` and `Teacher` are not a student and its teacher"


UNREADABLE = "the configuration cannot be read: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "expected ',' or ']', but got '<stream end>' in line 1, column 6"),
        ("[" * 600, f"{UNREADABLE}maximum recursion depth exceeded"),
        ("a: \x07", "special characters are not allowed"),
        ("a: &x [1]\nb: *y\n", "found undefined alias 'y' in line 2, column 4"),
        ("Loss: &x [*x]\n", "the YAML is not a known configuration"),
        ("- " * 40_000, "more than 65,536 letters"),
        ("Train: 3", "the YAML is not a known configuration"),
        ("", "the YAML is not a known configuration"),
        ("pairs: [{teacher: head, student: head}]", "is not a known configuration"),
        ("Loss: {Train: []}", "no pair can be read"),
        (
            f"Loss: {{Train: [{'{DMLLoss: {model_name_pairs: [[a]]}}, ' * 1001}]}}",
            "more than 200 pairs",
        ),
        (
            f"Loss: {{Train: [&a {{DMLLoss: {{model_name_pair: [{'[b],' * 99}]}}}},{'*a,' * 99}]}}",
            "more than 200 pairs",
        ),
    ],
)
@pytest.mark.slow
def test_what_is_no_configuration_is_refused(
    text: str, message: str, classifiers: Networks, tmp_path: Path
) -> None:
    found = errors(tmp_path, text, classifiers)[0]
    assert found.code == "GT324"
    assert message in found.message


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("weight: two", "its weight is not a number of 0 or more"),
        ("weight: -1", "its weight is not a number of 0 or more"),
        ("key: [head]", "its `key` is no text"),
        ("s_key: head", "`s_key` and `t_key` are no lists of equal length"),
        ("multi_head: True", "it compares one of several heads"),
    ],
)
def test_where_nothing_is_a_pair_warnings_say_why(
    options: str, reason: str, classifiers: Networks, tmp_path: Path
) -> None:
    losses = f"[7, {{A: 3}}, DMLLoss: {{model_name_pairs: [[Student, Teacher]], {options}}}]"
    with pytest.raises(PairError, match=r"GT324.* no pair can be read") as error:
        read_from(tmp_path, f"Loss: {{Train: {losses}}}", classifiers)
    _, *warnings = error.value.report
    assert [found.message.partition(": ")[2] for found in warnings] == [
        "wanted a loss with its options",
        "it does not name two networks",
        reason,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.yml", "config.YAML", "pairs.toml"])
def test_a_file_that_is_no_text_or_too_large_is_refused(
    name: str, classifiers: Networks, tmp_path: Path
) -> None:
    path = tmp_path / name
    for content, reason in ((b"\xff\xfe", "it is not UTF-8"), (None, "16,777,216 bytes")):
        with path.open("wb") as file:
            file.write(content) if content else file.truncate(2**30)
        with pytest.raises(PairError, match=rf"GT310.* cannot be read: .*{reason}"):
            read_recipe(path, teacher=classifiers[0], student=classifiers[1])


def test_a_feed_is_no_feature_map(classifiers: Networks, tmp_path: Path) -> None:
    for found in errors(tmp_path, loss("DistanceLoss", "key: x"), classifiers):
        assert (found.code, found.message) == ("GT303", "`x` is not a feature map but a feed")


def test_tags_make_no_objects(classifiers: Networks, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    options = f"key: head, x: !!python/object/apply:os.mkdir ['{planted}']"
    (found,) = errors(tmp_path, loss("DistanceLoss", options), classifiers)
    assert found.code == "GT324"
    assert not planted.exists()


def test_options_of_many_aliases_take_no_time(classifiers: Networks, tmp_path: Path) -> None:
    swelling = "".join(f"&a{i + 1} [{f'*a{i},' * 9}], " for i in range(30))
    options = f"key: head, x: [&a0 [1], {swelling}]"
    (pair,) = read_from(tmp_path, loss("DistanceLoss", options), classifiers)
    assert pair.loss == "l2"


@pytest.mark.slow
def test_where_it_is_not_clear_which_output_is_meant_the_report_says_so(
    two_outputs: Networks, tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, CLAS.replace("blocks", "net.blocks"), two_outputs)
    reason = "in the teacher, it is not clear which output is meant: the two have 2 and 2"
    assert ("[1].DistillationDKDLoss", reason) in remarks(pairs)


def test_a_missing_name_is_reported_with_its_place(classifiers: Networks, tmp_path: Path) -> None:
    text = CLAS.replace('"blocks[2]"\n', '"blocks[7]"\n')
    first, second = errors(tmp_path, text, classifiers)
    assert first.code == second.code == "GT101"
    assert "`blocks.7`" in first.message
    assert first.notes[0] == "named by `Loss.Train[2].DistillationDistanceLoss` for the teacher"
    assert second.notes[0].endswith("for the student")
