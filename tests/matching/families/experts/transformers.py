"""Pairs of ViT, Swin and BERT, and of the first two with convolutional students."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.language import (
    BertForSequenceClassification,
    BertForTokenClassification,
)
from tests.matching.families.patches import SwinTransformer, VisionTransformer
from tests.matching.families.residual import BasicBlock, RegNet, ResNetVD

__all__ = ["CASES"]

_SMALL = ((3, 32, 32),)
_IMAGE = ((3, 64, 64),)
_TEXT = (("input_ids", (12,), "int64"), ("token_type_ids", (12,), "int64"))
_ANY_TEXT = (("input_ids", (-1,), "int64"), ("token_type_ids", (-1,), "int64"))

_SCORES = "class scores first"
_POOLED = "the input of the classifier is the next most common choice"


def _hidden(layers: str, teacher: int, student: int, start: Place) -> tuple[Expected, ...]:
    """Return hidden state i·k against i, the last first; 0 is the embeddings."""
    every = teacher // student
    return (
        *(
            Expected(
                "hidden_state",
                At(f"{layers}.{index * every - 1}"),
                At(f"{layers}.{index - 1}"),
                f"hidden state {index * every} of {teacher} against {index} of {student}",
            )
            for index in range(student, 0, -1)
        ),
        Expected("hidden_state", start, start, "hidden state 0 of both: the embeddings"),
    )


def _attention(layers: str, scores: At, teacher: int, student: int) -> tuple[Expected, ...]:
    """Return the scores before softmax of layer i·k + k − 1 against layer i, the last first."""
    every = teacher // student

    def of(index: int) -> At:
        return At(f"{layers}.{index}.{scores.layer}", scores.op, scores.nth)

    return tuple(
        Expected(
            "attention",
            of(index * every + every - 1),
            of(index),
            f"attention scores of layer {index * every + every - 1} against {index}",
        )
        for index in range(student - 1, -1, -1)
    )


_VIT_SCORES = At("attn", "scale", -1)
# After the products of query, key and value come the three biases; the fourth sum adds the mask.
_BERT_SCORES = At("self_attn", "add", 3)

_VIT_TOKEN = Case(
    name="a ViT with a class token teaches one of half its depth",
    family="ViT",
    teacher=Net(make=lambda: VisionTransformer(6, 24, 3), inputs=_SMALL),
    student=Net(make=lambda: VisionTransformer(3, 16, 2), inputs=_SMALL),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "slice"), At("", "slice"), "the class token"),
        *_hidden("blocks", 6, 3, At("pos_drop")),
        *_attention("blocks", _VIT_SCORES, 6, 3),
    ),
    never=(
        Never(At("blocks.2"), At("blocks.2"), "the same number, half as deep in the teacher"),
        Never(At("blocks.0"), At("blocks.0"), "hidden state 1 of 6 against 1 of 3"),
        Never(At("blocks.0.attn", "scale"), At("blocks.0.attn", "scale"), "layer 1 goes with 0"),
        Never(At("blocks.1.attn"), At("blocks.0.attn"), "a branch, not the stream"),
    ),
    most=10,
)

_VIT_MEAN = Case(
    name="a ViT with a mean over tokens teaches one of a quarter of its depth",
    family="ViT",
    teacher=Net(make=lambda: VisionTransformer(8, 16, 2, pool="mean"), inputs=_SMALL),
    student=Net(make=lambda: VisionTransformer(2, 16, 2, pool="mean"), inputs=_SMALL),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "mean"), At("", "mean"), _POOLED),
        *_hidden("blocks", 8, 2, At("pos_drop")),
        *_attention("blocks", _VIT_SCORES, 8, 2),
    ),
    never=(
        Never(At("blocks.1"), At("blocks.1"), "equal shape, but 2 of 8 against 2 of 2"),
        Never(At("blocks.3"), At("blocks.1"), "equal shape, but 4 of 8 against 2 of 2"),
        Never(At("blocks.7.mlp.fc2"), At("blocks.1.mlp.fc2"), "a branch, not the stream"),
    ),
)

_VIT_TO_CNN = Case(
    name="a ViT teaches a convolutional network: four depths against four stages",
    family="ViT to CNN",
    teacher=Net(make=lambda: VisionTransformer(8, 16, 2, side=64, patch=16), inputs=_IMAGE),
    student=Net(make=RegNet, inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("fc"), _SCORES),
        Expected("embedding", At("", "slice"), At("", "flatten"), "class token and pooled map"),
        *(
            Expected(
                "stage",
                At(f"blocks.{2 * stage - 1}"),
                At(f"s{stage}"),
                f"{stage} of four equal parts of the teacher against stage {stage} of four",
            )
            for stage in (4, 3, 2, 1)
        ),
    ),
    never=(
        Never(At("blocks.7"), At("s3"), "the end against a stage before the last, of equal size"),
        Never(At("blocks.3"), At("s4"), "half of the depth against the last stage"),
        Never(At("patch_embed"), At("stem"), "stems are not used"),
    ),
)

_SWIN = Case(
    name="a deep Swin teaches a shallow one of equal widths",
    family="Swin",
    teacher=Net(make=lambda: SwinTransformer((2, 2, 6, 2)), inputs=_IMAGE),
    student=Net(make=lambda: SwinTransformer((2, 2, 2, 1)), inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "flatten"), At("", "flatten"), _POOLED),
        *(
            Expected(
                "stage",
                At(f"layers.{stage}.blocks.{teacher}"),
                At(f"layers.{stage}.blocks.{student}"),
                f"last block of stage {stage + 1}, before patches are merged",
            )
            for stage, teacher, student in ((3, 1, 0), (2, 5, 1), (1, 1, 1), (0, 1, 1))
        ),
    ),
    never=(
        Never(
            At("layers.0.downsample"),
            At("layers.1.blocks.1"),
            "equal shape, but the teacher's stage only begins there",
        ),
        Never(
            At("layers.2.blocks.1"),
            At("layers.2.blocks.1"),
            "equal shape, but the teacher's stage goes on after it",
        ),
        Never(
            At("layers.1.blocks.1.norm1"),
            At("layers.1.blocks.1"),
            "the teacher's last block only begins there",
        ),
    ),
)

_SWIN_WIDE = Case(
    name="a wide Swin teaches a narrow one with fewer blocks",
    family="Swin",
    teacher=Net(make=lambda: SwinTransformer((2, 2, 2, 2), 16), inputs=_IMAGE),
    student=Net(make=lambda: SwinTransformer((1, 1, 2, 1), 8), inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "flatten"), At("", "flatten"), _POOLED),
        *(
            Expected(
                "stage",
                At(f"layers.{stage}.blocks.1"),
                At(f"layers.{stage}.blocks.{student}"),
                f"last block of stage {stage + 1}, before patches are merged",
            )
            for stage, student in ((3, 0), (2, 1), (1, 0), (0, 0))
        ),
    ),
    never=(
        Never(
            At("layers.0.blocks.1"),
            At("layers.0.downsample"),
            "16 numbers a token in both, but the student's stage is over",
        ),
        Never(At("layers.2.blocks.1"), At("layers.3.blocks.0"), "the ends of different stages"),
    ),
)

_SWIN_TO_CNN = Case(
    name="Swin teaches a residual network: tokens against maps",
    family="Swin to CNN",
    teacher=Net(make=lambda: SwinTransformer((2, 2, 2, 2)), inputs=_IMAGE),
    student=Net(make=lambda: ResNetVD(BasicBlock, (1, 1, 1, 1), width=8), inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("fc"), _SCORES),
        Expected("embedding", At("", "flatten"), At("flatten"), _POOLED),
        *(
            Expected(
                "stage",
                At(f"layers.{stage}.blocks.1"),
                At(f"blocks.{stage}"),
                f"last block of stage {stage + 1} of four, with as many tokens as the map places",
            )
            for stage in (3, 2, 1, 0)
        ),
    ),
    never=(
        Never(At("layers.0.blocks.1"), At("max_pool"), "a stage against the stem"),
        Never(At("layers.3.blocks.1"), At("blocks.2"), "the ends of different stages"),
        Never(At("patch_norm"), At("max_pool"), "stems are not used"),
    ),
)

_BERT = Case(
    name="BERT teaches one of half its depth that trains",
    family="BERT",
    teacher=Net(make=lambda: BertForSequenceClassification(4, 24, 3), inputs=_TEXT),
    student=Net(make=lambda: BertForSequenceClassification(2, 16, 2), inputs=_TEXT, mode="train"),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), _SCORES),
        *_hidden("bert.encoder.layers", 4, 2, At("bert.embeddings")),
        *_attention("bert.encoder.layers", _BERT_SCORES, 4, 2),
    ),
    never=(
        Never(At("bert.encoder.layers.1"), At("bert.encoder.layers.1"), "2 of 4 against 2 of 2"),
        Never(
            At("bert.encoder.layers.0.self_attn", "add", 3),
            At("bert.encoder.layers.0.self_attn", "add", 3),
            "layer 1 of the teacher goes with 0",
        ),
        Never(At("pooler"), At("bert"), "the first token against all of them"),
    ),
)

_BERT_TOKENS = Case(
    name="BERT that labels tokens teaches one of a third of its depth, at any length",
    family="BERT",
    teacher=Net(make=lambda: BertForTokenClassification(6, 16, 2), inputs=_ANY_TEXT),
    student=Net(make=lambda: BertForTokenClassification(2, 16, 2), inputs=_ANY_TEXT),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), "scores of each token first"),
        *_hidden("bert.encoder.layers", 6, 2, At("bert.embeddings")),
        *_attention("bert.encoder.layers", _BERT_SCORES, 6, 2),
    ),
    never=(
        Never(
            At("bert.encoder.layers.1"),
            At("bert.encoder.layers.1"),
            "equal shape, but 2 of 6 against 2 of 2",
        ),
        Never(
            At("bert.encoder.layers.5.norm1"),
            At("bert.encoder.layers.1"),
            "equal shape, but inside the layer",
        ),
    ),
)

CASES: tuple[Case, ...] = (
    _VIT_TOKEN,
    _VIT_MEAN,
    _VIT_TO_CNN,
    _SWIN,
    _SWIN_WIDE,
    _SWIN_TO_CNN,
    _BERT,
    _BERT_TOKENS,
)
