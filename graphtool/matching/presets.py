"""Presets of published methods: which pairs, with which losses and weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from graphtool.loss_specs import named_losses
from graphtool.matching.pairs import Kind, Pair
from graphtool.matching.relations import LOSS_OF_SIGMOID_SCORES, can_compare
from graphtool.structure import Tap

__all__ = ["PRESETS", "Preset", "PresetName", "Stages", "adapter_for"]


class PresetName(str, Enum):
    """The published forms, the one that gains most first.

    For one teacher and student (resnet34 and resnet18 on ImageNet, PaddleClas), losses on logits
    gain 1.8 to 2.0 points of accuracy, losses on feature maps 0.9 to 1.4.
    """

    LOGITS = "logits"
    FEATURES = "features"
    TRANSFORMER = "transformer"
    OVERHAUL = "overhaul"
    ATTENTION = "attention"
    FITNET = "fitnet"
    MINILM = "minilm"


class Stages(Enum):
    """Which of the stages a preset takes."""

    ALL = "all"
    LAST = "last"
    MIDDLE = "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a published form pairs (`what`, as text): the loss and weight of each kind, and the tap.

    Sigmoid scores keep the loss suggested for them, with weight 1: a softmax over them means
    nothing, and over a single one is constant.
    """

    what: str
    losses: Mapping[Kind, tuple[str, float]]
    stages: Stages = Stages.ALL
    tap: Tap | None = None

    def choose(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Choose the suggested pairs that the losses can compare, and set loss and weight."""
        fitting = [
            pair for pair in self._with_losses(pairs) if can_compare(pair.loss, pair.relation)
        ]
        # In program order.
        stages = sorted(
            (pair for pair in fitting if pair.kind is Kind.STAGE),
            key=lambda pair: pair.teacher.op_index or 0,
        )
        if stages and self.stages is not Stages.ALL:
            stages = [stages[-1 if self.stages is Stages.LAST else (len(stages) - 1) // 2]]
        chosen = [pair for pair in fitting if pair.kind is not Kind.STAGE or pair in stages]
        return tuple(replace(pair, rank=rank) for rank, pair in enumerate(chosen, 1))

    def unfit(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Return the pairs that the losses cannot compare."""
        own = self._with_losses(pairs)
        return tuple(pair for pair in own if not can_compare(pair.loss, pair.relation))

    def _with_losses(self, pairs: Sequence[Pair]) -> Iterator[Pair]:
        """Yield the pairs of the preset's kinds, with its loss and weight."""
        for pair in pairs:
            if pair.kind in self.losses:
                loss, weight = self.losses[pair.kind]
                if pair.kind is Kind.LOGITS and pair.loss == LOSS_OF_SIGMOID_SCORES:
                    why = f"scores that are judged one by one: `{pair.loss}` in place of `{loss}`"
                    pair = replace(pair, why=(*pair.why, why))
                    loss, weight = pair.loss, 1.0
                yield replace(pair, loss=loss, weight=weight, adapter=adapter_for(pair, loss))


def adapter_for(pair: Pair, loss: str) -> str | None:
    """Return the part of a pair's adapter that a loss needs.

    A loss that takes any channels needs no change of channels. One that takes any two shapes needs
    no adapter, one that takes equal ranks may still need a resize.
    """
    if pair.adapter is None:
        return None
    known = named_losses()[loss]
    if not known.needs_no_adapter:
        return pair.adapter
    return "resize" if known.takes.equal_ranks and "resize" in pair.adapter else None


_CLASSES, _STAGES = "classes at the end", "stages of feature maps"
_LAYERS = "layers of a transformer"
# Weights for a task loss of weight 1, as in a comparison of many methods (Tian et al. 2020, arXiv
# 1910.10699, and its code). The 0.9 of logits goes with 0.1 for the task: the sum keeps its size,
# and the learning rate its meaning.
PRESETS: Mapping[PresetName, Preset] = {
    # Hinton et al. 2015, arXiv 1503.02531; at a temperature of 4, the default of `kl`.
    PresetName.LOGITS: Preset(what=_CLASSES, losses={Kind.LOGITS: ("kl", 0.9)}),
    # Tung and Mori 2019, arXiv 1907.09682: the similarity of samples in the last stage.
    PresetName.FEATURES: Preset(
        what=_STAGES, losses={Kind.STAGE: ("similarity", 3000.0)}, stages=Stages.LAST
    ),
    # TinyBERT (Jiao et al. 2020, arXiv 1909.10351): all parts have equal weights.
    PresetName.TRANSFORMER: Preset(
        what=_LAYERS,
        losses={
            Kind.HIDDEN_STATE: ("hidden_state", 1.0),
            Kind.ATTENTION: ("attention_scores", 1.0),
        },
    ),
    # The taps of Heo et al. 2019 (arXiv 1904.01866); graphtool has no loss with their margin ReLU.
    # Their code divides sums by 10,000, and by 2 from stage to stage towards the input: for a
    # ResNet50 at 224 pixels that is the mean times 10 at each stage.
    PresetName.OVERHAUL: Preset(
        what=_STAGES, losses={Kind.STAGE: ("hint", 10.0)}, tap=Tap.BEFORE_ACTIVATION
    ),
    # Zagoruyko and Komodakis 2017, arXiv 1612.03928.
    PresetName.ATTENTION: Preset(what=_STAGES, losses={Kind.STAGE: ("attention", 1000.0)}),
    # Romero et al. 2015, arXiv 1412.6550: one hint, in the middle.
    PresetName.FITNET: Preset(
        what=_STAGES, losses={Kind.STAGE: ("hint", 100.0)}, stages=Stages.MIDDLE
    ),
    # Wang et al. 2021, arXiv 2012.15828: relations inside the last layer's attention. Their
    # `heads`, 48 or 64, divide a width of 768 or 1024, but not any: they are an option of the loss.
    PresetName.MINILM: Preset(what=_LAYERS, losses={Kind.ATTENTION: ("attention_relation", 1.0)}),
}
