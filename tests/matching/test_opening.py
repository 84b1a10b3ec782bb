"""Networks that are to run: whose weights they run with."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.matching import suggest_pairs
from graphtool.sources.layers import Network, from_layer
from tests.matching.evidence_networks import noise

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype("float32")


class Net(nn.Layer):
    """Two convolutions and a classifier, whose biases are as training leaves them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, width, 3, padding=1, bias_attr=noise())
        self.second = nn.Conv2D(width, 16, 3, stride=2, padding=1, bias_attr=noise())
        self.head = nn.Linear(16, 5, bias_attr=noise())

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.second(nn.functional.relu(self.first(x))))
        return self.head(x.mean([2, 3]))


class Wide(Net):
    """The same layers, with other channels between them."""

    def __init__(self) -> None:
        super().__init__(width=12)


def built(layer: type[Net] = Net) -> Network:
    """Build a network that has its parameters in a Scope, and counts its layers from 0."""
    with paddle.utils.unique_name.guard():
        return from_layer(layer, [("x", (3, 16, 16))], train=False)


def started(network: Network, scope: Any = None) -> Any:
    """Initialise a network, in a Scope of its own unless one is given."""
    paddle.enable_static()
    scope = paddle.static.Scope() if scope is None else scope
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(network.startup)
    return scope


def similarities(teacher: Network, student: Network, **scopes: Any) -> list[float | None]:
    return [pair.cka for pair in suggest_pairs(teacher, student, evidence=IMAGES, **scopes)]


def refused(teacher: Network, student: Network, **scopes: Any) -> Diagnostic:
    with pytest.raises(GraphtoolError) as raised:
        similarities(teacher, student, **scopes)
    (found,) = raised.value.report
    return found


@pytest.mark.slow
def test_two_networks_of_one_naming_do_not_run_with_the_weights_of_one() -> None:
    teacher, student = built(), built()
    teacher_scope = started(teacher)
    started(student, paddle.static.global_scope())
    found = refused(teacher, student)

    assert found.code == "GT384"
    assert found.message == (
        "6 parameters of teacher and student have the same name in the same Scope"
    )
    assert found.help == (
        'gt.suggest_pairs(teacher, student, evidence="samples.npz", teacher_scope=teacher_scope)'
    )
    apart = similarities(teacher, student, teacher_scope=teacher_scope)
    assert len(apart) > 2
    assert max(one or 0 for one in apart) < 0.99


@pytest.mark.slow
def test_the_students_scope_is_that_of_both_unless_the_teacher_has_one_as_in_merge() -> None:
    teacher, student = built(), built()
    scope, teacher_scope = started(student), started(teacher)

    assert refused(teacher, student, scope=scope).code == "GT384"
    apart = similarities(teacher, student, scope=scope, teacher_scope=teacher_scope)
    assert max(one or 0 for one in apart) < 0.99
    together = similarities(student, student, scope=scope)
    assert together == [1.0] * len(together)


@pytest.mark.pir
@pytest.mark.slow
def test_one_scope_that_is_named_for_both_is_meant_where_its_parameters_fit_both() -> None:
    teacher, student = built(), built()
    scope = started(teacher)
    alike = similarities(teacher, student, scope=scope, teacher_scope=scope)
    found = refused(built(Wide), student, scope=scope, teacher_scope=scope)

    assert alike == [1.0] * len(alike)
    assert (found.code, found.where[0].shape, found.where[1].shape) == (
        "GT384",
        (16, 12, 3, 3),
        (16, 8, 3, 3),
    )


def test_parameters_of_another_network_are_none_of_this_one() -> None:
    teacher, student = built(), built(Wide)
    held = started(teacher)
    found = refused(teacher, student, scope=held, teacher_scope=started(teacher))

    assert found.code == "GT376"
    assert found.message == (
        "3 of 6 parameters of the student were never loaded: "
        "the Scope does not hold them, which `scope` may name"
    )
    assert found.notes[1:] == (
        "--allow-random (in Python allow_random=True) measures all the same",
    )


def test_what_is_no_scope_is_refused() -> None:
    found = refused(built(), built(), teacher_scope=3)

    assert found.code == "GT248"
    assert found.message == "`teacher_scope` is `3`; wanted a Scope or None"
