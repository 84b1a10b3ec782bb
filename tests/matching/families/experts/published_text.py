"""Pairs of published text encoders."""

from __future__ import annotations

from tests.matching.families.cases import At, Case, Expected, Net, Never, Place
from tests.matching.families.experts.published_layers import attention, hidden
from tests.matching.families.language import BertForSequenceClassification
from tests.matching.families.published_language import (
    Albert,
    Electra,
    LayoutLM,
    MobileBert,
    Roberta,
    SentenceEncoder,
)

__all__ = ["CASES"]

_TEXT = (("input_ids", (12,), "int64"),)
_SEGMENTED = (*_TEXT, ("token_type_ids", (12,), "int64"))
_ANY_TEXT = (("input_ids", (-1,), "int64"),)
_PAGE = (*_TEXT, ("bbox", (12, 4), "int64"))

_SCORES = "class scores first"
_BRANCH = "a branch, not the stream"

# After the products of query, key and value come the three biases; the fourth sum adds the mask.
_BERT_SCORES = (At("self_attn", "add", 3),)


def _bert(start: Place, teacher: int, student: int) -> tuple[Expected, ...]:
    """Return the pairs of two of Paddle's own encoders."""
    path = "encoder.layers"
    return (
        *hidden((path, teacher), (path, student), (start, start)),
        *attention((path, teacher, _BERT_SCORES), (path, student, _BERT_SCORES)),
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
        *hidden(
            ("layers", 8),
            ("bert.encoder.layers", 4),
            (At("embedding_norm"), At("bert.embeddings")),
        ),
        *attention(("layers", 8, _NARROW_SCORES), ("bert.encoder.layers", 4, _BERT_SCORES)),
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

CASES: tuple[Case, ...] = (
    _ALBERT,
    _ELECTRA,
    _BOTTLENECKS,
    _MASKED,
    _SENTENCES,
    _LAYOUT,
)
