"""Suggested pairs: which, in what order, and why."""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.diagnostics import Severity
from graphtool.graph import Graph
from graphtool.matching import Kind, PairSet, Relation, suggest_pairs
from graphtool.sources import read
from tests.networks import (
    PlainConvolutions,
    Pyramid,
    Segmenter,
    built,
    computed,
    encoder,
    pyramid,
    vision,
)

_MORE = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("mobilenet_v3_small", "densenet121", "vgg11")
]


def ends(pairs: PairSet) -> list[tuple[Kind, str, str]]:
    return [(pair.kind, pair.teacher.name, pair.student.name) for pair in pairs]


@pytest.mark.pir
def test_resnet50_teaches_mobilenet_v1_at_logits_embedding_and_four_stages() -> None:
    pairs = suggest_pairs(vision("resnet50"), vision("mobilenet_v1"))

    assert ends(pairs) == [
        (Kind.LOGITS, "add_16", "add_0"),
        (Kind.EMBEDDING, "flatten_0", "flatten_0"),
        (Kind.STAGE, "relu_48", "relu_26"),
        (Kind.STAGE, "relu_39", "relu_22"),
        (Kind.STAGE, "relu_21", "relu_10"),
        (Kind.STAGE, "relu_9", "relu_6"),
        (Kind.FEATURE, "conv2d_52", "conv2d_13"),
        (Kind.FEATURE, "relu_42", "relu_24"),
    ]
    assert [pair.relation for pair in pairs] == [Relation.EQUAL] + [Relation.CHANNELS] * 7
    layers = ["layer4.2", "layer3.5", "layer2.3", "layer1.2", "layer4.2.conv3", "layer4.0"]
    assert [pair.teacher.layer for pair in pairs][2:] == layers
    assert pairs[2].adapter == "conv1x1(1024->2048)"
    assert pairs[2].why == (
        "end of stage 4 of 4 in both",
        "output of 3 × bottleneck block in the teacher, 2 × depthwise separable in the student",
        "both 7×7",
        "98% deep in the teacher, 95% deep in the student",
    )
    assert not pairs.report


@pytest.mark.slow
def test_no_shape_is_equal_between_resnet50_and_shufflenet_and_three_stages_pair() -> None:
    pairs = suggest_pairs(vision("resnet50"), vision("shufflenet_v2_x1_0"))
    stages = [pair for pair in pairs if pair.kind is Kind.STAGE]

    assert [(pair.teacher.shape, pair.student.shape) for pair in stages] == [
        ((-1, 2048, 7, 7), (-1, 464, 7, 7)),
        ((-1, 1024, 14, 14), (-1, 232, 14, 14)),
        ((-1, 512, 28, 28), (-1, 116, 28, 28)),
    ]


@pytest.mark.parametrize("name", ["resnet18", *_MORE])
def test_a_network_pairs_with_itself_value_by_value(name: str) -> None:
    pairs = suggest_pairs(vision(name), vision(name))

    assert len(pairs) >= 5
    assert all(pair.teacher == pair.student for pair in pairs)
    assert {pair.relation for pair in pairs} == {Relation.EQUAL}


@pytest.mark.slow
def test_unknown_height_and_width_leave_the_pairs_as_they_are() -> None:
    known = suggest_pairs(vision("resnet50"), vision("mobilenet_v3_large"))
    unknown = suggest_pairs(vision("resnet50", -1), vision("mobilenet_v3_large", -1))

    assert ends(known) == ends(unknown)
    assert "both at 1/32 of the input" in unknown.pairs[2].why


def trained(name: str) -> Graph:
    """Read a training Program: cross entropy, Adam and clipping by global norm on top."""
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        image = paddle.static.data("x", [-1, 3, 224, 224], "float32")
        label = paddle.static.data("label", [-1], "int64")
        logits = getattr(paddle.vision.models, name)()(image)
        loss = F.cross_entropy(logits, label)
        clip = paddle.nn.ClipGradByGlobalNorm(1.0)
        paddle.optimizer.Adam(1e-3, grad_clip=clip).minimize(loss)
    return read(main)


@pytest.mark.slow
def test_loss_gradients_and_optimizer_leave_the_pairs_as_they_are() -> None:
    teacher, student = vision("resnet50"), vision("resnet18")

    assert ends(suggest_pairs(trained("resnet50"), trained("resnet18"))) == ends(
        suggest_pairs(teacher, student)
    )


@pytest.mark.slow
def test_six_layers_teach_three_at_every_second() -> None:
    pairs = suggest_pairs(encoder(6), encoder(3, 16))

    states = [pair for pair in pairs if pair.kind is Kind.HIDDEN_STATE]
    assert [(pair.teacher.layer, pair.student.layer) for pair in states] == [
        ("encoder", "encoder"),
        ("encoder.layers.3", "encoder.layers.1"),
        ("encoder.layers.1", "encoder.layers.0"),
        ("project", "project"),
    ]
    assert {(pair.relation, pair.adapter) for pair in states} == {
        (Relation.CHANNELS, "linear(16->32)")
    }
    assert sum(pair.kind is Kind.ATTENTION for pair in pairs) == 3
    said = "hidden state of layer 4 of 6 in the teacher, layer 2 of 3 in the student"
    assert pairs[2].why[0] == said


def merged_heads(layers: int, width: int) -> Graph:
    """Build an encoder whose heads are part of the batch, [N × heads, L, D], as in Bloom."""

    def heads(x: Any) -> Any:
        x = nn.Linear(width, width)(x).reshape([0, 7, 2, -1]).transpose([0, 2, 1, 3])
        return x.reshape([-1, 7, width // 2])

    def attention(x: Any) -> Any:
        queries, keys, values = (heads(x) for _ in range(3))
        scores = paddle.bmm(queries, keys.transpose([0, 2, 1])) / 8.0
        mixed = paddle.bmm(F.softmax(scores), values).reshape([-1, 2, 7, width // 2])
        return nn.Linear(width, width)(mixed.transpose([0, 2, 1, 3]).reshape([-1, 7, width]))

    def forward(x: Any) -> Any:
        x = nn.Linear(16, width)(x)
        for _ in range(layers):
            x = x + attention(F.layer_norm(x, x.shape[-1:]))
            hidden = nn.Linear(width, 2 * width)(F.layer_norm(x, x.shape[-1:]))
            x = x + nn.Linear(2 * width, width)(F.gelu(hidden))
        return nn.Linear(width, 5)(x.mean(1))

    return computed(forward, [7, 16])


def test_attention_whose_heads_are_part_of_the_batch_is_not_suggested() -> None:
    pairs = suggest_pairs(merged_heads(4, 32), merged_heads(2, 16))
    kinds = {pair.kind for pair in pairs}
    assert kinds == {Kind.LOGITS, Kind.EMBEDDING, Kind.HIDDEN_STATE}


@pytest.mark.slow
def test_detectors_have_their_levels_then_their_heads_in_order_then_their_stages() -> None:
    pairs = suggest_pairs(pyramid(16), pyramid(8))

    kinds = [Kind.FEATURE] * 3 + [Kind.HEAD] * 3 + [Kind.STAGE] * 2
    assert [pair.kind for pair in pairs] == kinds
    for end in ("teacher", "student"):
        layers = [getattr(pair, end).layer for pair in pairs][3:6]
        assert layers == ["heads.0", "heads.1", "heads.2"]
    assert [pair.student.shape for pair in pairs][:3] == [
        (-1, 8, 32, 32),
        (-1, 8, 16, 16),
        (-1, 8, 8, 8),
    ]
    assert pairs[0].why[0] == "level 1 of 3 that the heads read in both"


class Detector(nn.Layer):
    """Returns classes and boxes of one map, or boxes and classes."""

    def __init__(self, width: int, *, boxes_first: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, width, 3, 2, 1)
        self.classes, self.boxes = nn.Conv2D(width, 20, 1), nn.Conv2D(width, 4, 1)
        self.boxes_first = boxes_first

    def forward(self, x: Any) -> Any:
        features = F.relu(self.stem(x))
        classes, boxes = self.classes(features), self.boxes(features)
        return (boxes, classes) if self.boxes_first else (classes, boxes)


def test_heads_in_another_order_pair_by_what_they_are() -> None:
    pairs = suggest_pairs(
        built(lambda: Detector(16, boxes_first=True), [3, 32, 32]),
        built(lambda: Detector(8, boxes_first=False), [3, 32, 32]),
    )

    heads = [pair for pair in pairs if pair.kind is Kind.HEAD]
    assert [(pair.teacher.layer, pair.student.layer) for pair in heads] == [
        ("classes", "classes"),
        ("boxes", "boxes"),
    ]
    assert heads[0].why[0] == "output 2 of 2 in the teacher, 1 of 2 in the student"


class Auxiliary(nn.Layer):
    """Returns the scores of its end, then those of a head halfway."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2D(3, width, 3, 2, 1), nn.Conv2D(width, width, 3, 2, 1)
        self.halfway, self.end = nn.Linear(width, 10), nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        first = F.relu(self.first(x))
        halfway = self.halfway(first.mean([2, 3]))
        second = F.relu(self.second(first))
        return self.end(second.mean([2, 3])), halfway


@pytest.mark.pir
@pytest.mark.slow
def test_main_and_auxiliary_heads_pair_where_a_training_program_fetches_nothing() -> None:
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        label = paddle.static.data("label", [None, 1], "int64")
        scores = Auxiliary(8)(paddle.static.data("image", [None, 3, 32, 32]))
        sum(F.cross_entropy(each, label) for each in scores)
    student = read(program)
    paddle.disable_static()
    pairs = suggest_pairs(built(lambda: Auxiliary(16), [3, 32, 32]), student)

    heads = [pair for pair in pairs if pair.kind is Kind.LOGITS]
    assert [pair.teacher.layer for pair in heads] == ["end", "halfway"]
    assert [pair.student.module for pair in heads] == ["/Auxiliary/Linear_1", "/Auxiliary/Linear"]


def test_networks_with_nothing_in_common_but_logits_are_told_so_and_of_their_classes() -> None:
    pairs = suggest_pairs(vision("resnet18"), encoder(2))

    assert [pair.kind for pair in pairs] == [Kind.EMBEDDING, Kind.LOGITS]
    assert [found.code for found in pairs.report] == ["GT301"]
    assert (pairs[1].relation, pairs[1].loss) == (Relation.CLASSES, "similarity")
    (warning,) = pairs[1].warnings
    assert warning == "1000 against 5 classes: the logits cannot be compared one to one"


@pytest.mark.slow
def test_logits_of_other_classes_stay_in_the_list_behind_more_maps_than_fit() -> None:
    teacher, student = (
        built(lambda classes=n: PlainConvolutions([4] * 8, classes=classes), [3, 512, 512])
        for n in (9, 5)
    )
    pairs = suggest_pairs(teacher, student)

    kinds = [Kind.EMBEDDING, *[Kind.STAGE] * 6, Kind.LOGITS]
    assert [pair.kind for pair in pairs] == kinds
    assert pairs[7].loss == "similarity"
    assert pairs[7].warnings == ("9 against 5 classes: the logits cannot be compared one to one",)


def test_the_limit_bounds_the_list() -> None:
    assert len(suggest_pairs(vision("resnet50"), vision("mobilenet_v1"), limit=3)) == 3


@pytest.mark.slow
def test_unequal_numbers_of_stages_pair_where_the_resolution_is_equal() -> None:
    pairs = suggest_pairs(vision("vgg16"), vision("resnet18"))
    stages = [pair for pair in pairs if pair.kind is Kind.STAGE]

    assert [pair.teacher.shape for pair in stages] == [
        (-1, 512, 14, 14),
        (-1, 512, 28, 28),
        (-1, 256, 56, 56),
    ]
    assert all(not pair.warnings for pair in stages)


@pytest.mark.slow
def test_logits_per_pixel_of_other_sizes_are_not_equal() -> None:
    small = built(Segmenter, [3, 32, 32])
    logits = suggest_pairs(built(Segmenter, [3, 64, 64]), small).pairs[0]

    assert (logits.kind, logits.relation) == (Kind.LOGITS, Relation.SPATIAL)
    assert logits.adapter == "resize"


@pytest.mark.slow
def test_auxiliary_classifiers_pair_as_logits() -> None:
    pairs = suggest_pairs(vision("googlenet"), vision("googlenet"))

    assert [pair.kind for pair in pairs].count(Kind.LOGITS) == 3


@pytest.mark.slow
def test_other_numbers_of_outputs_are_told_and_paired_by_resolution() -> None:
    class Two(Pyramid):
        def forward(self, x: Any) -> list[Any]:
            return super().forward(x)[1:]

    pairs = suggest_pairs(pyramid(), built(Two, [3, 64, 64]))
    heads = [pair for pair in pairs if pair.kind is Kind.HEAD]

    assert [(pair.teacher.layer, pair.student.layer) for pair in heads] == [
        ("heads.1", "heads.1"),
        ("heads.2", "heads.2"),
    ]
    assert [found.code for found in pairs.report] == ["GT302"]


@pytest.mark.slow
def test_sequences_of_other_lengths_are_warned_of() -> None:
    pairs = suggest_pairs(encoder(2, length=9), encoder(2))
    states = [pair for pair in pairs if pair.kind is Kind.HIDDEN_STATE]

    assert {(pair.relation, pair.loss) for pair in states} == {(Relation.SEQUENCE, "similarity")}
    assert all(pair.warnings for pair in states)


@pytest.mark.slow
def test_backbones_pair_at_their_stages_and_not_as_logits() -> None:
    backbone = lambda: paddle.vision.models.ResNet(  # noqa: E731
        paddle.vision.models.resnet.BasicBlock, 18, num_classes=0, with_pool=False
    )
    graph = built(backbone, [3, 64, 64])

    kinds = [pair.kind for pair in suggest_pairs(graph, graph)]
    assert kinds == [Kind.STAGE] * 4 + [Kind.FEATURE] * 4


def test_a_teacher_that_is_smaller_than_the_student_is_allowed_and_told() -> None:
    pairs = suggest_pairs(vision("mobilenet_v1"), vision("resnet50"))

    (said,) = pairs.report
    assert (said.code, said.severity) == ("GT307", Severity.NOTE)
    assert said.message == (
        "the teacher is smaller than the student: 4,231,976 and 25,557,032 parameters"
    )
    assert [pair.kind for pair in pairs][:2] == [Kind.LOGITS, Kind.EMBEDDING]


@pytest.mark.parametrize("classes", [1, 3])
def test_scores_behind_a_sigmoid_are_not_compared_by_a_softmax(classes: int) -> None:
    def marker(x: Any) -> Any:
        """One score for each place, as detectors of text have."""
        return F.sigmoid(nn.Conv2D(4, classes, 1)(nn.Conv2D(3, 4, 3, padding=1)(x)))

    graph = computed(marker, [3, 8, 8])
    first = suggest_pairs(graph, graph)[0]

    assert (first.kind, first.loss) == (Kind.LOGITS, "l2")


@pytest.mark.pir
def test_pairs_are_printed_as_a_list_and_taken_by_their_place() -> None:
    pairs = suggest_pairs(vision("resnet18"), vision("resnet18"), limit=2)

    assert pairs[0].rank == 1
    assert str(pairs).splitlines() == [
        "paddle.vision.models:resnet18 teaches paddle.vision.models:resnet18",
        "  1 logits       add_8 = add_8",
        "  2 embedding    flatten_0 = flatten_0",
    ]
