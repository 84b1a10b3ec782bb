"""What `check_pairs` says of pairs is what `distill_loss` and the losses say of their Values.

The networks have Values of every kind: maps with channels first and last, pooled ones, vectors,
tokens, attention, probabilities, unknown dims, other ranks and dtypes, what is detached or made by
frozen parameters, parts of a branch, vectors of tensors, feeds and parameters.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool.loss_specs import named_losses
from graphtool.losses._building import rollback_on_error
from graphtool.matching.pairs import Kind, Relation, end_of
from tests.merging.networks import build

pytestmark = pytest.mark.pir

Value = Any

ADAPTERS = (None, "conv1x1", "linear", "resize", "conv1x1+resize", "linear+resize", "mlp")
# What changes the judgement, and that any Values of the right shapes take.
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "attention_relation": {"heads": 1},
    **{name: {"from_probs": "both"} for name in ("soft_label", "kl", "dkd", "skd", "dist", "lskd")},
}
# Kinds of Values that there are enough of.
CONSTANTS = ("full_", "sum_", "conv2d_", "reshape_", "combine", "stack", "slice")
FEEDS = (
    ("image", [-1, 3, 8, 8], "float32"),
    ("tokens", [-1, 6, 16], "float32"),
    ("free", [-1, 3, -1, -1], "float32"),
)


def _frozen() -> paddle.ParamAttr:
    return paddle.ParamAttr(trainable=False)


def network(width: int, side: int) -> Callable[..., Value]:
    """Return a network of Values of every kind; `side` is that of its smaller maps."""

    def forward(image: Value, tokens: Value, free: Value) -> Value:
        relu, softmax = nn.functional.relu, nn.functional.softmax
        large = relu(nn.Conv2D(3, width, 3, padding=1)(image))
        small = relu(nn.Conv2D(width, 8, 3, stride=8 // side, padding=1)(large))
        last = nn.Conv2D(3, width, 3, padding=1, data_format="NHWC")(image.transpose([0, 2, 3, 1]))
        unknown = relu(nn.Conv2D(3, width, 3, padding=1)(free))
        vectors = small.mean([2, 3], keepdim=True).flatten(1)
        hidden = nn.Linear(16, 4 * width)(tokens)
        heads = hidden.reshape([0, 6, width, 4]).transpose([0, 2, 1, 3])
        scores = paddle.matmul(heads, heads, transpose_y=True)
        logits = nn.Linear(8, 5)(vectors)
        parts = paddle.split(small, 2, axis=1)
        branch = paddle.static.nn.cond(image.mean() > 0, lambda: relu(vectors), lambda: vectors * 2)
        fixed = relu(nn.Conv2D(3, 8, 1, weight_attr=_frozen(), bias_attr=_frozen())(image))
        channels = paddle.reshape(vectors, [-1, paddle.shape(free)[2]])
        others = [
            relu(last),
            relu(fixed),
            small.detach() * 2,
            softmax(scores),
            softmax(logits).unsqueeze(1),
            softmax(small, axis=1),
            small.unsqueeze(1),
            unknown.flatten(2),
            channels * 2,
            vectors.astype("float64") * 2,
            vectors.astype("bfloat16"),
            small.astype("bfloat16"),
            logits.argmax(-1),
            vectors.mean(1),
            parts[0],
            branch,
        ]
        for value in others:
            value.sum()
        return logits

    return forward


@dataclass(frozen=True)
class Grid:
    """A merge, and the Values that pairs name."""

    merged: gt.Merged
    startup: Any
    names: tuple[Sequence[str], Sequence[str]]


@cache
def grid(teacher_width: int, student_width: int) -> Grid:
    teacher, student = (
        build(network(width, width // 2), *FEEDS, start=False)
        for width in (teacher_width, student_width)
    )
    same = {name: name for name, *_ in FEEDS}
    merged = gt.merge(
        teacher.program,
        student.program,
        same,
        scope=student.scope,
        teacher_scope=teacher.scope,
        parameters="later",
    )
    graphs = merged.plan.teacher, merged.plan.student
    names = tuple(
        tuple(name for name in graph.values if not name.startswith(CONSTANTS)) for graph in graphs
    )
    return Grid(merged, student.startup, names)


def pair_of(made: Grid, names: tuple[str, str], loss: str, adapter: str | None) -> gt.Pair:
    plan = made.merged.plan
    teacher, student = (
        end_of(graph, graph.values[name])
        for graph, name in zip((plan.teacher, plan.student), names, strict=True)
    )
    given = {"rank": 1, "score": 1.0, "kind": Kind.FEATURE, "relation": Relation.UNKNOWN}
    ends = {"teacher": teacher, "student": student, "why": (), "warnings": ()}
    return gt.Pair(**given, **ends, adapter=adapter, loss=loss)


class _UndoneError(Exception):
    """All was built, and is to be taken out again."""


@contextmanager
def built_and_undone(made: Grid) -> Iterator[None]:
    program = made.merged.program
    paddle.enable_static()
    with (
        paddle.static.program_guard(program, made.startup),
        suppress(_UndoneError),
        rollback_on_error(program, made.startup),
    ):
        yield
        raise _UndoneError


def test_every_value_is_judged_alike_in_pairs_and_calls() -> None:
    """The same network twice, so that shapes and layouts agree and only the Values count."""
    made = grid(8, 8)
    merged, graph = made.merged, made.merged.plan.student
    seen = Counter[str]()
    for name in made.names[1]:
        value = graph.values[name]
        if value.elements or value.producer is None or "/" in name:
            continue  # no pair of these has a loss
        for loss in ("l2", "kl", "attention_scores"):
            report = gt.check_pairs([(name, name, loss)], merged.plan.teacher, graph)
            codes: set[str] = set()
            with built_and_undone(made):
                ends = merged.teacher(name), merged.student(name)
                try:
                    with warnings.catch_warnings(record=True) as warned:
                        warnings.simplefilter("always")
                        gt.losses.BY_NAME[loss](*ends)
                    codes |= {"GT228" for one in warned if "GT228" in str(one.message)}
                except gt.GraphtoolError as error:
                    codes |= {found.code for found in error.report}
            assert codes == {found.code for found in report}, (loss, name, value.shape)
            seen.update(codes or {"fine"})
    assert min(seen[code] for code in ("fine", "GT228", "GT333", "GT334", "GT336", "GT348")) > 1


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(loss, marks=pytest.mark.slow if loss == "l2" else pytest.mark.nightly)
        for loss in named_losses()
    ],
)
def test_pairs_are_refused_exactly_where_they_cannot_be_built(loss: str) -> None:
    """Every adapter is tried on every Value, and on one of other channels."""
    made, wrong, seen = grid(8, 4), list[str](), Counter[bool]()
    merged, takes = made.merged, named_losses()[loss].takes
    graphs = merged.plan.teacher, merged.plan.student
    names = [name for name in made.names[0] if name in made.names[1]]
    for name, adapter in product(names, ADAPTERS):
        shape = graphs[0].values[name].shape
        if adapter and (shape is None or not takes.accepts_rank(len(shape))):
            continue  # it is refused with any
        for other in {name, "relu_0"}:
            pairs = [pair_of(made, (name, other), loss, adapter)] * (1 + takes.flows)
            for options in ({}, OPTIONS[loss]) if loss in OPTIONS else ({},):
                told = gt.check_pairs(pairs, *graphs, options={loss: options}).errors
                refused = False
                with built_and_undone(made):
                    try:
                        gt.distill_loss(merged, pairs, options={loss: options})
                    except gt.GraphtoolError:
                        refused = True
                seen[refused] += 1
                if bool(told) != refused:
                    wrong.append(f"{name} {other} {adapter} {options}: {told}")

    assert wrong == []
    assert min(seen[True], seen[False]) > 1
