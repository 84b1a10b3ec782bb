"""BERT and its heads, as PaddleNLP writes them over Paddle's own encoder."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

__all__ = ["BertForSequenceClassification", "BertForTokenClassification"]


class _Embeddings(nn.Layer):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(50, hidden)
        self.position_embeddings = nn.Embedding(64, hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.layer_norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(0.1)

    def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
        ones = paddle.ones_like(input_ids)
        position_ids = paddle.cumsum(ones, axis=-1) - ones
        embeddings = self.word_embeddings(input_ids) + self.position_embeddings(position_ids)
        embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.layer_norm(embeddings))


class _Bert(nn.Layer):
    def __init__(self, layers: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(hidden)
        layer = nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, 0.1, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, layers)

    def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
        padded = (input_ids == 0).astype("float32") * -1e4
        mask = padded.unsqueeze([1, 2])
        return self.encoder(self.embeddings(input_ids, token_type_ids), mask)


class BertForSequenceClassification(nn.Layer):
    """The first token through a dense layer with tanh, then the classifier."""

    def __init__(self, layers: int, hidden: int, heads: int, classes: int = 3) -> None:
        super().__init__()
        self.bert = _Bert(layers, hidden, heads)
        self.pooler = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
        sequence = self.bert(input_ids, token_type_ids)
        pooled = functional.tanh(self.pooler(sequence[:, 0]))
        return self.classifier(self.dropout(pooled))


class BertForTokenClassification(nn.Layer):
    """A label for each token."""

    def __init__(self, layers: int, hidden: int, heads: int, labels: int = 5) -> None:
        super().__init__()
        self.bert = _Bert(layers, hidden, heads)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
        return self.classifier(self.dropout(self.bert(input_ids, token_type_ids)))
