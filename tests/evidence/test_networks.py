"""Networks that are to run: whose weights they run with, in which mode, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from graphtool.diagnostics import Diagnostic, GraphtoolError, PairError, Severity
from graphtool.evidence import suggest_pairs
from graphtool.selectors import find
from graphtool.sources.layers import Network, from_layer
from tests.evidence.networks import (
    IMAGES,
    Small,
    diagnostic,
    gathered,
    main_lines,
    measured,
    small,
)
from tests.merging.networks import build

MODULE = "tests.evidence.networks"


class Wide(Small):
    """The same layers, with other channels between them."""

    def __init__(self) -> None:
        super().__init__(width=12)


def built(layer: type[Small] = Small) -> Network:
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


def similarities(teacher: Network, student: Network, **scopes: Any) -> set[float | None]:
    return {pair.cka for pair in suggest_pairs(teacher, student, evidence=IMAGES, **scopes)}


def refused(teacher: Any, student: Any, **options: Any) -> Diagnostic:
    with pytest.raises(GraphtoolError) as raised:
        suggest_pairs(teacher, student, evidence=IMAGES, **options)
    return diagnostic(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("is_global", [True, False])
def test_two_networks_of_one_naming_do_not_run_with_the_weights_of_one(is_global: bool) -> None:  # noqa: FBT001
    teacher, student = built(), built()
    teacher_scope = started(teacher)
    scope = started(student, paddle.static.global_scope() if is_global else None)
    scopes = {} if is_global else {"scope": scope}
    found = refused(teacher, student, **scopes)

    assert found.code == "GT384"
    assert "parameters of teacher and student have the same name" in found.message
    assert found.help == (
        'gt.suggest_pairs(teacher, student, evidence="samples.npz", teacher_scope=teacher_scope)'
    )
    apart = similarities(teacher, student, teacher_scope=teacher_scope, **scopes)
    assert len(apart) > 2
    assert max(one or 0 for one in apart) < 0.99
    assert similarities(student, student, **scopes) == {1.0}


@pytest.mark.pir
@pytest.mark.slow
def test_one_scope_that_is_named_for_both_is_meant_where_its_parameters_fit_both() -> None:
    teacher, student = built(), built()
    scope = started(teacher)
    found = refused(built(Wide), student, scope=scope, teacher_scope=scope)

    assert similarities(teacher, student, scope=scope, teacher_scope=scope) == {1.0}
    assert (found.code, found.where[0].shape, found.where[1].shape) == (
        "GT384",
        (16, 12, 3, 3),
        (16, 8, 3, 3),
    )


def test_parameters_of_another_network_are_none_of_this_one() -> None:
    teacher, student = built(), built(Wide)
    found = refused(teacher, student, scope=started(teacher), teacher_scope=started(teacher))

    assert found.code == "GT376"
    assert found.message == (
        "7 of 10 parameters of the student were never loaded: "
        "the Scope does not hold them, which `scope` may name"
    )
    assert found.notes[1:] == (
        "--allow-random (in Python allow_random=True) measures all the same",
    )


def test_a_graph_can_not_run(network: Network) -> None:
    assert "the student is a Graph, which cannot run" in refused(network, network.graph).message


def test_weights_that_are_no_numbers_are_named_though_a_relu_hides_them() -> None:
    broken = small()
    weight = broken.layer.second.weight
    weight.set_value(np.full(weight.shape, np.nan, "float32"))
    found = refused(broken, broken)

    assert (found.code, found.where[0].value) == ("GT372", weight.name)
    assert "the parameters have a NaN" in found.message


def test_what_paddle_refuses_to_run_is_a_diagnostic() -> None:
    paddle.disable_static()
    net = nn.Sequential(nn.Embedding(4, 8), nn.Flatten(), nn.Linear(16, 5))
    network = from_layer(net, [("ids", (2,), "int64")], train=False)
    ids = np.full((8, 2), 4)  # out of range
    with pytest.raises(PairError, match="the teacher does not run on the samples: ") as raised:
        measured(ids, network, allow_random=True)

    found = diagnostic(raised.value)
    assert (found.code, found.notes) == ("GT258", ("fed: `ids`",))
    assert raised.value.__cause__ is not None


@pytest.mark.slow
def test_random_weights_are_an_error_unless_they_are_allowed(network: Network) -> None:
    fresh = from_layer(paddle.vision.models.LeNet(), [("x", (1, 28, 28))], train=False)
    names = main_lines(fresh, network)[0]
    with pytest.raises(GraphtoolError, match="one number throughout") as raised:
        gathered(fresh, fresh, (names, names), "random")
    code, inputs = "paddle.vision.models:LeNet", (["1,28,28"], ())
    allowed = gathered(
        code, fresh, (names, names), "random", batches=1, allow_random=True, inputs=inputs
    )

    refused = diagnostic(raised.value)
    # They were loaded: loading them again does not help.
    assert (refused.code, str(refused.help)) == (
        "GT376",
        "gt.suggest_pairs(..., allow_random=True)",
    )
    found = [one for one in allowed.report if one.code == "GT376"]
    assert [one.severity for one in found] == [Severity.WARNING] * 2
    assert allowed.scores


class Recurrent(nn.Layer):
    """Has a state of dropout that holds nothing in dynamic mode."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.GRU(4, 8), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.recurrent(x)[0].mean(1))


@pytest.mark.pir
def test_recurrent_layers_of_dynamic_mode_are_measured() -> None:
    paddle.disable_static()
    recurrent = from_layer(Recurrent(), [("x", (6, 4))], train=False)
    found = measured("random", recurrent, batches=1, allow_random=True)
    name = find(recurrent.graph, "head").name

    assert found.scores[name, name] == pytest.approx(1.0)


@pytest.mark.pir
@pytest.mark.slow
def test_a_callable_counts_as_loaded_where_it_loads_its_weights(network: Network) -> None:
    names = main_lines(network, network)
    inputs = ["3,16,16"]
    found = gathered(f"{MODULE}:loaded", network, names, f"{MODULE}:batches", inputs=(inputs, ()))

    assert (found.batches, found.samples) == (4, 32)
    assert found.scores == gathered(small(seed=3), network, names, f"{MODULE}:batches").scores


def with_label(x: Any, label: Any) -> Any:
    loss = nn.functional.cross_entropy(Small()(x), label)
    paddle.optimizer.Adam(1e-3).minimize(loss)
    return loss


@pytest.mark.slow
def test_a_training_program_runs_in_test_mode_without_its_label_and_stays_as_it_was() -> None:
    network = build(with_label, ("x", [-1, 3, 16, 16], "float32"), ("label", [-1, 1], "int64"))
    paddle.disable_static()
    operators = [op.name() for op in network.program.global_block().ops]
    held = bytes_of(network.scope)
    scopes = {"scope": network.scope, "teacher_scope": network.scope}

    # Dropout would make the two ends differ.
    assert similarities(network.program, network.program, **scopes) == {1.0}
    assert bytes_of(network.scope) == held
    assert [op.name() for op in network.program.global_block().ops] == operators
    assert paddle.in_dynamic_mode()


def bytes_of(scope: Any) -> dict[str, bytes]:
    tensors = {name: scope.find_var(name).get_tensor() for name in scope.local_var_names()}
    return {name: np.array(held).tobytes() for name, held in tensors.items() if held.shape()}


@pytest.mark.pir
@pytest.mark.slow
def test_a_saved_model_has_the_scores_of_the_network_that_it_was_saved_from(
    network: Network, tmp_path: Path
) -> None:
    spec = [paddle.static.InputSpec([-1, 3, 16, 16], "float32", "x")]
    network.layer.eval()
    paddle.jit.save(network.layer, str(tmp_path / "net"), input_spec=spec)
    network.layer.train()
    path = tmp_path / "net.json"

    saved = suggest_pairs(path, network, evidence=IMAGES)
    assert [pair.cka for pair in saved] == [1.0] * len(saved)
    (tmp_path / "net.pdiparams").unlink()
    assert refused(path, network).code == "GT376"
