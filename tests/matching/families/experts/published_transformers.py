"""Pairs of published vision transformers, text encoders, and a recogniser with two heads."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.language import BertForSequenceClassification
from tests.matching.families.patches import SwinTransformer, VisionTransformer
from tests.matching.families.published_language import (
    Albert,
    Electra,
    LayoutLM,
    MobileBert,
    Roberta,
    SentenceEncoder,
)
from tests.matching.families.published_mobile import RepVGG
from tests.matching.families.published_patches import PVT, TNT, VAN, LeViT
from tests.matching.families.published_two_ended import TwoReadings

__all__ = ["CASES"]

_IMAGE = ((3, 64, 64),)
_TEXT = (("input_ids", (12,), "int64"),)
_SEGMENTED = (*_TEXT, ("token_type_ids", (12,), "int64"))
_ANY_TEXT = (("input_ids", (-1,), "int64"),)
_PAGE = (*_TEXT, ("bbox", (12, 4), "int64"))
_LINE = ((3, 32, 64), ("label", (8,), "int64"))

_SCORES = "class scores first"
_POOLED = "what the classifier reads is the next most common choice"
_BRANCH = "a branch, not the stream"


def _hidden(
    teacher: tuple[str, int], student: tuple[str, int], start: tuple[Place, Place]
) -> tuple[Expected, ...]:
    """Return hidden state i·k against i, the last first; 0 is the embeddings."""
    every = teacher[1] // student[1]
    return (
        *(
            Expected(
                "hidden_state",
                At(f"{teacher[0]}.{index * every - 1}"),
                At(f"{student[0]}.{index - 1}"),
                f"hidden state {index * every} of {teacher[1]} against {index} of {student[1]}",
            )
            for index in range(student[1], 0, -1)
        ),
        Expected("hidden_state", *start, "hidden state 0 of both: the embeddings"),
    )


def _attention(
    teacher: tuple[str, int, tuple[At, ...]], student: tuple[str, int, tuple[At, ...]]
) -> tuple[Expected, ...]:
    """Return the scores before softmax of layer i·k + k − 1 against layer i, the last first."""
    every = teacher[1] // student[1]

    def of(net: tuple[str, int, tuple[At, ...]], index: int) -> Place:
        path = f"{net[0]}.{index}"
        return tuple(At(f"{path}.{at.layer}" if at.layer else path, at.op, at.nth) for at in net[2])

    return tuple(
        Expected(
            "attention",
            of(teacher, index * every + every - 1),
            of(student, index),
            f"attention scores of layer {index * every + every - 1} against {index}",
        )
        for index in range(student[1] - 1, -1, -1)
    )


# After the products of query, key and value come the three biases; the fourth sum adds the mask.
_BERT_SCORES = (At("self_attn", "add", 3),)


def _bert(start: Place, teacher: int, student: int) -> tuple[Expected, ...]:
    """Return the pairs of two of Paddle's own encoders."""
    path = "encoder.layers"
    return (
        *_hidden((path, teacher), (path, student), (start, start)),
        *_attention((path, teacher, _BERT_SCORES), (path, student, _BERT_SCORES)),
    )


_PVT_STAGES = tuple(
    Expected(
        "stage",
        (At(f"stages.{stage}"), At(f"grids.{stage}")) if stage < 3 else At("stages.3"),
        At(f"layers.{stage}.blocks.{0 if stage == 3 else 1}"),
        f"last block of each at 1/{4 * 2**stage}, as tokens or as a map",
    )
    for stage in (3, 2, 1, 0)
)

_PYRAMID = Case(
    name="PVT teaches Swin",
    family="published: PVT",
    teacher=Net(make=lambda: PVT((2, 2, 3, 2)), inputs=_IMAGE),
    student=Net(make=lambda: SwinTransformer((2, 2, 2, 1)), inputs=_IMAGE),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "slice", -1), At("avgpool"), "class token and pooled tokens"),
        *_PVT_STAGES,
    ),
    never=(
        Never(At("stages.2.blocks.0"), At("layers.2.blocks.1"), "two blocks of the stage follow"),
        Never(At("stages.2"), At("layers.2.blocks.0"), "the student's stage goes on after it"),
        Never(At("stages.1.blocks.1.mlp"), At("layers.1.blocks.1.mlp"), _BRANCH),
        Never(At("stages.2"), At("layers.1.downsample"), "the student's stage only begins there"),
        Never(At("stages.0.patch_embed"), At("patch_norm"), "stems are not used"),
    ),
    most=10,
)

_LEVIT = Case(
    name="LeViT teaches a narrow one of half its depth",
    family="published: LeViT",
    teacher=Net(make=lambda: LeViT((16, 24, 32), (2, 4, 4)), inputs=((3, 128, 128),)),
    student=Net(make=lambda: LeViT((8, 16, 24), (1, 2, 2)), inputs=((3, 128, 128),)),
    expected=(
        Expected(
            "logits",
            (At("", "scale", -1), At("", "add", -1), At("head")),
            (At("", "scale", -1), At("", "add", -1), At("head")),
            "the mean of both heads, or the first of them",
        ),
        Expected("embedding", At("", "mean", -1), At("", "mean", -1), _POOLED),
        *(
            Expected(
                "stage",
                At(f"stages.{stage}"),
                At(f"stages.{stage}"),
                f"last block of each at 1/{16 * 2**stage}",
            )
            for stage in (2, 1, 0)
        ),
    ),
    never=(
        Never(At("shrinks.0"), At("stages.1"), "the teacher's stage only begins there"),
        Never(At("stages.1.1"), At("stages.1"), "half of the teacher's stage against the end"),
        Never(At("stages.2.3.mlp.down"), At("stages.2.1.mlp.down"), _BRANCH),
        Never(At("head"), At("head_dist"), "one head against the other"),
        Never(At("head_dist"), At("head"), "one head against the other"),
        Never(At("patch_embed.3"), At("stages.0"), "the stem against a stage"),
    ),
)

_NESTED = Case(
    name="TNT teaches a ViT of half its depth",
    family="published: TNT",
    teacher=Net(make=lambda: TNT(6, 8, 16), inputs=((3, 32, 32),)),
    student=Net(make=lambda: VisionTransformer(3, 16, 2), inputs=((3, 32, 32),)),
    expected=(
        Expected("logits", At("head"), At("head"), _SCORES),
        Expected("embedding", At("", "slice", -1), At("", "slice", -1), "the class token"),
        *_hidden(("blocks", 6), ("blocks", 3), (At("pos_drop"), At("pos_drop"))),
        *_attention(
            ("blocks", 6, (At("attn_out", "scale", -1),)), ("blocks", 3, (At("attn", "scale", -1),))
        ),
    ),
    never=(
        Never(At("blocks.2"), At("blocks.2"), "equal shape, but 3 of 6 against 3 of 3"),
        Never(At("blocks.0"), At("blocks.0"), "equal shape, but 1 of 6 against 1 of 3"),
        Never(At("blocks.5", nth=0), At("blocks.2"), "pixels of each patch against patches"),
        Never(
            At("blocks.5.attn_in", "scale", -1),
            At("blocks.2.attn", "scale", -1),
            "attention among the pixels of a patch against that among patches",
        ),
        Never(At("blocks.5.mlp"), At("blocks.2.mlp"), _BRANCH),
    ),
    most=10,
)

_VAN = Case(
    name="VAN teaches RepVGG in training form",
    family="published: VAN",
    teacher=Net(make=VAN, inputs=_IMAGE),
    student=Net(make=lambda: RepVGG((2, 2, 4, 1)), inputs=_IMAGE, mode="train"),
    expected=(
        Expected("logits", At("head"), At("linear"), _SCORES),
        Expected("embedding", At("", "mean", -1), At("trunk"), _POOLED),
        Expected(
            "stage",
            (At("stages.3"), At("norms.3")),
            At("trunk.stage4"),
            "last block of each at 1/32, before or after the norm of the stage",
        ),
        *(
            Expected(
                "stage",
                (At(f"stages.{stage}"), At(f"norms.{stage}"), At("", "transpose", 2 * stage + 1)),
                At(f"trunk.stage{stage + 1}"),
                f"last block of each at 1/{4 * 2**stage}, before or after the norm of the stage",
            )
            for stage in (2, 1, 0)
        ),
    ),
    never=(
        Never(At("stages.2.0"), At("trunk.stage3"), "two blocks of the teacher's stage follow"),
        Never(At("embeds.2"), At("trunk.stage3"), "the teacher's stage only begins there"),
        Never(At("stages.3.1.attn"), At("trunk.stage4"), "the attention, not the stream"),
        Never(At("stages.2"), At("trunk.stage3.1"), "the student's stage goes on after it"),
        Never(At("stages.3"), At("trunk.stage3"), "equal number, but 1/32 against 1/16"),
    ),
)


def _albert_scores(index: int) -> tuple[At, ...]:
    """Return the scores with the mask and without; a pass of the layer has nine sums."""
    return (At("shared", "add", 9 * index + 3), At("shared", "scale", index))


_ALBERT = Case(
    name="ALBERT of twelve passes teaches one of four passes through its layer",
    family="published: ALBERT",
    teacher=Net(make=lambda: Albert(12, 16, 2), inputs=_TEXT),
    student=Net(make=lambda: Albert(4, 16, 2), inputs=_TEXT, mode="train"),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), _SCORES),
        *(
            Expected(
                "hidden_state",
                At("shared", nth=3 * index + 2),
                At("shared", nth=index),
                f"hidden state {3 * index + 3} of 12 against {index + 1} of 4",
            )
            for index in (3, 2, 1, 0)
        ),
        Expected(
            "hidden_state",
            At("embedding_hidden_mapping_in"),
            At("embedding_hidden_mapping_in"),
            "hidden state 0 of both: the embeddings, mapped to the width of the layers",
        ),
        *(
            Expected(
                "attention",
                _albert_scores(3 * index + 2),
                _albert_scores(index),
                f"attention scores of pass {3 * index + 2} against {index}",
            )
            for index in (3, 2, 1, 0)
        ),
    ),
    never=(
        Never(At("shared", nth=3), At("shared", nth=3), "equal number, 4 of 12 against 4 of 4"),
        Never(At("shared", nth=0), At("shared", nth=0), "hidden state 1 of 12 against 1 of 4"),
        Never(At("shared.norm1", nth=11), At("shared", nth=3), "inside the layer"),
        Never(At("shared", "scale", 0), At("shared", "scale", 0), "layer 2 goes with 0"),
    ),
    most=12,
)

_ELECTRA = Case(
    name="ELECTRA's discriminator teaches one of a third of its depth, at any length",
    family="published: ELECTRA",
    teacher=Net(make=lambda: Electra(6, 24, 3), inputs=_ANY_TEXT),
    student=Net(make=lambda: Electra(2, 16, 2), inputs=_ANY_TEXT, mode="train"),
    expected=(
        Expected(
            "logits",
            (At("dense_prediction"), At("", "squeeze", -1)),
            (At("dense_prediction"), At("", "squeeze", -1)),
            "one score for each token first",
        ),
        *_bert(At("embeddings_project"), 6, 2),
    ),
    never=(
        Never(At("encoder.layers.1"), At("encoder.layers.1"), "2 of 6 against 2 of 2"),
        Never(At("encoder.layers.0"), At("encoder.layers.0"), "1 of 6 against 1 of 2"),
        Never(At("embeddings"), At("embeddings_project"), "before the map to the layers' width"),
        Never(At("encoder.layers.5.linear2"), At("encoder.layers.1.linear2"), _BRANCH),
    ),
)

# With the mask and without it; before the sum come the biases of both bottlenecks and of their
# norms, of query, key and value.
_NARROW_SCORES = (At("", "add", 7), At("", "scale", -1))

_BOTTLENECKS = Case(
    name="MobileBERT teaches a TinyBERT of half its depth",
    family="published: MobileBERT",
    teacher=Net(make=lambda: MobileBert(8, 24, 8, 2), inputs=_TEXT),
    student=Net(
        make=lambda: BertForSequenceClassification(4, 16, 2), inputs=_SEGMENTED, mode="train"
    ),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), _SCORES),
        *_hidden(
            ("layers", 8),
            ("bert.encoder.layers", 4),
            (At("embedding_norm"), At("bert.embeddings")),
        ),
        *_attention(("layers", 8, _NARROW_SCORES), ("bert.encoder.layers", 4, _BERT_SCORES)),
    ),
    never=(
        Never(At("layers.3"), At("bert.encoder.layers.3"), "4 of 8 against 4 of 4"),
        Never(At("layers.0"), At("bert.encoder.layers.0"), "1 of 8 against 1 of 4"),
        Never(At("layers.7.ffn_norms.3"), At("bert.encoder.layers.3"), "inside the bottleneck"),
        Never(At("layers.7.attention_norm"), At("bert.encoder.layers.3"), "inside the layer"),
        Never(At("layers.7.bottleneck_in_norm"), At("bert.encoder.layers.3"), "narrowed"),
    ),
    most=12,
)

_MASKED = Case(
    name="RoBERTa that predicts words teaches one of half its depth, at any length",
    family="published: RoBERTa",
    teacher=Net(make=lambda: Roberta(6, 24, 3), inputs=_ANY_TEXT),
    student=Net(make=lambda: Roberta(3, 24, 3), inputs=_ANY_TEXT, mode="train"),
    expected=(
        Expected(
            "logits",
            (At("", "add", -1), At("", "matmul", -1)),
            (At("", "add", -1), At("", "matmul", -1)),
            "scores of each word for each token first, with or without their bias",
        ),
        *_bert(At("embeddings"), 6, 3),
    ),
    never=(
        Never(At("encoder.layers.2"), At("encoder.layers.2"), "equal shape, 3 of 6 against 3 of 3"),
        Never(At("encoder.layers.0"), At("encoder.layers.0"), "equal shape, 1 of 6 against 1 of 3"),
        Never(At("encoder.layers.5.norm1"), At("encoder.layers.2"), "inside the layer"),
        Never(At("layer_norm"), At("encoder.layers.2"), "behind against before the head"),
    ),
    most=10,
)

_UNIT = (At("", "divide", -1), At("", "divide", -2))

_SENTENCES = Case(
    name="a sentence encoder teaches one of a third of its depth, at any length",
    family="published: sentence encoder",
    teacher=Net(make=lambda: SentenceEncoder(6, 24, 3), inputs=_ANY_TEXT),
    student=Net(make=lambda: SentenceEncoder(2, 16, 2), inputs=_ANY_TEXT),
    expected=(
        Expected("embedding", _UNIT, _UNIT, "the mean over tokens, unit vector or not yet"),
        *_bert(At("embeddings"), 6, 2),
    ),
    never=(
        Never(At("encoder.layers.1"), At("encoder.layers.1"), "2 of 6 against 2 of 2"),
        Never(At("encoder.layers.0"), At("encoder.layers.0"), "1 of 6 against 1 of 2"),
        Never(At("encoder.layers.5.norm1"), At("encoder.layers.1"), "inside the layer"),
    ),
)

_LAYOUT = Case(
    name="LayoutLM teaches one of half its depth",
    family="published: LayoutLM",
    teacher=Net(make=lambda: LayoutLM(4, 24, 3), inputs=_PAGE),
    student=Net(make=lambda: LayoutLM(2, 16, 2), inputs=_PAGE, mode="train"),
    expected=(
        Expected("logits", At("classifier"), At("classifier"), "a label's scores for each word"),
        *_bert(At("norm"), 4, 2),
    ),
    never=(
        Never(At("encoder.layers.1"), At("encoder.layers.1"), "2 of 4 against 2 of 2"),
        Never(At("encoder.layers.0"), At("encoder.layers.0"), "1 of 4 against 1 of 2"),
        Never(At("x_embeddings", nth=0), At("norm"), "one of nine embeddings, not their sum"),
        Never(At("word_embeddings"), At("word_embeddings"), "words without their boxes"),
    ),
)

_READINGS = Case(
    name="a recogniser with a CTC and an NRTR head teaches a narrow one with both",
    family="published: two heads of a recogniser",
    teacher=Net(
        make=lambda: TwoReadings((8, 16, 24, 32), 2, dim=16, mixing=2, layers=2),
        inputs=_LINE,
        mode="train",
    ),
    student=Net(
        make=lambda: TwoReadings((8, 8, 12, 16), 1, dim=12, mixing=1, layers=1),
        inputs=_LINE,
        mode="train",
    ),
    expected=(
        Expected("logits", At("ctc_head"), At("ctc_head"), "CTC scores of each step first"),
        Expected(
            "logits", At("gtc_head"), At("gtc_head"), "scores of each symbol from the second head"
        ),
        Expected(
            "feature",
            (At("neck_out"), At("steps"), At("steps", "mean", -1)),
            (At("neck_out"), At("steps"), At("steps", "mean", -1)),
            "neck out: what the CTC head reads",
        ),
        Expected(
            "feature",
            (At("block_list"), At("pool")),
            (At("block_list"), At("pool")),
            "backbone out: its last block, or the pooled map that both necks read",
        ),
    ),
    never=(
        Never(At("ctc_head"), At("gtc_head"), "steps of the line against symbols of the text"),
        Never(At("gtc_head"), At("ctc_head"), "symbols of the text against steps of the line"),
        Never(At("mixing.1"), At("gtc_head.decoder"), "image against text"),
        Never(At("gtc_head.decoder"), At("mixing"), "text against image"),
        Never(At("neck_up"), At("pool"), "equal H×W, but inside the neck against the backbone"),
        Never(At("conv1"), At("conv1"), "stems are not used"),
    ),
    lead=2,
)

CASES: tuple[Case, ...] = (
    _PYRAMID,
    _LEVIT,
    _NESTED,
    _VAN,
    _ALBERT,
    _ELECTRA,
    _BOTTLENECKS,
    _MASKED,
    _SENTENCES,
    _LAYOUT,
    _READINGS,
)
