"""Whole recipes in the forms that are published: which pairs, which loss, which weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from graphtool.loss_names import named_losses
from graphtool.matching.pairs import Kind, Pair
from graphtool.matching.relations import LOSS_OF_INDEPENDENT, can_compare
from graphtool.structure import Tap

__all__ = ["FORMS", "Choice", "Form", "FormName", "adapter_for"]


class FormName(str, Enum):
    """The published forms, the one that gains most first.

    With one teacher and student (resnet34 and resnet18 on ImageNet, PaddleClas) losses on logits
    gain 1.8 to 2.0 points of accuracy, losses on feature maps 0.9 to 1.4.
    """

    LOGITS = "logits"
    FEATURES = "features"
    TRANSFORMER = "transformer"
    OVERHAUL = "overhaul"
    ATTENTION = "attention"
    FITNET = "fitnet"
    MINILM = "minilm"


class Choice(Enum):
    """Which of the stages a form takes."""

    ALL = "all"
    LAST = "last"
    MIDDLE = "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a form pairs (`wanted` in words): loss and weight of each kind, where it taps.

    Scores that are judged one by one keep the loss that was suggested for them, by weight 1: a
    softmax over them means nothing, and over a single one is constant.
    """

    wanted: str
    parts: Mapping[Kind, tuple[str, float]]
    stages: Choice = Choice.ALL
    tap: Tap | None = None

    def of(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Choose from suggested pairs, with the loss and the weight of this form.

        What its losses can't compare is left out.
        """
        fitting = [pair for pair in self._own(pairs) if can_compare(pair.loss, pair.relation)]
        stages = self._stages([pair for pair in fitting if pair.kind is Kind.STAGE])
        chosen = [pair for pair in fitting if pair.kind is not Kind.STAGE or pair in stages]
        return tuple(replace(pair, rank=rank) for rank, pair in enumerate(chosen, 1))

    def unfit(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Return what this form would pair if its losses could compare it."""
        own = self._own(pairs)
        return tuple(pair for pair in own if not can_compare(pair.loss, pair.relation))

    def _own(self, pairs: Sequence[Pair]) -> Iterator[Pair]:
        for pair in pairs:
            if pair.kind in self.parts:
                loss, weight = self.parts[pair.kind]
                if pair.kind is Kind.LOGITS and pair.loss == LOSS_OF_INDEPENDENT:
                    why = f"scores that are judged one by one: `{pair.loss}` in place of `{loss}`"
                    pair = replace(pair, why=(*pair.why, why))
                    loss, weight = pair.loss, 1.0
                yield replace(pair, loss=loss, weight=weight, adapter=adapter_for(pair, loss))

    def _stages(self, stages: Sequence[Pair]) -> Sequence[Pair]:
        ordered = sorted(stages, key=lambda pair: pair.teacher.op_index or 0)
        if self.stages is Choice.ALL or not ordered:
            return ordered
        return [ordered[-1 if self.stages is Choice.LAST else (len(ordered) - 1) // 2]]


def adapter_for(pair: Pair, loss: str) -> str | None:
    """Return what of a pair's adapter a loss needs: one of any channels needs no other channels.

    One of any two shapes needs nothing, one that takes certain ones the same places still.
    """
    if pair.adapter is None:
        return None
    known = named_losses()[loss]
    if not known.of_any_channels:
        return pair.adapter
    return "resize" if known.takes.equal_ranks and "resize" in pair.adapter else None


_CLASSES, _STAGES = "classes at the end", "stages of feature maps"
_LAYERS = "layers of a transformer"
# Weights beside a task loss of 1, as a comparison of many forms takes them (Tian et al. 2020, arXiv
# 1910.10699, and its code). The 0.9 of logits stands beside 0.1 for the task there: the sum
# keeps its size, and the learning rate its meaning.
FORMS: Mapping[FormName, Form] = {
    # Hinton et al. 2015, arXiv 1503.02531; at a temperature of 4, which `kl` has unless told.
    FormName.LOGITS: Form(wanted=_CLASSES, parts={Kind.LOGITS: ("kl", 0.9)}),
    # Tung and Mori 2019, arXiv 1907.09682: how alike samples are in the last stage.
    FormName.FEATURES: Form(
        wanted=_STAGES, parts={Kind.STAGE: ("similarity", 3000.0)}, stages=Choice.LAST
    ),
    # TinyBERT (Jiao et al. 2020, arXiv 1909.10351): all parts weigh the same.
    FormName.TRANSFORMER: Form(
        wanted=_LAYERS,
        parts={
            Kind.HIDDEN_STATE: ("hidden_state", 1.0),
            Kind.ATTENTION: ("attention_scores", 1.0),
        },
    ),
    # The taps of Heo et al. 2019 (arXiv 1904.01866); their margin ReLU is no loss of graphtool.
    # Their code divides sums by 10,000, and by 2 from stage to stage towards the input: for a
    # ResNet50 at 224 pixels that is the mean times 10 at each stage.
    FormName.OVERHAUL: Form(
        wanted=_STAGES, parts={Kind.STAGE: ("hint", 10.0)}, tap=Tap.BEFORE_ACTIVATION
    ),
    # Zagoruyko and Komodakis 2017, arXiv 1612.03928.
    FormName.ATTENTION: Form(wanted=_STAGES, parts={Kind.STAGE: ("attention", 1000.0)}),
    # Romero et al. 2015, arXiv 1412.6550: one hint, in the middle.
    FormName.FITNET: Form(
        wanted=_STAGES, parts={Kind.STAGE: ("hint", 100.0)}, stages=Choice.MIDDLE
    ),
    # Wang et al. 2021, arXiv 2012.15828: relations inside the last layer's attention. Their
    # `heads`, 48 or 64, divide a width of 768 or 1024 and not any: they are an option of the loss.
    FormName.MINILM: Form(wanted=_LAYERS, parts={Kind.ATTENTION: ("attention_relation", 1.0)}),
}
