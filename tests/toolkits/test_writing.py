from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from paddle import nn

from graphtool.diagnostics import PairError, UsageError
from graphtool.graph import Graph
from graphtool.matching import Kind, PairSet, Relation, suggest_pairs
from graphtool.matching.pairs import end_of
from graphtool.matching.recipe import read_recipe, recipe_text
from graphtool.selectors import find
from graphtool.sources import read
from graphtool.toolkits import CONFIGS, check_export, export
from tests.networks import built, vision

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def resnets() -> PairSet:
    return suggest_pairs(vision("resnet34"), vision("resnet18"), limit=6)


def parsed(pairs: PairSet, name: str) -> Any:
    return yaml.safe_load(export(pairs, name))


def test_paddleclas_gets_the_layers_by_their_paths_and_a_loss_for_each_pair(
    resnets: PairSet,
) -> None:
    document = parsed(resnets, "paddleclas")
    arch, losses = document["Arch"], document["Loss"]["Train"]
    teacher, student = (next(iter(model.values())) for model in arch["models"])
    assert [next(iter(model)) for model in arch["models"]] == ["Teacher", "Student"]
    assert arch["name"] == "DistillationModel"
    assert arch["freeze_params_list"] == [True, False]
    assert (teacher["name"], student["name"]) == ("resnet34", "resnet18")
    assert teacher["return_patterns"] == ["layer4[2]", "layer3[5]", "layer2[3]", "layer1[2]"]
    assert student["return_patterns"] == ["layer4[1]", "layer3[1]", "layer2[1]", "layer1[1]"]
    assert [next(iter(loss)) for loss in losses] == [
        "DistillationGTCELoss",
        "DistillationKLDivLoss",
        *["DistillationPairLoss"] * 4,
    ]
    shared = {"weight": 1.0, "model_name_pairs": [["Student", "Teacher"]]}
    logits = {**shared, "temperature": 4.0, "key": "logits"}
    assert losses[1]["DistillationKLDivLoss"] == logits
    tap = {**shared, "base_loss_name": "DistanceLoss", "mode": "l2", "name": "loss_stage_3"}
    keys = {"s_key": "layer4[1]", "t_key": "layer4[2]"}
    assert losses[2]["DistillationPairLoss"] == {**tap, **keys}


def test_what_no_sublayer_returns_is_left_out_and_yaml_has_no_anchors(resnets: PairSet) -> None:
    (found,) = check_export(resnets, "paddleclas")
    assert found.code == "GT320"
    assert found.message == "pair 2 is left out: in the teacher, no sublayer returns the Value"
    assert f"\n# {found.message}\n" in export(resnets, "paddleclas")
    assert all("&id" not in export(resnets, name) for name in CONFIGS)


@pytest.mark.slow
def test_a_pair_that_needs_an_adapter_is_left_out() -> None:
    pairs = suggest_pairs(vision("resnet34"), vision("mobilenet_v2"))
    losses = parsed(pairs, "paddleclas")["Loss"]["Train"]
    assert [next(iter(loss)) for loss in losses] == [
        "DistillationGTCELoss",
        "DistillationKLDivLoss",
    ]
    assert "key" not in losses[1]["DistillationKLDivLoss"]
    messages = [found.message for found in check_export(pairs, "paddleclas")]
    assert messages[0].startswith("pair 2 is left out: in the teacher, no sublayer returns")
    assert messages[1].startswith("pairs 3, 7 are left out")
    assert messages[1].endswith("has no key for the adapter `conv1x1(320->512)`")


class Detector(nn.Layer):
    """One head that is run over two maps, so that its path means two Values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2D(3, width, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2D(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Conv2D(width, 6, 1)

    def forward(self, x: Any) -> list[Any]:
        x = self.first(x)
        return [self.head(x), self.head(self.second(x))]


def detections() -> PairSet:
    teacher, student = (built(lambda: Detector(8), (3, 32, 32)) for _ in range(2))
    (left, right), pair = teacher.fetches, suggest_pairs(teacher, student).pairs[0]
    heads = [
        replace(
            pair,
            rank=rank,
            kind=Kind.HEAD,
            adapter=None,
            relation=Relation.EQUAL,
            teacher=end_of(teacher, teacher.values[name]),
            student=end_of(student, student.values[name]),
        )
        for rank, name in enumerate((left, right), 1)
    ]
    return PairSet(teacher=teacher, student=student, pairs=tuple(heads))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.slow
def test_a_path_that_means_several_values_is_refused(name: str) -> None:
    pairs = detections()
    with pytest.raises(PairError) as error:
        export(pairs, name)
    (found,) = error.value.report
    assert found.notes == ("in the teacher, `head` returns several Values",)


@pytest.mark.slow
def test_a_pair_beside_those_of_a_shared_path_is_kept() -> None:
    pairs = detections()
    end = end_of(pairs.teacher, find(pairs.teacher, "first"))
    kept = replace(pairs.pairs[0], rank=3, teacher=end, student=end)
    several = replace(pairs, pairs=(*pairs.pairs, kept))
    _, tap = parsed(several, "paddleclas")["Loss"]["Train"]
    assert tap["DistillationPairLoss"]["t_key"] == "first[1]"
    (found,) = check_export(several, "paddleclas")
    assert found.code == "GT320"
    assert found.message.startswith("pairs 1, 2 are left out: in the teacher, `head` returns")


@pytest.mark.slow
def test_two_logits_would_go_by_one_name_in_paddleclas() -> None:
    pairs = detections()
    logits = tuple(replace(pair, kind=Kind.LOGITS) for pair in pairs)
    with pytest.raises(PairError, match="`logits` would mean several Values"):
        export(replace(pairs, pairs=logits), "paddleclas")
    alone = parsed(replace(pairs, pairs=logits[:1]), "paddleclas")["Loss"]["Train"]
    assert list(alone[1]) == ["DistillationKLDivLoss"]


@pytest.mark.slow
def test_paddleocr_gets_backbone_and_head_by_its_own_keys(
    recognisers: tuple[Graph, Graph],
) -> None:
    pairs = suggest_pairs(*recognisers)
    document = parsed(pairs, "paddleocr")
    models = document["Architecture"]["Models"]
    assert document["Architecture"]["name"] == "DistillationModel"
    assert [models[role]["freeze_params"] for role in ("Teacher", "Student")] == [True, False]
    assert all(model["return_all_feats"] for model in models.values())
    losses = document["Loss"]["loss_config_list"]
    assert document["Loss"]["name"] == "CombinedLoss"
    assert losses[0]["DistillationDMLLoss"]["key"] == "head_out"
    keys = {next(iter(loss.values()))["key"] for loss in losses}
    assert keys >= {"head_out", "backbone_out"}


@pytest.mark.parametrize("name", CONFIGS)
def test_pairs_of_files_cannot_be_named(name: str) -> None:
    graph = read(FIXTURES / "3.3.1" / "cnn.json")
    pairs = suggest_pairs(graph, graph)
    with pytest.raises(PairError) as error:
        export(pairs, name)
    (found,) = error.value.report
    assert found.code == "GT320"
    assert found.notes == (
        "the teacher has no attribute paths: name it as `module:callable`, not as a file",
    )
    assert found.help is not None
    assert found.help.endswith(f" --as {name}")


def test_paths_in_a_recipe_are_kept_where_the_program_has_none() -> None:
    graph = vision("resnet18")
    pairs = suggest_pairs(graph, graph)
    bare = {
        name: replace(value, layer=None, layer_outputs=()) for name, value in graph.values.items()
    }
    saved = replace(graph, values=bare)
    recipe = read_recipe(recipe_text(pairs), teacher=saved, student=saved)
    losses = parsed(recipe.pairs, "paddleclas")["Loss"]["Train"]
    assert losses[2]["DistillationPairLoss"]["t_key"] == "layer4[1]"


def test_an_unknown_configuration_is_wrong_usage(resnets: PairSet) -> None:
    with pytest.raises(UsageError) as error:
        export(resnets, "mmrazor")
    (found,) = error.value.report
    assert found.code == "GT320"
    assert found.message == (
        "there is no configuration `mmrazor`; there are `paddleclas`, `paddleocr`"
    )


def test_hostile_paths_stay_strings(resnets: PairSet) -> None:
    hostile = "layer: [1]\n# - &a *b !!python/object:x\x1b \"'"
    pair = resnets.pairs[2]
    values = dict(resnets.teacher.values)
    value = values[pair.teacher.name]
    values[value.name] = replace(value, layer=hostile, layer_outputs=(hostile,))
    teacher = replace(resnets.teacher, values=values)
    pairs = replace(resnets, teacher=teacher, pairs=(pair,))
    (_, tap) = parsed(pairs, "paddleclas")["Loss"]["Train"]
    assert tap["DistillationPairLoss"]["t_key"] == hostile
