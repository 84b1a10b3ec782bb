"""What must not change the suggestions: other names, another order, more beside, other forms."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphtool.graph import Graph
from graphtool.matching import Kind, Pair
from graphtool.matching.suggest import pairs_of
from graphtool.structure import Structure, analyse
from tests.matching.families import Case, cases, graph_of
from tests.matching.rewrites import (
    Rewritten,
    renamed,
    reordered,
    with_auxiliary_head,
    with_dead_branches,
    with_folded_norms,
    with_fused_activations,
    with_split_activations,
    with_unknown_sides,
    without_block,
    without_modules,
)

pytestmark = pytest.mark.nightly

Ends: TypeAlias = "tuple[Kind, str | None, str | None]"
Rewrite: TypeAlias = "Callable[[Graph], Rewritten]"

_CLASSES = 10
# Families whose networks have one output, a vector of class scores for an image.
_ONE_CLASSIFIER = {
    *("residual", "inverted residual", "depthwise-separable", "dense, squeeze", "VGG"),
    *("ConvNeXt, EfficientNet", "missing stage", "BN neck", "small inputs"),
    *("ViT", "ViT to CNN", "Swin", "Swin to CNN"),
}
# Families whose activations are single Operators by nature.
_WITH_RELU = {
    *("residual", "inverted residual", "dense, squeeze", "Inception, shuffle", "VGG"),
    *("missing stage", "BN neck", "small inputs", "FPN detector", "U-Net", "DeepLab", "CRNN"),
}
_TUNED = cases("tuned")


def _each(*found: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", found, ids=str)


_each_case = _each(*_TUNED)
_each_classifier = _each(*(case for case in _TUNED if case.family in _ONE_CLASSIFIER))


@dataclass(frozen=True, slots=True)
class _Changed:
    """A network that was written anew, analysed."""

    structure: Structure
    rewritten: Rewritten

    @classmethod
    def of(cls, rewritten: Rewritten) -> _Changed:
        return cls(analyse(rewritten.graph), rewritten)


@functools.cache
def _plain(net: str) -> _Changed:
    return _Changed.of(Rewritten(graph_of(net)))


@functools.cache
def _suggested(teacher: str, student: str) -> tuple[Pair, ...]:
    return _pairs(_plain(teacher), _plain(student))


def _pairs(teacher: _Changed, student: _Changed) -> tuple[Pair, ...]:
    return pairs_of(teacher.structure, student.structure).pairs


def _ends(pairs: Iterable[Pair]) -> list[Ends]:
    return [(pair.kind, pair.teacher.name, pair.student.name) for pair in pairs]


def _moved(case: Case, teacher: _Changed, student: _Changed) -> list[Ends]:
    """Return a case's pairs as they are called in two other forms; None is there no more."""
    return [
        (kind, ours and teacher.rewritten.of(ours), theirs and student.rewritten.of(theirs))
        for kind, ours, theirs in _ends(_suggested(case.teacher, case.student))
    ]


def _changed(case: Case, rewrite: Rewrite) -> Iterator[tuple[_Changed, _Changed]]:
    """Yield both networks rewritten, then only the teacher, then only the student."""
    plain = _plain(case.teacher), _plain(case.student)
    teacher, student = (_Changed.of(rewrite(one.rewritten.graph)) for one in plain)
    yield teacher, student
    yield teacher, plain[1]
    yield plain[0], student


def _said(pair: Pair) -> tuple[object, ...]:
    """Return what is said of a pair, but for names and reasons, which may tell a block's class."""
    taps = tuple(other.tap for other in pair.alternatives)
    return pair.rank, pair.score, pair.relation, pair.adapter, pair.loss, pair.weight, taps


_SPELLINGS: Mapping[str, Rewrite] = {
    "other names": renamed,
    "no modules": without_modules,
    "another order": functools.partial(reordered, seed=7),
}


@pytest.mark.parametrize("spelling", _SPELLINGS)
@_each_case
def test_names_and_order_change_nothing_that_is_said(case: Case, spelling: str) -> None:
    wanted = list(map(_said, _suggested(case.teacher, case.student)))
    for teacher, student in _changed(case, _SPELLINGS[spelling]):
        pairs = _pairs(teacher, student)

        assert _ends(pairs) == _moved(case, teacher, student)
        assert list(map(_said, pairs)) == wanted


# What a network is made of instead, and the families that have nothing of the sort.
_FORMS: Mapping[str, tuple[Rewrite, set[str]]] = {
    "branches that nothing reads": (with_dead_branches, {"BERT"}),
    "folded norms": (with_folded_norms, {"VGG", "ViT", "Swin", "BERT"}),
    "split activations": (with_split_activations, _WITH_RELU),
    "unknown sides": (with_unknown_sides, set()),
}


@pytest.mark.parametrize(
    ("case", "form"),
    [
        pytest.param(case, form, id=f"{case}-{form}")
        for form, (_, excepted) in _FORMS.items()
        for case in _TUNED
        if case.family not in excepted
    ],
)
def test_another_form_of_a_network_has_the_same_pairs(case: Case, form: str) -> None:
    for teacher, student in _changed(case, _FORMS[form][0]):
        assert _ends(_pairs(teacher, student)) == _moved(case, teacher, student)


@_each(*(case for case in _TUNED if case.family not in {"ViT", "Swin", "BERT"}))
def test_what_a_fused_network_still_has_is_paired_alike(case: Case) -> None:
    """Raw convolutions are inside fused Operators, so pairs of those cannot be had."""

    def folded_and_fused(graph: Graph) -> Rewritten:
        return with_folded_norms(graph).then(with_fused_activations)

    for teacher, student in _changed(case, folded_and_fused):
        wanted = [ends for ends in _moved(case, teacher, student) if None not in ends]
        found = _ends(_pairs(teacher, student))

        assert [ends for ends in found if ends in wanted] == wanted


@pytest.mark.parametrize("place", [0, 1])
@_each_classifier
def test_an_auxiliary_head_in_one_network_changes_no_pair(case: Case, place: int) -> None:
    with_one = functools.partial(with_auxiliary_head, classes=_CLASSES, place=place)
    _, *ones = _changed(case, with_one)
    for teacher, student in ones:
        assert _ends(_pairs(teacher, student)) == _moved(case, teacher, student)


@_each_classifier
def test_auxiliary_heads_in_both_are_paired_and_the_others_keep_their_order(case: Case) -> None:
    with_one = functools.partial(with_auxiliary_head, classes=_CLASSES)
    teacher, student = next(_changed(case, with_one))
    pairs = _ends(_pairs(teacher, student))
    heads = tuple(side.structure.graph.fetches[1] for side in (teacher, student))
    others = [ends for ends in pairs if ends[1:] != heads]

    assert len(others) == len(pairs) - 1
    assert others == _moved(case, teacher, student)[: len(others)]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    case=st.sampled_from([case for case in _TUNED if case.family != "BERT"]),
    seed=st.integers(0, 2**32),
    count=st.integers(2, 4),
)
def test_changes_one_after_another_change_nothing(case: Case, seed: int, count: int) -> None:
    draw = random.Random(seed)
    teacher, student = (_drawn(net, draw, count) for net in (case.teacher, case.student))

    assert _ends(_pairs(teacher, student)) == _moved(case, teacher, student)


def _drawn(net: str, draw: random.Random, count: int) -> _Changed:
    order = functools.partial(reordered, seed=draw.randrange(2**32))
    changes = renamed, without_modules, with_dead_branches, with_folded_norms, order
    changed = Rewritten(graph_of(net))
    for change in draw.sample(changes, count):
        changed = changed.then(change)
    return _Changed.of(changed)


@_each_case
def test_a_network_is_paired_with_itself_value_by_value(case: Case) -> None:
    for net in (case.teacher, case.student):
        pairs = _ends(_suggested(net, net))

        assert len(pairs) >= 3
        assert [theirs for _, _, theirs in pairs] == [ours for _, ours, _ in pairs]


@_each_case
def test_exchanging_teacher_and_student_mirrors_the_pairs(case: Case) -> None:
    pairs = _ends(_suggested(case.teacher, case.student))
    mirrored = _ends(_suggested(case.student, case.teacher))

    assert [(kind, ours, theirs) for kind, theirs, ours in mirrored] == pairs


def test_exchanging_networks_of_plain_convolutions_mirrors_what_is_inside_their_stages() -> None:
    deep, shallow = "vgg-1-1-3-3-3", "vgg-2-2-2-2-2"
    pairs, mirrored = _ends(_suggested(deep, shallow)), _ends(_suggested(shallow, deep))

    assert sum(kind is Kind.FEATURE for kind, _, _ in pairs) >= 2
    assert [(kind, ours, theirs) for kind, theirs, ours in mirrored] == pairs


@_each_case
def test_a_network_without_a_block_is_paired_with_the_whole_one(case: Case) -> None:
    """The ends of stages are; transformers are left out, whose layers go by their fraction."""
    for net in (case.teacher, case.student):
        stages = [ends for ends in _ends(_suggested(net, net)) if ends[0] is Kind.STAGE]
        for lacking in map(_Changed.of, _lacking(_plain(net).structure)):
            found = _ends(_pairs(_plain(net), lacking))

            wanted = [(kind, name, name and lacking.rewritten.of(name)) for kind, name, _ in stages]
            assert [ends for ends in found if ends[0] is Kind.STAGE] == wanted


def _lacking(structure: Structure) -> Iterator[Rewritten]:
    """Take each block out whose output has the shape of its input, if it's a whole one.

    A join and the 1×1 convolution behind it are one CSP layer, so neither goes alone from within a
    stage. One convolution isn't left of the first stage: that is a stem then.
    """
    graph = structure.graph
    for index, stage in enumerate(structure.stages if structure.encoder is None else ()):
        for before, after in pairwise(stage.blocks):
            joins = structure.is_join(before), structure.is_join(after)
            is_whole = after == stage.end or joins[0] == joins[1]
            is_stem = index == 0 and len(stage.blocks) == 2 and not joins[0]
            if graph.values[before].shape == graph.values[after].shape and is_whole and not is_stem:
                yield without_block(graph, before, after)
