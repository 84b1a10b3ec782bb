"""Encoder layers of transformers, found without names."""

from __future__ import annotations

import pytest

from graphtool.structure import analyse
from tests.networks import Encoder, Mixer, Wrapped, built, vision


@pytest.mark.parametrize(
    ("pre", "train"),
    [
        (False, False),
        (True, True),
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
def test_every_layer_has_a_hidden_state_and_scores(pre: bool, train: bool) -> None:  # noqa: FBT001
    graph = built(lambda: Encoder(4, pre=pre), [7, 16], train=train)
    encoder = analyse(graph).encoder

    assert encoder is not None
    for index, name in enumerate(encoder.hidden_states):
        assert f"encoder.layers.{index}" in graph.values[name].layer_outputs
    assert len(encoder.hidden_states) == 4
    assert [graph.values[name or ""].shape for name in encoder.scores] == [(-1, 4, 7, 7)] * 4
    assert graph.values[encoder.embeddings or ""].layer == "project"


def test_a_connection_around_all_layers_does_not_hide_them() -> None:
    graph = built(Wrapped, [7, 16])
    encoder = analyse(graph).encoder

    assert encoder is not None
    for index, name in enumerate(encoder.hidden_states):
        assert f"encoder.encoder.layers.{index}" in graph.values[name].layer_outputs
    assert len(encoder.hidden_states) == 2


@pytest.mark.slow
def test_a_convolutional_network_has_none() -> None:
    assert analyse(vision("resnet18")).encoder is None


@pytest.mark.slow
def test_layers_without_attention_are_found_by_the_pattern_that_repeats() -> None:
    graph = built(lambda: Mixer(4), [3, 64, 64])
    structure = analyse(graph)

    assert structure.encoder is not None
    layers = [graph.values[name].layer for name in structure.encoder.hidden_states]
    assert layers == ["layers.0", "layers.1", "layers.2", "layers.3"]
    assert structure.encoder.scores == (None,) * 4
    assert [(x.is_layers, len(x.blocks)) for x in structure.sections] == [(True, 4)]
