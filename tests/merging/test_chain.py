"""Programs that learn from a teacher, handed over again: as a teacher, or as what was merged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.backend.paddle import in_mode
from graphtool.checks import check_pairs
from graphtool.losses.distill import distill_loss
from graphtool.matching import partners, suggest_pairs
from graphtool.merging import Merged, check_merge, merge
from graphtool.merging.folder import load_merged, save_merged
from graphtool.sources.layers import Network, from_layer
from graphtool.training import export_student, for_test, minimize
from tests.merging.cases import legacy
from tests.merging.networks import array_in, hold, run, steps

_FED = {"x": "x"}


class Recogniser(nn.Layer):
    """Convolutions, then layers that attend: what a text line is read by."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, width, 3, 2, 1), nn.BatchNorm2D(width), nn.ReLU())
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(width, 11)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(self.stem(x).mean(2).transpose([0, 2, 1])))


def recogniser(width: int, depth: int, *, train: bool = True) -> Network:
    paddle.seed(width)
    return from_layer(Recogniser(width, depth), [("x", (3, 8, 16))], train=train)


class Small(nn.Layer):
    """What legacy Programs of Paddle 3 can be built of as well."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(8, width), nn.BatchNorm1D(width), nn.ReLU(), nn.Linear(width, 5)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def small(width: int) -> Network:
    paddle.seed(width)
    # The guard of legacy Programs is of static mode.
    with in_mode(static=False):
        layer = Small(width)
    return from_layer(layer, [("x", (8,))])


@pytest.fixture(params=[pytest.param("PIR", marks=pytest.mark.pir), "legacy"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let networks be built, merged and run as Programs of one kind."""
    if request.param == "PIR":
        yield request.param
        return
    with legacy():
        yield request.param


def samples(*shape: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(3).standard_normal(shape).astype("float32")}


def names_of(pairs: Any) -> list[tuple[str, str]]:
    return [(pair.teacher.name, pair.student.name) for pair in pairs]


@pytest.mark.pir
@pytest.mark.parametrize("handed_over", ["network", "program", "clone", "merged"])
@pytest.mark.slow
def test_a_student_is_paired_without_the_teacher_that_was_merged_into_it(handed_over: str) -> None:
    teacher, student = recogniser(8, 4, train=False), recogniser(8, 1)
    wanted = names_of(suggest_pairs(teacher, student))
    merged = merge(teacher, student, _FED)
    paddle.enable_static()
    source = {
        "network": student,
        "program": student.program,
        "clone": student.program.clone(),
        "merged": merged,
    }[handed_over]

    pairs = suggest_pairs(teacher, source)
    assert names_of(pairs) == wanted
    assert check_pairs(pairs, teacher, source).errors == ()
    assert names_of(partners(teacher, source, wanted[0][0]))[0] == wanted[0]
    with paddle.static.program_guard(merged.program, paddle.static.Program()):
        assert len(distill_loss(merged, pairs).parts) == len(wanted)


@pytest.mark.pir
@pytest.mark.slow
def test_a_second_teacher_is_paired_without_the_first() -> None:
    first, second = recogniser(8, 4, train=False), recogniser(8, 3, train=False)
    student = recogniser(8, 1)
    wanted = names_of(suggest_pairs(second, student))
    merge(first, student, _FED)
    pairs = suggest_pairs(second, student.program)
    merged = merge(second, student, _FED, name_prefix="second_")
    paddle.enable_static()

    assert names_of(pairs) == wanted
    for found in (pairs, suggest_pairs(second, student.program)):
        with paddle.static.program_guard(merged.program, paddle.static.Program()):
            assert len(distill_loss(merged, found).parts) == len(wanted)


def taught(teacher: Network, assistant: Network, scope: Any) -> Merged:
    """Merge a teacher into an assistant, which then learns for three steps."""
    paddle.enable_static()
    merged = merge(teacher, assistant, _FED, scope=scope)
    ends = [network.fetches[0] for network in (teacher, assistant)]
    startup = paddle.static.Program()
    with paddle.static.program_guard(merged.program, startup):
        loss = distill_loss(merged, [(ends[0], ends[1], "l2")]).total
        minimize(paddle.optimizer.Adam(0.01), loss)
    run(startup, scope, {})
    first, *_, last = [one for (one,) in steps(3, merged.program, scope, samples(4, 8), loss)]
    assert last < first
    return merged


@pytest.mark.parametrize("handed_over", ["network", "program", "clone"])
@pytest.mark.slow
def test_an_assistant_teaches_what_it_has_learnt_and_its_teacher_stays_behind(
    kind: str, handed_over: str
) -> None:
    teacher, assistant, student = (small(width) for width in (16, 8, 4))
    first, scope, feed = paddle.static.Scope(), paddle.static.Scope(), samples(4, 8)
    chain = taught(teacher, assistant, first)
    test, (answer,) = for_test(chain.program, fetch=[assistant.fetches[0]])
    (wanted,) = run(test, first, feed, answer)
    source = {
        "network": assistant,
        "program": assistant.program,
        "clone": assistant.program.clone(),
    }[handed_over]

    assert student.graph.kind.value == kind
    assert check_merge(source, student, _FED, scope).errors == ()
    merged = merge(source, student, _FED, scope=scope)

    (found,) = run(merged.program, scope, feed, merged.teacher(assistant.fetches[0]))
    assert found.tobytes() == wanted.tobytes()
    assert set(dict(merged.plan.weights)) == set(assistant.parameters.values())
    operators = len(merged.source.graph.operators) + len(merged.before.graph.operators)
    assert operators - len(merged.graph.operators) in (0, 1)  # What feeds both is one.
    assert merged.verify(feed)


@pytest.mark.slow
def test_an_assistant_teaches_from_another_scope_where_one_is_given() -> None:
    teacher, assistant, student = (small(width) for width in (16, 8, 4))
    paddle.enable_static()
    first, other = paddle.static.Scope(), paddle.static.Scope()
    merge(teacher, assistant, _FED, scope=first)
    for name in assistant.parameters.values():
        array = array_in(first, name)
        hold(other, name, array + 1)
    scope = paddle.static.Scope()
    merged = merge(assistant, student, _FED, scope=scope, teacher_scope=other)

    for old, new in merged.plan.weights:
        wanted, found = (array_in(home, name) for home, name in ((other, old), (scope, new)))
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.slow
def test_a_network_teaches_itself_under_two_prefixes(kind: str) -> None:
    network, scope, feed = small(8), paddle.static.Scope(), samples(4, 8)
    assert network.graph.kind.value == kind
    paddle.enable_static()
    for prefix in ("first_", "second_"):
        merged = merge(network, network, _FED, scope=scope, name_prefix=prefix)

        assert "GT232" in [found.code for found in merged.report]
        assert merged.verify(feed).equal
        assert set(dict(merged.plan.weights)) == set(network.parameters.values())
    answers = [one.teacher(network.fetches[0]) for one in merged.teachers]
    found = run(merged.program, scope, feed, *answers)
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.slow
def test_a_student_from_a_folder_is_exported_with_its_feeds_and_its_layers_keys(
    kind: str, tmp_path: Path
) -> None:
    teacher, student = small(8), small(4)
    assert student.graph.kind.value == kind
    paddle.enable_static()
    merged = merge(teacher, student, _FED, scope=paddle.static.Scope())
    save_merged(merged, tmp_path / "folder")
    loaded = load_merged(tmp_path / "folder", scope=paddle.static.Scope())

    for source, name in ((merged, "merged"), (loaded, "loaded")):
        found = export_student(source, tmp_path / name)
        assert (found.feeds, found.fetches) == (("x",), student.fetches)
        state = paddle.load(str(tmp_path / f"{name}.pdparams"))
        assert state.keys() == student.parameters.keys()
        program, feeds, fetches = paddle.static.load_inference_model(
            str(tmp_path / name), paddle.static.Executor()
        )
        (answer,) = run(program, paddle.static.global_scope(), samples(4, 8), *fetches)
        assert (feeds, answer.shape) == (["x"], (4, 5))
