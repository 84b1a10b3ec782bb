"""Text networks beside BERT: DistilBERT, an LSTM, a causal decoder, translation, two towers."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from tests.matching.families.wild_mixers import PreNormBlock

__all__ = ["CLIP", "GPT", "DistilBert", "LstmClassifier", "Translator"]


class _MaskedAttention(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_lin, self.k_lin, self.v_lin = (nn.Linear(dim, dim) for _ in range(3))
        self.out_lin, self.dropout = nn.Linear(dim, dim), nn.Dropout(0.1)

    def _split(self, x: Any) -> Any:
        tokens, dim = x.shape[1:]
        return x.reshape([-1, tokens, self.heads, dim // self.heads]).transpose([0, 2, 1, 3])

    def forward(self, x: Any, padded: Any) -> Any:
        tokens, dim = x.shape[1:]
        q = self._split(self.q_lin(x)) / (dim // self.heads) ** 0.5
        scores = q.matmul(self._split(self.k_lin(x)), transpose_y=True)
        scores = paddle.where(padded, paddle.full_like(scores, -1e4), scores)
        weights = self.dropout(functional.softmax(scores))
        x = weights.matmul(self._split(self.v_lin(x)))
        return self.out_lin(x.transpose([0, 2, 1, 3]).reshape([-1, tokens, dim]))


class _DistilLayer(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = _MaskedAttention(dim, heads)
        self.sa_layer_norm, self.output_layer_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.lin1, self.lin2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Any, padded: Any) -> Any:
        x = self.sa_layer_norm(x + self.attention(x, padded))
        y = self.dropout(self.lin2(functional.gelu(self.lin1(x))))
        return self.output_layer_norm(x + y)


class DistilBert(nn.Layer):
    """No token types and no pooler: a dense layer with ReLU reads the first token."""

    def __init__(self, layers: int, dim: int, heads: int, *, length: int, classes: int = 3) -> None:
        super().__init__()
        self.length = length
        self.word_embeddings = nn.Embedding(50, dim)
        self.position_embeddings = nn.Embedding(length, dim)
        self.embed_norm, self.embed_dropout = nn.LayerNorm(dim), nn.Dropout(0.1)
        self.layers = nn.LayerList([_DistilLayer(dim, heads) for _ in range(layers)])
        self.pre_classifier = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(dim, classes)

    def forward(self, input_ids: Any) -> Any:
        positions = paddle.arange(self.length).unsqueeze(0)
        x = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        x = self.embed_dropout(self.embed_norm(x))
        padded = (input_ids == 0).unsqueeze([1, 2])
        for layer in self.layers:
            x = layer(x, padded.expand([-1, 1, self.length, self.length]))
        return self.classifier(self.dropout(functional.relu(self.pre_classifier(x[:, 0]))))


class LstmClassifier(nn.Layer):
    """Word embeddings, an LSTM in both directions, its two last states through a dense layer."""

    def __init__(self, dim: int, hidden: int, classes: int = 3) -> None:
        super().__init__()
        self.embedder = nn.Embedding(50, dim)
        self.lstm = nn.LSTM(dim, hidden, direction="bidirect")
        self.fc, self.output_layer = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, classes)

    def forward(self, input_ids: Any) -> Any:
        _, (last, _) = self.lstm(self.embedder(input_ids))
        both = paddle.concat([last[-2], last[-1]], axis=-1)
        return self.output_layer(functional.tanh(self.fc(both)))


class GPT(nn.Layer):
    """Causal blocks with their norms first; the scores of the next token by the embedding table."""

    def __init__(self, layers: int, dim: int, heads: int, *, length: int) -> None:
        super().__init__()
        self.length = length
        self.wte, self.wpe = nn.Embedding(50, dim), nn.Embedding(length, dim)
        self.drop = nn.Dropout(0.1)
        self.h = nn.LayerList([PreNormBlock(dim, heads, causal=True) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(dim)

    def forward(self, input_ids: Any) -> Any:
        positions = paddle.arange(self.length).unsqueeze(0)
        x = self.drop(self.wte(input_ids) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        return self.ln_f(x).matmul(self.wte.weight, transpose_y=True)


class Translator(nn.Layer):
    """An encoder of the source, a causal decoder that looks at it, scores of each target token."""

    def __init__(self, layers: int, dim: int, heads: int) -> None:
        super().__init__()
        self.src_embedding, self.tgt_embedding = nn.Embedding(50, dim), nn.Embedding(40, dim)
        self.position = nn.Embedding(64, dim)
        encoder = nn.TransformerEncoderLayer(dim, heads, 2 * dim, 0.1, normalize_before=True)
        decoder = nn.TransformerDecoderLayer(dim, heads, 2 * dim, 0.1, normalize_before=True)
        self.encoder = nn.TransformerEncoder(encoder, layers, nn.LayerNorm(dim))
        self.decoder = nn.TransformerDecoder(decoder, layers, nn.LayerNorm(dim))
        self.project = nn.Linear(dim, 40)

    def _placed(self, ids: Any, table: nn.Layer) -> Any:
        ones = paddle.ones_like(ids)
        return table(ids) + self.position(paddle.cumsum(ones, axis=1) - ones)

    def forward(self, src: Any, tgt: Any) -> Any:
        padded = ((src == 0).astype("float32") * -1e4).unsqueeze([1, 2])
        length = paddle.shape(tgt)[1]
        later = paddle.triu(paddle.full([length, length], -1e4), diagonal=1)
        memory = self.encoder(self._placed(src, self.src_embedding), padded)
        states = self.decoder(self._placed(tgt, self.tgt_embedding), memory, later, padded)
        return self.project(states)


class _ImageTower(nn.Layer):
    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(3, dim, 8, stride=8, bias_attr=False)
        self.class_embedding = self.create_parameter([1, 1, dim])
        self.positional_embedding = self.create_parameter([1, 17, dim])
        self.ln_pre, self.ln_post = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.resblocks = nn.LayerList([PreNormBlock(dim, 2) for _ in range(layers)])

    def forward(self, image: Any) -> Any:
        x = self.conv1(image).flatten(2).transpose([0, 2, 1])
        first = self.class_embedding.expand([paddle.shape(x)[0], -1, -1])
        x = self.ln_pre(paddle.concat([first, x], axis=1) + self.positional_embedding)
        for block in self.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0])


class _TextTower(nn.Layer):
    def __init__(self, layers: int, dim: int, length: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(50, dim)
        self.positional_embedding = self.create_parameter([1, length, dim])
        self.resblocks = nn.LayerList([PreNormBlock(dim, 2, causal=True) for _ in range(layers)])
        self.ln_final = nn.LayerNorm(dim)

    def forward(self, text: Any) -> Any:
        x = self.token_embedding(text) + self.positional_embedding
        for block in self.resblocks:
            x = block(x)
        return self.ln_final(x)[:, -1]


class CLIP(nn.Layer):
    """An image tower and a text tower; how alike each image and each text of a batch are."""

    def __init__(self, layers: int, dim: int, *, embed: int, length: int = 8) -> None:
        super().__init__()
        self.visual, self.text = _ImageTower(layers, dim), _TextTower(layers, dim, length)
        self.visual_projection = nn.Linear(dim, embed, bias_attr=False)
        self.text_projection = nn.Linear(dim, embed, bias_attr=False)
        self.logit_scale = self.create_parameter([1])

    def forward(self, image: Any, text: Any) -> Any:
        seen = self.visual_projection(self.visual(image))
        read = self.text_projection(self.text(text))
        seen = seen / seen.norm(axis=-1, keepdim=True)
        read = read / read.norm(axis=-1, keepdim=True)
        return self.logit_scale.exp() * seen.matmul(read, transpose_y=True)
