"""Text encoders: ALBERT, ELECTRA, MobileBERT, LayoutLM, RoBERTa, a sentence encoder."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

__all__ = ["Albert", "Electra", "LayoutLM", "MobileBert", "Roberta", "SentenceEncoder"]


class _Embeddings(nn.Layer):
    def __init__(self, dim: int, *, segments: int = 2) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(50, dim)
        self.position_embeddings = nn.Embedding(64, dim)
        self.token_type_embeddings = nn.Embedding(segments, dim)
        self.layer_norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(0.1)

    def forward(self, input_ids: Any) -> Any:
        ones = paddle.ones_like(input_ids)
        places = paddle.cumsum(ones, axis=-1) - ones
        x = self.word_embeddings(input_ids) + self.position_embeddings(places)
        return self.dropout(self.layer_norm(x + self.token_type_embeddings(ones - ones)))


def _mask(input_ids: Any) -> Any:
    return ((input_ids == 0).astype("float32") * -1e4).unsqueeze([1, 2])


def _encoder(layers: int, dim: int, heads: int) -> Any:
    layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.1, activation="gelu")
    return nn.TransformerEncoder(layer, layers)


class _AlbertLayer(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.dense, self.norm1, self.norm2 = (
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
            nn.LayerNorm(dim),
        )
        self.ffn, self.ffn_output = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Any, mask: Any) -> Any:
        dim = x.shape[2]
        q, k, v = (
            linear(x).reshape([0, 0, self.heads, dim // self.heads]).transpose([0, 2, 1, 3])
            for linear in (self.query, self.key, self.value)
        )
        attn = q.matmul(k, transpose_y=True) * self.scale + mask
        attn = self.dropout(functional.softmax(attn, axis=-1))
        y = self.dense(attn.matmul(v).transpose([0, 2, 1, 3]).reshape([0, 0, dim]))
        x = self.norm1(x + self.dropout(y))
        return self.norm2(x + self.dropout(self.ffn_output(functional.gelu(self.ffn(x)))))


class Albert(nn.Layer):
    """ALBERT for classification: narrow embeddings mapped up, one layer used again and again."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.layers = layers
        self.embeddings = _Embeddings(8)
        self.embedding_hidden_mapping_in = nn.Linear(8, dim)
        self.shared = _AlbertLayer(dim, heads)
        self.pooler, self.dropout = nn.Linear(dim, dim), nn.Dropout(0.1)
        self.classifier = nn.Linear(dim, 3)

    def forward(self, input_ids: Any) -> Any:
        mask = _mask(input_ids)
        x = self.embedding_hidden_mapping_in(self.embeddings(input_ids))
        for _ in range(self.layers):
            x = self.shared(x, mask)
        return self.classifier(self.dropout(functional.tanh(self.pooler(x[:, 0]))))


class Electra(nn.Layer):
    """ELECTRA's discriminator: narrow embeddings mapped up, a decision for each token."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.embeddings, self.embeddings_project = _Embeddings(12), nn.Linear(12, dim)
        self.encoder = _encoder(layers, dim, heads)
        self.dense, self.dense_prediction = nn.Linear(dim, dim), nn.Linear(dim, 1)

    def forward(self, input_ids: Any) -> Any:
        x = self.embeddings_project(self.embeddings(input_ids))
        x = self.encoder(x, _mask(input_ids))
        return self.dense_prediction(functional.gelu(self.dense(x))).squeeze(-1)


class _NoNorm(nn.Layer):
    """MobileBERT's stand-in for a norm: a weight and a bias for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        one, zero = nn.initializer.Constant(1.0), nn.initializer.Constant(0.0)
        self.weight = self.create_parameter([dim], default_initializer=one)
        self.bias = self.create_parameter([dim], default_initializer=zero)

    def forward(self, x: Any) -> Any:
        return x * self.weight + self.bias


class _MobileBertLayer(nn.Layer):
    """Narrowed for attention and four small networks, widened again at the end."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (inner // heads) ** -0.5
        self.bottleneck_in, self.bottleneck_in_norm = nn.Linear(dim, inner), _NoNorm(inner)
        self.bottleneck_qk, self.bottleneck_qk_norm = nn.Linear(dim, inner), _NoNorm(inner)
        self.query, self.key = nn.Linear(inner, inner), nn.Linear(inner, inner)
        self.value = nn.Linear(dim, inner)
        self.attention_output, self.attention_norm = nn.Linear(inner, inner), _NoNorm(inner)
        self.ups = nn.LayerList([nn.Linear(inner, 2 * inner) for _ in range(4)])
        self.downs = nn.LayerList([nn.Linear(2 * inner, inner) for _ in range(4)])
        self.ffn_norms = nn.LayerList([_NoNorm(inner) for _ in range(4)])
        self.widen, self.output_norm = nn.Linear(inner, dim), _NoNorm(dim)

    def forward(self, x: Any, mask: Any) -> Any:
        narrow = self.bottleneck_in_norm(self.bottleneck_in(x))
        asked = self.bottleneck_qk_norm(self.bottleneck_qk(x))
        inner = narrow.shape[2]
        q, k, v = (
            y.reshape([0, 0, self.heads, inner // self.heads]).transpose([0, 2, 1, 3])
            for y in (self.query(asked), self.key(asked), self.value(x))
        )
        attn = functional.softmax(q.matmul(k, transpose_y=True) * self.scale + mask, axis=-1)
        y = self.attention_output(attn.matmul(v).transpose([0, 2, 1, 3]).reshape([0, 0, inner]))
        y = self.attention_norm(y + narrow)
        for up, down, norm in zip(self.ups, self.downs, self.ffn_norms):
            y = norm(y + down(functional.relu(up(y))))
        return self.output_norm(x + self.widen(y))


class MobileBert(nn.Layer):
    """MobileBERT for classification, by its first token without a pooler."""

    def __init__(self, layers: int, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(50, inner)
        self.embedding_transformation = nn.Linear(3 * inner, dim)
        self.position_embeddings = nn.Embedding(64, dim)
        self.embedding_norm = _NoNorm(dim)
        self.layers = nn.LayerList([_MobileBertLayer(dim, inner, heads) for _ in range(layers)])
        self.classifier = nn.Linear(dim, 3)

    def forward(self, input_ids: Any) -> Any:
        ones = paddle.ones_like(input_ids)
        words = self.word_embeddings(input_ids)
        after = functional.pad(words[:, 1:], [0, 1], data_format="NLC")
        before = functional.pad(words[:, :-1], [1, 0], data_format="NLC")
        x = self.embedding_transformation(paddle.concat([after, words, before], axis=2))
        x = self.embedding_norm(x + self.position_embeddings(paddle.cumsum(ones, -1) - ones))
        mask = _mask(input_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(x[:, 0])


class Roberta(nn.Layer):
    """RoBERTa that predicts masked words with the weights of its word embeddings."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(dim, segments=1)
        self.encoder = _encoder(layers, dim, heads)
        self.transform, self.layer_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.decoder_bias = self.create_parameter([50], is_bias=True)

    def forward(self, input_ids: Any) -> Any:
        x = self.encoder(self.embeddings(input_ids), _mask(input_ids))
        x = self.layer_norm(functional.gelu(self.transform(x)))
        words = self.embeddings.word_embeddings.weight
        return x.matmul(words, transpose_y=True) + self.decoder_bias


class SentenceEncoder(nn.Layer):
    """BERT whose tokens, padding left out, are averaged to a unit vector; no classifier."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.embeddings, self.encoder = _Embeddings(dim), _encoder(layers, dim, heads)

    def forward(self, input_ids: Any) -> Any:
        x = self.encoder(self.embeddings(input_ids), _mask(input_ids))
        kept = (input_ids != 0).astype("float32").unsqueeze(-1)
        return functional.normalize((x * kept).sum(axis=1) / kept.sum(axis=1), axis=-1)


class LayoutLM(nn.Layer):
    """BERT plus embeddings of each word's box; a label for each token."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = (
            nn.Embedding(50, dim),
            nn.Embedding(64, dim),
        )
        self.x_embeddings, self.y_embeddings = nn.Embedding(64, dim), nn.Embedding(64, dim)
        self.h_embeddings, self.w_embeddings = nn.Embedding(64, dim), nn.Embedding(64, dim)
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(0.1)
        self.encoder = _encoder(layers, dim, heads)
        self.classifier = nn.Linear(dim, 5)

    def forward(self, input_ids: Any, bbox: Any) -> Any:
        ones = paddle.ones_like(input_ids)
        x = self.word_embeddings(input_ids) + self.position_embeddings(
            paddle.cumsum(ones, -1) - ones
        )
        x = x + self.x_embeddings(bbox[:, :, 0]) + self.y_embeddings(bbox[:, :, 1])
        x = x + self.x_embeddings(bbox[:, :, 2]) + self.y_embeddings(bbox[:, :, 3])
        x = x + self.h_embeddings(bbox[:, :, 3] - bbox[:, :, 1])
        x = x + self.w_embeddings(bbox[:, :, 2] - bbox[:, :, 0])
        x = self.encoder(self.dropout(self.norm(x)), _mask(input_ids))
        return self.classifier(self.dropout(x))
