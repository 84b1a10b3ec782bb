"""What `check_pairs` says of pairs is what the losses say when they are built on their Values.

The grid is made of all losses that pairs can name, adapters of all kinds, and pairs of Values of
two networks that have every kind: maps with channels first and last, pooled ones, vectors, tokens,
attention, probabilities, unknown dims, other ranks and dtypes, what is detached or made by frozen
parameters, parts of a branch, vectors of tensors, feeds and parameters.

Not looked at is what only weights, labels and the values of options decide, and numbers in the text
of an adapter, which no loss sees.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.both import Both
from graphtool.checks.adapters import parse_adapter
from graphtool.checks.fits import Alignment
from graphtool.checks.pairs import ComparedNetworks, fit_pairs
from graphtool.loss_specs import named_losses
from graphtool.losses._building import rollback_on_error
from graphtool.losses.distill import align_pair
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
def grid() -> Grid:
    teacher, student = (build(network(*size), *FEEDS, start=False) for size in ((8, 4), (4, 2)))
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


@dataclass(frozen=True)
class Case:
    """Pairs of one loss, two for a flow, and its options."""

    pairs: tuple[gt.Pair, ...]
    options: Mapping[str, object]

    @property
    def loss(self) -> str:
        return self.pairs[0].loss

    def __str__(self) -> str:
        ends = [
            f"{pair.teacher.name} {pair.teacher.shape}, {pair.student.name} {pair.student.shape}"
            f" by {pair.adapter}"
            for pair in self.pairs
        ]
        return f"{self.loss} {dict(self.options)}: {'; '.join(ends)}"


def drawn(seed: int, count: int) -> Iterator[Case]:
    """Draw pairs for each loss in turn, most of them of Values of its ranks that are made alike."""
    made, draw = grid(), random.Random(seed)
    losses = list(named_losses())

    def names(loss: str) -> tuple[str, str]:
        takes, graph = named_losses()[loss].takes, made.merged.plan.teacher
        ranked = [
            name
            for name in made.names[0]
            if (shape := graph.values[name].shape) is not None and takes.accepts_rank(len(shape))
        ]
        teacher = draw.choice(ranked if draw.random() < 0.85 else made.names[0])
        alike = teacher in made.names[1] and draw.random() < 0.7
        return teacher, teacher if alike else draw.choice(made.names[1])

    for number in range(count):
        loss = losses[number % len(losses)]
        pairs = [
            pair_of(made, names(loss), loss, draw.choice(ADAPTERS) if draw.random() < 0.4 else None)
            for _ in range(2 if named_losses()[loss].takes.flows else 1)
        ]
        options = draw.choice([{}, OPTIONS.get(loss, {})])
        yield Case(tuple(pairs), options)


def pair_of(made: Grid, names: tuple[str, str], loss: str, adapter: str | None) -> gt.Pair:
    plan = made.merged.plan
    teacher, student = (
        end_of(graph, graph.values[name])
        for graph, name in zip((plan.teacher, plan.student), names, strict=True)
    )
    return gt.Pair(
        rank=1,
        score=1.0,
        kind=Kind.FEATURE,
        teacher=teacher,
        student=student,
        relation=Relation.UNKNOWN,
        adapter=adapter,
        loss=loss,
        why=(),
        warnings=(),
    )


# Rarely drawn: channels last (`relu_4`) beside channels first, scores per place of an unknown size,
# a map of probabilities that is pooled.
CHOSEN = (
    ("attention", "relu_0", "relu_4", None),
    ("l2", "relu_0", "relu_4", "conv1x1"),
    ("l2", "relu_4", "relu_1", "conv1x1"),
    ("lskd", "relu_2", "relu_2", "conv1x1"),
    ("kl", "softmax_2", "relu_1", "resize"),
    ("kl", "relu_1", "softmax_2", "resize"),
)


def chosen() -> Iterator[Case]:
    for loss, teacher, student, adapter in CHOSEN:
        yield Case((pair_of(grid(), (teacher, student), loss, adapter),), {})


class _BuiltError(Exception):
    """All was built, and is to be taken out again."""


def is_refused(made: Grid, build: Callable[[], object]) -> bool:
    program = made.merged.program
    paddle.enable_static()
    with paddle.static.program_guard(program, made.startup):
        try:
            with (
                rollback_on_error(program, made.startup),
                raise_paddle_errors_as(gt.PairError, "loss"),
            ):
                build()
                raise _BuiltError
        except _BuiltError:
            return False
        except gt.GraphtoolError:
            return True


def build_unchecked(made: Grid, case: Case) -> object:
    """Build a loss on its Values as `distill_loss` does, with nothing checked before."""
    options, merged = dict(case.options), made.merged
    graphs = Both(merged.plan.teacher, merged.plan.student)
    networks = ComparedNetworks(graphs=graphs, prefix=merged.prefix)
    alignments = fit_pairs(networks, case.pairs, options, 0).alignments
    ends = list[Both[Value]]()
    for index, pair in enumerate(case.pairs):
        if pair.adapter is not None:
            parse_adapter(pair.adapter)
        values = Both(merged.teacher(pair.teacher.name), merged.student(pair.student.name))
        alignment = alignments[index] if alignments else Alignment(Both(None, None))
        ends.append(align_pair(values, alignment, name="adapter"))
    teachers, students = zip(*ends, strict=True)
    is_aligned = alignments and None not in tuple(alignments[0].axes)
    if named_losses()[case.loss].needs_class_axis and is_aligned:
        options["axis"] = 1 if len(teachers[0].shape) == 4 else -1
    return gt.losses.BY_NAME[case.loss](*teachers, *students, **options)


def disagreements(cases: Iterable[Case]) -> tuple[list[str], Counter[bool]]:
    """Return the cases that are judged differently, and how many are refused and built."""
    made = grid()
    graphs = made.merged.plan.teacher, made.merged.plan.student
    wrong, seen = list[str](), Counter[bool]()
    for case in cases:
        options = {case.loss: case.options}
        told = gt.check_pairs(case.pairs, *graphs, options=options).errors
        losses = is_refused(made, lambda case=case: build_unchecked(made, case))
        whole = is_refused(
            made,
            lambda case=case, options=options: gt.distill_loss(
                made.merged, case.pairs, options=options
            ),
        )
        seen[losses] += 1
        if not bool(told) == losses == whole:
            codes = [found.code for found in told]
            wrong.append(f"{case}: {codes}, refused by its loss: {losses}, by all: {whole}")
    return wrong, seen


@pytest.mark.slow
def test_pairs_are_refused_exactly_where_their_losses_refuse_them() -> None:
    wrong, seen = disagreements([*chosen(), *drawn(1, 19)])

    assert wrong == []
    assert min(seen[True], seen[False]) > 6


@pytest.mark.nightly
def test_many_pairs_are_refused_exactly_where_their_losses_refuse_them() -> None:
    wrong, seen = disagreements(drawn(2, 80))

    assert wrong == []
    assert min(seen[True], seen[False]) > 16
