"""Pairs read from configurations of PaddleClas, PaddleOCR and PaddleSlim."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.diagnostics import PairError, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet, suggest_pairs
from graphtool.matching.configs import export
from graphtool.matching.recipe import read_recipe
from graphtool.sources import read
from tests.networks import built

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = FIXTURES / "2.6.2" / "cnn.pdmodel"


class Classifier(nn.Layer):
    """Three blocks in a list, as PaddleClas has them, and a backbone, a neck and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 32]
        self.blocks = nn.LayerList(
            [
                nn.Sequential(nn.Conv2D(a, b, 3, 2, 1), nn.BatchNorm2D(b), nn.ReLU())
                for a, b in pairwise(widths)
            ]
        )
        self.head = nn.Linear(32, 7)

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recogniser(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2D(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2D(width, 32, 3, 2, 1), nn.ReLU()
        )
        self.neck = nn.Conv2D(32, 16, 1)
        self.head = nn.Linear(16, 7)

    def forward(self, x: Any) -> Any:
        x = self.neck(self.backbone(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def classifiers() -> tuple[Graph, Graph]:
    return built(lambda: Classifier(8), (3, 32, 32)), built(lambda: Classifier(4), (3, 32, 32))


@pytest.fixture(scope="module")
def recognisers() -> tuple[Graph, Graph]:
    return built(lambda: Recogniser(12), (3, 32, 32)), built(lambda: Recogniser(4), (3, 32, 32))


def read_from(folder: Path, text: str, networks: tuple[Graph, Graph]) -> PairSet:
    path = folder / "config.yml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, teacher=networks[0], student=networks[1]).pairs


def refused(folder: Path, text: str, networks: tuple[Graph, Graph]) -> list[str]:
    with pytest.raises(PairError) as error:
        read_from(folder, text, networks)
    (first, *_) = error.value.report
    notes = [note.partition(": ")[2] for note in first.notes if first.where]
    return [first.code, *(notes or [first.message.removeprefix("the configuration cannot be ")])]


def said(pairs: PairSet) -> list[tuple[str, str, str]]:
    """Return code, place and reason of each remark."""
    return [(found.code, *_parts(found.message)) for found in pairs.report]


def _parts(message: str) -> tuple[str, str]:
    found = re.fullmatch(r"`.*?(\[[^`]*)`(?: is not a pair)?: (.*)", message)
    assert found is not None
    return found[1], found[2]


def ends(pairs: PairSet) -> list[tuple[str, str, str]]:
    return [(pair.teacher.name, pair.student.name, pair.loss) for pair in pairs]


def by_layer(pairs: PairSet) -> list[tuple[str | None, str | None, str]]:
    return [(pair.teacher.layer, pair.student.layer, pair.loss) for pair in pairs]


@pytest.mark.parametrize(
    ("form", "networks", "count", "logits_by"),
    [
        ("paddleclas", "classifiers", 2, "kl"),
        ("paddleocr", "recognisers", 2, "kl"),
        ("yaml", "classifiers", 4, "soft_label"),
    ],
)
@pytest.mark.slow
def test_what_is_written_is_read_back_as_the_same_pairs(
    form: str,
    networks: str,
    count: int,
    logits_by: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    both: tuple[Graph, Graph] = request.getfixturevalue(networks)
    pairs = suggest_pairs(*both)

    found = read_from(tmp_path, export(pairs, form), both)

    suggested = [(one.kind, one.teacher, one.student) for one in pairs]
    assert len(found) == count
    assert [suggested.index((one.kind, one.teacher, one.student)) for one in found] == sorted(
        suggested.index((one.kind, one.teacher, one.student)) for one in found
    )
    assert {one.loss for one in found} == {logits_by, "l2"}
    if form == "yaml":
        kept = [(one.kind, one.loss, one.adapter, one.weight) for one in pairs]
        assert {(x.kind, x.loss, x.adapter, x.weight) for x in found} <= set(kept)


CLAS = """
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


def test_each_loss_of_paddleclas_is_a_pair_or_says_why_not(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
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
    assert said(pairs) == snapshot(
        [
            ("GT325", "[0].DistillationGTCELoss", "it compares one network with the labels"),
            (
                "GT325",
                "[1].DistillationDKDLoss",
                (
                    "`DistillationDKDLoss` has `temperature: 1`, `beta: 1`, `use_target_as_gt: "
                    "false`, which is ignored; read with `dkd`"
                ),
            ),
            (
                "GT325",
                "[3].DistillationPairLoss",
                "`MGDLoss` is not a loss of graphtool; read with `l2`",
            ),
            (
                "GT325",
                "[3].DistillationPairLoss",
                "with a loss of graphtool it repeats `Loss.Train[2].DistillationDistanceLoss`",
            ),
            (
                "GT325",
                "[4].DistillationRKDLoss",
                "`DistillationRKDLoss` computes something else; read with `relational`",
            ),
            (
                "GT325",
                "[4].DistillationRKDLoss",
                "`Student2` and `Teacher` are not a student and its teacher",
            ),
            ("GT325", "[5].AFDLoss", "it learns which layers go together, and names none"),
        ]
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


def test_each_loss_of_paddleocr_is_a_pair_or_says_why_not(
    recognisers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, OCR, recognisers)

    assert by_layer(pairs) == [("head", "head", "kl"), ("neck", "neck", "l2")]
    assert said(pairs) == snapshot(
        [
            (
                "GT325",
                "[0].DistillationDMLLoss",
                (
                    "`DistillationDMLLoss` is not a loss of graphtool and has `act: softmax`, "
                    "which is ignored; read with `kl`"
                ),
            ),
            ("GT325", "[1].DistillationDMLLoss", "it compares a part of a Value, `dis_head: ctc`"),
            (
                "GT325",
                "[2].DistillationDMLLoss",
                "`Student` and `Student2` are not a student and its teacher",
            ),
            (
                "GT325",
                "[3].DistillationDilaDBLoss",
                "which Value `maps` is, only the code of the network knows",
            ),
            (
                "GT325",
                "[5].DistillationVQADistanceLoss",
                "which Value `hidden_states_5` is, only the code of the network knows",
            ),
            ("GT325", "[6].DistillationCTCLoss", "it compares one network with the labels"),
        ]
    )


def test_a_part_that_a_network_does_not_have_is_not_guessed(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = OCR.replace("neck_out", "backbone_out")
    pairs = read_from(tmp_path, text, classifiers)

    assert by_layer(pairs) == [("head", "head", "kl")]
    assert said(pairs)[4] == snapshot(
        (
            "GT325",
            "[4].DistillationDistanceLoss",
            "in the teacher, no sublayer `backbone` is known, which returns `backbone_out`",
        )
    )


def test_a_saved_program_has_outputs_and_no_parts(tmp_path: Path) -> None:
    old = read(OLD)
    pairs = read_from(tmp_path, OCR, (old, old))

    assert ends(pairs) == snapshot([("linear_1.tmp_1", "linear_1.tmp_1", "kl")])


GROUPS = """
Distillation:
  alpha: [1.0, 3]
  loss: [l2_loss, soft_label]
  node:
  - [teacher_relu_0.tmp_0, relu_1.tmp_0]
  - [relu_2.tmp_0]
"""


@pytest.mark.parametrize(
    ("text", "expected", "weights"),
    [
        (
            "Distillation: {alpha: 0.5, loss: l2, node: [relu_0.tmp_0, relu_2.tmp_0]}",
            [("relu_0.tmp_0", "relu_0.tmp_0", "l2"), ("relu_2.tmp_0", "relu_2.tmp_0", "l2")],
            [0.5, 0.5],
        ),
        (
            "Distillation: {distill_node_pair: [teacher_relu_0.tmp_0, relu_1.tmp_0]}",
            [("relu_0.tmp_0", "relu_1.tmp_0", "l2")],
            [1.0],
        ),
        (
            GROUPS,
            [
                ("relu_0.tmp_0", "relu_1.tmp_0", "l2"),
                ("relu_2.tmp_0", "relu_2.tmp_0", "soft_label"),
            ],
            [1.0, 3.0],
        ),
    ],
)
def test_the_nodes_of_paddleslim_are_names_of_one_network_or_pairs_of_two(
    text: str, expected: list[tuple[str, str, str]], weights: list[float], tmp_path: Path
) -> None:
    old = read(OLD)
    pairs = read_from(tmp_path, text, (old, old))

    assert ends(pairs) == expected
    assert [pair.weight for pair in pairs] == weights
    assert said(pairs) == []


LAYERS = """
- DistillConfig:
  - loss_function: MSELoss
    model_name_pairs: [[student_0, teacher_0]]
    weight: 2.0
    layers:
    - layers_name: [blocks.1, blocks.0]
    - layers_name: [blocks.1, blocks.1]
      io: [input, input]
    - layers_name: [blocks.2]
  - loss_function: CELoss
    model_name_pairs: [[student_1, teacher_0]]
    layers:
    - layers_name: [head, head]
"""


def test_the_layers_of_paddleslim_are_named_students_first(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, LAYERS, classifiers)

    assert by_layer(pairs) == [("blocks.0.2", "blocks.1.2", "l2")]
    assert [pair.weight for pair in pairs] == [2.0]
    assert said(pairs) == snapshot(
        [
            (
                "GT325",
                "[0].DistillConfig[0].layers[1]",
                "it compares what goes into a layer, not a result",
            ),
            ("GT325", "[0].DistillConfig[0].layers[2]", "wanted `layers_name` with two names"),
            (
                "GT325",
                "[0].DistillConfig[1].layers[0]",
                "`student_1` and `teacher_0` are not a student and its teacher",
            ),
        ]
    )


CLAS_LOSS = """
Loss:
  Train:
    - {loss}: {{weight: 1.0, model_name_pairs: [["Student", "Teacher"]], {options}}}
"""
SLIM_LOSS = """
- DistillConfig:
  - loss_function: {loss}
    layers: [{{layers_name: [head, head], {options}}}]
"""


@pytest.mark.parametrize(
    ("form", "loss", "options", "ours", "unlike"),
    [
        (CLAS_LOSS, "DistillationCELoss", "", "soft_label", None),
        (CLAS_LOSS, "DistillationCELoss", "epsilon: 0.1", "soft_label", "`epsilon: 0.1`"),
        (CLAS_LOSS, "DistillationKLDivLoss", "", "kl", None),
        (CLAS_LOSS, "DistillationKLDivLoss", "temperature: 4.0", "kl", None),
        (CLAS_LOSS, "DistillationKLDivLoss", "temperature: 1.0", "kl", "`temperature: 1.0`"),
        (CLAS_LOSS, "DistillationDISTLoss", "beta: 1, gamma: 1.0", "dist", None),
        (CLAS_LOSS, "DistillationDISTLoss", "gamma: 2", "dist", "`gamma: 2`"),
        (CLAS_LOSS, "DistillationDistanceLoss", "", "l2", None),
        (CLAS_LOSS, "DistillationDistanceLoss", "act: null", "l2", None),
        (CLAS_LOSS, "DistillationDistanceLoss", "act: softmax", "l2", "`act: softmax`"),
        (CLAS_LOSS, "DistillationDistanceLoss", "mode: l1", "l2", "`mode: l1`"),
        (
            CLAS_LOSS,
            "DistillationDKDLoss",
            "temperature: 4, beta: 8.0, use_target_as_gt: True",
            "dkd",
            None,
        ),
        (SLIM_LOSS, "CELoss", "", "soft_label", None),
        (SLIM_LOSS, "CELoss", "temperature: 2", "soft_label", "`temperature: 2`"),
        (SLIM_LOSS, "MSELoss", "reduction: sum", "l2", "`reduction: sum`"),
    ],
)
def test_a_loss_is_the_same_with_the_options_that_make_it_so(
    form: str,
    loss: str,
    options: str,
    ours: str,
    unlike: str | None,
    classifiers: tuple[Graph, Graph],
    tmp_path: Path,
) -> None:
    pairs = read_from(tmp_path, form.format(loss=loss, options=options), classifiers)

    assert by_layer(pairs) == [("head", "head", ours)]
    assert [message for _, _, message in said(pairs)] == (
        [] if unlike is None else [f"`{loss}` has {unlike}, which is ignored; read with `{ours}`"]
    )


@pytest.mark.parametrize(
    ("form", "loss", "unlike"),
    [
        (CLAS_LOSS, "DistillationSKDLoss", "adds the loss on labels; read with `skd`"),
        (SLIM_LOSS, "KLLoss", "takes the mean over classes as well; read with `kl`"),
        (SLIM_LOSS, "RKDLoss", "computes something else; read with `relational`"),
    ],
)
def test_a_loss_that_is_never_the_same_says_why(
    form: str, loss: str, unlike: str, classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    pairs = read_from(tmp_path, form.format(loss=loss, options=""), classifiers)

    assert [message for _, _, message in said(pairs)] == [f"`{loss}` {unlike}"]


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ("", ["the teacher learns as well; read with `l2`"]),
        ("freeze_params_list: [no]", ["the teacher learns as well; read with `l2`"]),
        ("freeze_params_list: [True, False]", []),
    ],
)
def test_a_teacher_that_learns_as_well_is_said(
    frozen: str, expected: list[str], classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    arch = f"Arch:\n  models: [Teacher: {{name: A}}, Student: {{name: B}}]\n  {frozen}"
    text = arch + CLAS_LOSS.format(loss="DistillationDistanceLoss", options="")
    pairs = read_from(tmp_path, text, classifiers)

    assert [message for _, _, message in said(pairs)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CLAS_LOSS.format(loss="DistilationCELoss", options=""),
            (
                "`Loss.Train[0].DistilationCELoss`: there is no loss `DistilationCELoss`",
                "nearest: `DistillationCELoss`",
                "DistillationCELoss",
            ),
        ),
        (
            CLAS_LOSS.format(loss="DistillationPairLoss", options="base_loss_name: DistenceLoss"),
            (
                "`Loss.Train[0].DistillationPairLoss`: there is no loss `DistenceLoss`",
                "nearest: `DistanceLoss`",
                "DistanceLoss",
            ),
        ),
        (
            OCR.replace("DistillationVQADistanceLoss", "VQADistanceLoss"),
            (
                "`Loss.loss_config_list[5].VQADistanceLoss`: there is no loss `VQADistanceLoss`",
                "nearest: `DistillationVQADistanceLoss`",
                "DistillationVQADistanceLoss",
            ),
        ),
        (
            SLIM_LOSS.format(loss="MSE", options=""),
            (
                "`[0].DistillConfig[0].layers[0]`: there is no loss `MSE`",
                "nearest: `MSELoss`",
                "loss_function: MSELoss",
            ),
        ),
        (
            "Distillation: {node: [a, b], loss: softlabel}",
            (
                "`Distillation.node`: there is no loss `softlabel`",
                "nearest: `soft_label`",
                "loss: soft_label",
            ),
        ),
        (
            "pairs: [{teacher: head, student: head, loss: dks}]",
            (
                "`pairs[0].loss`: there is no loss `dks`",
                "nearest: `dkd`",
                "loss: dkd",
            ),
        ),
    ],
)
def test_a_loss_that_the_toolkit_does_not_have_is_refused_with_the_nearest(
    text: str, expected: tuple[str, str, str], classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    found = next(found for found in error.value.report if found.code == "GT314")
    nearest, _, _ = found.notes[0].partition(", ")
    assert (found.message, nearest, found.help) == expected
    assert expected[2].rpartition(" ")[2] in found.notes[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CLAS_LOSS.format(loss="DistillationDistanceLoss", options="wieght: 2, name: x"),
            "there is no option `wieght`; read with `l2`",
        ),
        (
            CLAS_LOSS.format(loss="DistillationKLDivLoss", options="temprature: 1"),
            "there is no option `temprature`; read with `kl`",
        ),
        (
            SLIM_LOSS.format(loss="MSELoss", options="epsilon: 1"),
            "there is no option `epsilon`; read with `l2`",
        ),
    ],
)
def test_an_option_that_a_loss_does_not_take_is_warned_of(
    text: str, expected: str, classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    (found,) = read_from(tmp_path, text, classifiers).report
    assert (found.code, found.severity) == ("GT325", Severity.WARNING)
    assert _parts(found.message)[1] == expected
    assert found.notes[0].startswith("known options: `")


def test_an_option_of_a_whole_distillation_is_warned_of(tmp_path: Path) -> None:
    old = read(OLD)
    text = "Distillation: {node: [relu_0.tmp_0], lambda: 2, teacher_model_dir: x}"
    (found,) = read_from(tmp_path, text, (old, old)).report
    assert found.message == "`Distillation.node`: there is no option `lambda`; read with `l2`"


def test_options_that_a_pair_does_not_say_are_named(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    options = "temperature: 1.0, multiplier: 2.0"
    text = CLAS_LOSS.format(loss="DistillationSKDLoss", options=options)
    (found,) = read_from(tmp_path, text, classifiers).report
    assert found.severity is Severity.NOTE
    assert _parts(found.message)[1] == (
        "`DistillationSKDLoss` adds the loss on labels and has `temperature: 1.0`, "
        "`multiplier: 2.0`, which is ignored; read with `skd`"
    )


def test_keys_that_stand_twice_are_all_told_with_their_lines(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = """\
pairs:
- teacher: head
  student: head
  weight: 1
  weight: 2
- {teacher: blocks.2, student: blocks.2, teacher: blocks.1}
pairs: []
"""
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    assert [(found.code, found.message) for found in error.value.report] == [
        ("GT324", f"the configuration cannot be read: the key {said}")
        for said in (
            "`pairs` stands twice, in line 1 and in line 7",
            "`weight` stands twice, in line 4 and in line 5",
            "`teacher` stands twice, in line 6 and in line 6",
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Global: {input_name: x, input_name: y}\npairs: [{teacher: head, student: head}]\n",
        """
Loss:
  loss_config_list:
  - DistillationDistanceLoss:
      model_name_pairs:
      - ["Student", "Teacher"]
      key: head_out
      model_name_pairs: ["Student", "Teacher"]
      key: "head_out"
""",
    ],
)
def test_keys_that_stand_twice_in_published_configurations_are_let_be(
    text: str, recognisers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    """PaddleClas has one beside what is read; those of PaddleOCR say the same again."""
    assert by_layer(read_from(tmp_path, text, recognisers)) == [("head", "head", "l2")]


def test_a_key_that_says_the_same_at_length_is_refused(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    """Two that are nested may take for ever to compare."""
    text = "pairs: [{teacher: head}]\npairs: [{teacher: head}]\n"
    (code, said) = refused(tmp_path, text, classifiers)
    assert (code, said) == (
        "GT324",
        "read: the key `pairs` stands twice, in line 1 and in line 2",
    )


def test_all_bad_entries_are_told_beside_a_name_that_is_missed(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = """
pairs:
- {teacher: no.such, student: head}
- {teacher: head, student: head, weight: two}
- {teacher: head, student: head, loss: best}
- {teacher: head, student: head, wieght: 2, kinds: 1}
- {teacher: head, student: head}
"""
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    assert [(found.code, found.message) for found in error.value.report] == [
        ("GT101", "no Value is called `no.such`"),
        ("GT325", "`pairs[1]` is not a pair: its weight is not a number of 0 or more"),
        ("GT314", "`pairs[2].loss`: there is no loss `best`"),
        ("GT325", "`pairs[3]` is not a pair: there is no key `wieght`, `kinds`"),
    ]


def test_what_is_no_pair_of_the_plain_list_is_not_left_out(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = """
pairs:
- {teacher: head, student: head}
- {teacher: head, student: head, wieght: 2}
"""
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    (found,) = error.value.report.errors
    assert (found.code, found.message) == (
        "GT325",
        "`pairs[1]` is not a pair: there is no key `wieght`",
    )


def test_two_losses_that_are_read_as_one_are_no_duplicates(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = """
Loss:
  Train:
    - DistillationDMLLoss: {weight: 1.0, model_name_pairs: [["Student", "Teacher"]]}
    - DistillationKLDivLoss:
        {weight: 2.0, model_name_pairs: [["Student", "Teacher"]], temperature: 1}
"""
    pairs = read_from(tmp_path, text, classifiers)

    assert [(pair.loss, pair.weight) for pair in pairs] == [("kl", 1.0)]
    assert said(pairs)[1] == (
        "GT325",
        "[1].DistillationKLDivLoss",
        "with a loss of graphtool it repeats `Loss.Train[0].DistillationDMLLoss`",
    )


def test_the_first_network_has_the_first_key_and_is_the_one_that_learns(
    classifiers: tuple[Graph, Graph], tmp_path: Path
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
    assert said(pairs) == snapshot(
        [
            (
                "GT325",
                "[1].DistillationKLDivLoss",
                "it pulls the first of its networks, which is the teacher",
            ),
            (
                "GT325",
                "[2].DistillationDMLLoss",
                "`Other` and `Student` and `Teacher` are not a student and its teacher",
            ),
        ]
    )


# Each list has the one before it a hundred times: a million places that say nothing.
LAUGHS = (
    f"""
- &config {{model_name_pairs: [{"[a], " * 100}], layers: []}}
- &part {{DistillConfig: [{"*config, " * 100}]}}
{"- *part" + chr(10)}"""
    + "- *part\n" * 100
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: [1",
            snapshot(
                ["GT324", "read: expected ',' or ']', but got '<stream end>' in line 1, column 6"]
            ),
        ),
        ("[" * 600, snapshot(["GT324", "read: it is nested too deeply"])),
        (
            "a: \x07",
            snapshot(
                ["GT324", "read: unacceptable character #x0007: special characters are not allowed"]
            ),
        ),
        (
            "a: &x [1]\nb: *y\n",
            snapshot(["GT324", "read: found undefined alias 'y' in line 2, column 4"]),
        ),
        (
            "pairs: &x [*x]\n",
            snapshot(["GT324", "read: found unconstructable recursive node in line 1, column 8"]),
        ),
        (
            "- " * 40_000,
            snapshot(["GT324", "read: it has more than 65,536 letters"]),
        ),
        (
            "pairs: [" + "{}, " * 1001 + "]",
            snapshot(["GT324", "read: it has more than 1,000 pairs"]),
        ),
        (LAUGHS, snapshot(["GT324", "read: it has more than 1,000 pairs"])),
        (
            f"Loss: {{Train: [A: {{model_name_pair: [{'a, ' * 9000}]}}]}}",
            snapshot(
                [
                    "GT314",
                    "`Loss.Train[0].A`: there is no loss `A`",
                ]
            ),
        ),
        ("Train: 3", snapshot(["GT324", "the YAML is not a known configuration"])),
        ("", snapshot(["GT324", "the YAML is not a known configuration"])),
        ("pairs: []", snapshot(["GT324", "no pair can be read from the configuration"])),
        (
            "pairs: [3, {teacher: a}]",
            snapshot(
                [
                    "GT324",
                    "wanted a `teacher` and a `student`",
                    "wanted a `teacher` and a `student`",
                ]
            ),
        ),
        (
            "Loss: {Train: [7, {A: 3}]}",
            snapshot(["GT324", "wanted a loss with its options", "it does not name two networks"]),
        ),
        (
            "Distillation: {}",
            snapshot(["GT324", "it names no `node`: PaddleSlim chooses one itself"]),
        ),
        (
            "Distillation: {node: [[], 3]}",
            snapshot(["GT101", "", "`add_3`, `batch_norm_2:3`, `batch_norm_1:3`"]),
        ),
        (
            "Distillation: {node: [a, b], loss: fsp}",
            snapshot(["GT324", "`fsp` compares four Values, and the list has pairs"]),
        ),
        (
            "Distillation: {node: [teacher_a, b, c]}",
            snapshot(["GT324", "3 names are not pairs"]),
        ),
        (
            "pairs: [{teacher: no.such, student: head}]",
            snapshot(["GT101", "", "`blocks.2`, `blocks.1`, `blocks.0`"]),
        ),
        (
            "pairs: [{teacher: head, student: head, loss: best}]",
            snapshot(["GT314", "`pairs[0].loss`: there is no loss `best`"]),
        ),
        (
            "pairs: [{teacher: head, student: head, loss: [l2]}]",
            snapshot(["GT314", "`pairs[0].loss`: there is no loss `['l2']`"]),
        ),
        (
            "pairs: [{teacher: head, student: head, kind: best}]",
            snapshot(["GT324", "there is no kind `best`"]),
        ),
        (
            "pairs: [{teacher: head, student: head, weight: -1}]",
            snapshot(["GT324", "its weight is not a number of 0 or more"]),
        ),
        (
            "pairs: [{teacher: head, student: head, wieght: 2}]",
            snapshot(["GT324", "there is no key `wieght`"]),
        ),
        (
            "pairs: {teacher: head, student: head}",
            snapshot(["GT324", "wanted a list, with `- ` before each pair"]),
        ),
        (
            "pairs: [{teacher: head, student: head, adapter: [1]}]",
            snapshot(["GT324", "its `adapter` is not text"]),
        ),
        (
            "pairs: [&a {teacher: head}, {<<: *a, student: head}]",
            snapshot(
                [
                    "GT324",
                    "read: `<<` is not read, write out what it stands for in line 1, column 30",
                ]
            ),
        ),
        (
            "Distillation: {node: [[relu_0.tmp_0], [relu_1.tmp_0]], loss: []}",
            snapshot(
                [
                    "GT324",
                    "wanted names of Values and the name of a loss",
                    "wanted names of Values and the name of a loss",
                ]
            ),
        ),
        (
            "Distillation: {node: [[a], [b]], alpha: []}",
            snapshot(
                [
                    "GT324",
                    "its weight is not a number of 0 or more",
                    "its weight is not a number of 0 or more",
                ]
            ),
        ),
        (
            SLIM_LOSS.format(loss="MSELoss", options="idx: [1, null]"),
            snapshot(["GT324", "it compares one of several results of a layer"]),
        ),
        (
            "pairs: [{teacher: x, student: head}]",
            snapshot(["GT303", "`x` is not a feature map but a feed"]),
        ),
        (
            "pairs: [&p {teacher: head, student: head}, *p]",
            snapshot(["GT310", "`pairs[1]` has the same Values and the same loss as `pairs[0]`"]),
        ),
    ],
)
@pytest.mark.slow
def test_what_is_no_configuration_of_pairs_is_said(
    text: str, expected: list[str], classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    assert refused(tmp_path, text, classifiers) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.yml", "error[GT324] bad-configuration: the configuration cannot be read"),
        ("pairs.toml", "error[GT310] bad-recipe: the recipe cannot be read"),
    ],
)
@pytest.mark.slow
def test_what_is_no_text_or_too_much_of_it_is_said_by_the_kind_of_file(
    name: str, expected: str, classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    def refusal() -> str:
        with pytest.raises(PairError) as error:
            read_recipe(path, teacher=classifiers[0], student=classifiers[1])
        return str(error.value).splitlines()[0]

    path = tmp_path / name
    path.write_bytes("pairs: []".encode("utf-16"))
    of_two_bytes = refusal()
    with path.open("wb") as file:
        file.truncate(2**30)

    assert of_two_bytes == f"{expected}: it is not UTF-8: invalid start byte"
    assert refusal() == f"{expected}: it has more than 16,777,216 bytes"


def test_tags_make_no_objects(classifiers: tuple[Graph, Graph], tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    text = (
        f"x: !!python/object/apply:os.mkdir ['{planted}']\n"
        "pairs: [{teacher: !!python/name:os.system head, student: !!int head}]\n"
    )
    assert by_layer(read_from(tmp_path, text, classifiers)) == [("head", "head", "l2")]
    assert not planted.exists()


@pytest.mark.slow
def test_where_a_configuration_is_not_clear_about_outputs_it_is_said(tmp_path: Path) -> None:
    several = built(lambda: _Twice(), (3, 32, 32))
    text = CLAS.replace("blocks", "net.blocks")
    pairs = read_from(tmp_path, text, (several, several))

    assert said(pairs)[1] == snapshot(
        (
            "GT325",
            "[1].DistillationDKDLoss",
            "in the teacher, it is not clear which output is meant: the two have 2 and 2",
        )
    )


class _Twice(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.net = Classifier(8)
        self.other = nn.Linear(7, 7)

    def forward(self, x: Any) -> Any:
        y = self.net(x)
        return y, self.other(F.relu(y))


def test_a_name_that_is_missed_says_where_it_stands(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    text = CLAS.replace('"blocks[2]"\n', '"blocks[7]"\n')
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    first, second = error.value.report.errors
    assert first.message == second.message == "no Value is called `blocks[7]`"
    assert first.notes[0] == "named by `Loss.Train[2].DistillationDistanceLoss` for the teacher"
    assert first.severity is Severity.ERROR


def test_what_is_no_feature_map_says_in_which_network(
    classifiers: tuple[Graph, Graph], tmp_path: Path
) -> None:
    for names, role in (
        ("teacher: x, student: head", "teacher"),
        ("teacher: head, student: x", "student"),
    ):
        with pytest.raises(PairError) as error:
            read_from(tmp_path, f"pairs: [{{{names}}}]", classifiers)
        (found,) = error.value.report.errors
        assert (found.code, found.where[0].role) == ("GT303", role)


@pytest.mark.slow
def test_twenty_errors_are_enough(classifiers: tuple[Graph, Graph], tmp_path: Path) -> None:
    text = f"pairs: [{'{teacher: no, student: no}, ' * 500}]"
    with pytest.raises(PairError) as error:
        read_from(tmp_path, text, classifiers)
    assert sum(found.count for found in error.value.report.errors) == 20
