"""A training Program answers what its loss reads, whatever the loss is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool import read, suggest_pairs
from graphtool.graph import Graph
from graphtool.ops import kind_of
from graphtool.structure import analyse, label_feeds
from tests.checks.programs import data, program

pytestmark = pytest.mark.pir

_ANCHORS = [10, 13, 16, 30, 33, 23]


def _detector(*, loss: bool = True) -> None:
    shallow = F.relu(nn.Conv2D(3, 8, 3, 2, 1)(data("image", -1, 3, 32, 32)))
    deep = F.relu(nn.Conv2D(8, 16, 3, 2, 1)(shallow))
    heads = nn.Conv2D(8, 24, 1)(shallow), nn.Conv2D(16, 24, 1)(deep)
    if loss:
        boxes, classes = data("boxes", -1, 5, 4), data("classes", -1, 5, dtype="int32")
        totals = [
            paddle.vision.ops.yolo_loss(one, boxes, classes, _ANCHORS, [0, 1, 2], 3, 0.7, 32).mean()
            for one in heads
        ]
        totals[0] + totals[1]


@pytest.mark.parametrize("mode", ["pir", "legacy"])
def test_a_detector_answers_the_same_with_its_losses_and_without(mode: str) -> None:
    trained, plain = (
        read(program(build, mode)[0]) for build in (_detector, lambda: _detector(loss=False))
    )
    pairs = suggest_pairs(trained, trained)

    assert label_feeds(trained) == {"boxes", "classes"}
    assert [head.prediction for head in analyse(trained).heads] == [
        head.output for head in analyse(plain).heads
    ]
    assert [pair.student.name for pair in pairs] == [
        pair.student.name for pair in suggest_pairs(plain, plain)
    ]


def _squared(answer: Any, label: Any) -> Any:
    apart = answer - label
    return (apart * apart).mean()


def _dice(answer: Any, label: Any) -> Any:
    likely = F.sigmoid(answer)
    return 1 - 2 * (likely * label).sum() / (likely.sum() + label.sum())


@pytest.mark.parametrize(
    "loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.kl_div, _squared, _dice]
)
def test_what_a_loss_compares_with_a_label_is_the_answer(loss: Callable[..., Any]) -> None:
    def build() -> None:
        answer = nn.Linear(8, 4)(F.relu(nn.Linear(6, 8)(data("x", -1, 6))))
        loss(answer, data("label", -1, 4))

    (head,) = analyse(read(program(build)[0])).heads

    assert head.logits == "add_1"


def _log_shares(logits: Any) -> Any:
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)


def _of_center_loss() -> None:
    embedding = F.relu(nn.Linear(6, 8)(data("x", -1, 6)))
    logits, label = nn.Linear(8, 4)(embedding), data("label", -1, dtype="int64")
    centers = paddle.create_parameter([4, 8], "float32")
    apart = embedding - paddle.gather(centers, label)
    -(F.one_hot(label, 4) * _log_shares(logits)).sum(-1).mean() + 0.1 * (apart * apart).mean()


def _of_tokens() -> None:
    hidden = F.relu(nn.Embedding(9, 8)(data("ids", -1, 6, dtype="int64")))
    logits = nn.Linear(8, 9)(hidden).reshape([-1, 9])
    label, weight = data("label", -1, 6, dtype="int64").flatten(), data("weight", -1, 6).flatten()
    (-(F.one_hot(label, 9) * _log_shares(logits)).sum(-1) * weight).sum() / weight.sum()


def _of_places() -> None:
    logits = nn.Conv2D(4, 5, 1)(F.relu(nn.Conv2D(3, 4, 3)(data("image", -1, 3, 10, 10))))
    rows = logits.transpose([0, 2, 3, 1]).reshape([-1, 5])
    F.cross_entropy(rows, data("label", -1, 8, 8, dtype="int64").flatten())


def _of_a_text_line() -> None:
    logits = nn.Linear(8, 6)(F.relu(nn.Linear(4, 8)(data("columns", -1, 12, 4))))
    lengths = [data(name, -1, dtype="int64") for name in ("columns_length", "label_length")]
    label = data("label", -1, 5, dtype="int32")
    F.ctc_loss(logits.transpose([1, 0, 2]), label, *lengths, reduction="none").mean()


def _of_the_next_token() -> None:
    ids = data("ids", -1, 6, dtype="int64")
    logits = nn.Linear(8, 9)(F.relu(nn.Embedding(9, 8)(ids)))
    F.cross_entropy(logits[:, :-1], ids[:, 1:])


def _of_the_next_letter() -> None:
    logits = nn.Linear(8, 6)(F.relu(nn.Linear(4, 8)(data("columns", -1, 12, 4))))
    label = data("label", -1, 12, dtype="int64")
    F.cross_entropy(logits[:, :-1, :].reshape([-1, 6]), label[:, 1:].reshape([-1]))


def _of_an_autoencoder() -> None:
    image = data("image", -1, 3, 8, 8)
    rebuilt = nn.Conv2D(4, 3, 3, 1, 1)(F.relu(nn.Conv2D(3, 4, 3, 1, 1)(image)))
    ((rebuilt - image) ** 2).mean()


def _of_a_series() -> None:
    states, _ = nn.LSTM(4, 8)(data("series", -1, 6, 4))
    ((states - data("next", -1, 6, 8)) ** 2).mean()


def _with_what_is_looked_at() -> None:
    logits = nn.Linear(8, 4)(F.relu(nn.Linear(6, 8)(data("x", -1, 6))))
    wanted = data("label", -1, 4)
    (wanted - F.softmax(logits)).abs()
    -(wanted * F.log_softmax(logits)).sum(-1).mean()


@pytest.mark.parametrize(
    ("build", "logits", "labels"),
    [
        (_of_center_loss, "add_1", {"label"}),
        (_of_tokens, "add_0", {"label", "weight"}),
        (_of_places, "add_1", {"label"}),
        (_of_a_text_line, "add_1", {"label", "columns_length", "label_length"}),
        (_of_the_next_token, "add_0", set[str]()),
        (_of_the_next_letter, "add_1", {"label"}),
        (_of_an_autoencoder, "add_1", set[str]()),
        (_with_what_is_looked_at, "add_1", None),
    ],
)
def test_what_no_label_touches_is_the_answer_and_labels_are_feeds_that_become_numbers(
    build: Callable[[], None], logits: str, labels: set[str] | None
) -> None:
    graph = read(program(build)[0])
    (head,) = analyse(graph).heads

    assert (head.logits, head.classifies, head.is_clear) == (logits, True, True)
    assert labels is None or label_feeds(graph) == labels


def test_what_compares_the_samples_of_a_batch_is_no_answer_but_what_it_compares_may_be() -> None:
    def build() -> None:
        ends = F.normalize(nn.Linear(8, 6)(F.relu(nn.Linear(4, 8)(data("x", -1, 4)))))
        label = data("label", -1, 1, dtype="int64")
        same = (label == label.t()).astype("float32")
        shares = _log_shares(paddle.matmul(ends, ends, transpose_y=True) / 0.1)
        -((same * shares).sum(-1) / same.sum(-1)).mean()

    (head,) = analyse(read(program(build)[0])).heads

    assert (head.logits, head.is_clear) == ("add_1", False)


def test_towers_that_a_batch_is_told_apart_by_are_named_in_program_order() -> None:
    def build() -> None:
        shared = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
        first, second = (
            F.normalize(nn.Linear(4, 6)(shared(data(name, -1, 4)))) for name in ("one", "other")
        )
        likeness = paddle.matmul(first, second, transpose_y=True) * 20
        F.cross_entropy(likeness, paddle.arange(paddle.shape(first)[0]).reshape([-1, 1]))

    heads = analyse(read(program(build)[0])).heads

    # By their names the second would come first.
    assert [(head.logits, head.is_clear) for head in heads] == [("add_5", False), ("add_11", False)]


def test_heads_stand_in_program_order_whatever_the_order_of_a_losss_terms() -> None:
    def build(*, terms: Sequence[int] = ()) -> None:
        shared = F.relu(nn.Linear(6, 8)(data("x", -1, 6)))
        ends = [nn.Linear(8, width)(shared) for width in (4, 5)]
        losses = [F.mse_loss(end, data(f"label{end.shape[1]}", -1, end.shape[1])) for end in ends]
        sum(losses[term] for term in terms)

    graphs = [read(program(partial(build, terms=terms))[0]) for terms in ((0, 1), (1, 0))]

    for graph in graphs:
        assert [(x.index, x.logits) for x in analyse(graph).heads] == [(0, "add_1"), (1, "add_2")]


def test_a_recurrent_layer_may_be_the_whole_network() -> None:
    graph = read(program(_of_a_series)[0])

    assert label_feeds(graph) == {"next"}
    assert [head.logits for head in analyse(graph).heads] == [_states(graph)]


def _states(graph: Graph) -> str:
    (layer,) = (x for x in graph.operators.values() if kind_of(x) == "subtract")
    return str(layer.operands[0])


def test_what_scales_the_output_is_no_label() -> None:
    def build() -> None:
        boxes = nn.Linear(8, 4)(F.relu(nn.Linear(6, 8)(data("x", -1, 6))))
        boxes / data("scale_factor", -1, 1)

    graph = read(program(build)[0])

    assert label_feeds(graph) == frozenset()
    assert [head.prediction for head in analyse(graph).heads] == ["divide_0"]


def test_one_number_for_each_sample_is_in_no_pair() -> None:
    def build() -> None:
        nn.Linear(6, 4)(data("x", -1, 6))[:, 0].exp()

    graph = read(program(build)[0])

    assert analyse(graph).heads[0].logits == "exp_0"
    assert [pair.student.name for pair in suggest_pairs(graph, graph)] == []
