"""Every loss once more, in NumPy and float64, written down from the papers and not from graphtool.

Arguments are the teacher's array, then the student's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any
Loss = Callable[..., float]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def l2(t: Array, s: Array) -> float:
    return np.square(s - t).sum() / t.size


hint = l2


def distributions(
    t: Array,
    s: Array,
    teacher: float = 1.0,
    student: float = 1.0,
    axis: int = -1,
    from_probs: str | None = None,
) -> tuple[Array, Array]:
    """Return those of rows along an axis, of logits or of probabilities, at two temperatures."""
    found = []
    for x, temperature, role in ((t, teacher, "teacher"), (s, student, "student")):
        x = np.moveaxis(x, axis, -1)
        powers = x ** (1 / temperature) if from_probs in (role, "both") else None
        found.append(
            softmax(x / temperature) if powers is None else powers / powers.sum(-1, keepdims=True)
        )
    return found[0], found[1]


def soft_label(
    t: Array,
    s: Array,
    teacher_temperature: float = 1.0,
    student_temperature: float = 1.0,
    **options: Any,
) -> float:
    p, q = distributions(t, s, teacher_temperature, student_temperature, **options)
    return -(p * np.log(q)).sum() / (p.size / p.shape[-1])


def kl(t: Array, s: Array, temperature: float = 4.0, **options: Any) -> float:
    p, q = distributions(t, s, temperature, temperature, **options)
    return temperature**2 * (p * np.log(p / q)).sum() / (p.size / p.shape[-1])


def lskd(
    t: Array, s: Array, temperature: float = 2.0, axis: int = -1, from_probs: str | None = None
) -> float:
    """Compute it as the authors' code does, but for the 1e-7 that it adds to a deviation."""
    t, s = (np.moveaxis(np.log(x) if from_probs else x, axis, -1) for x in (t, s))
    z, y = ((x - x.mean(-1, keepdims=True)) / x.std(-1, ddof=1, keepdims=True) for x in (t, s))
    return kl(z, y, temperature)


def dkd(
    t: Array,
    s: Array,
    labels: Array | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> float:
    total = 0.0
    targets = t.argmax(1) if labels is None else np.ravel(labels)
    for x, y, label in zip(t / temperature, s / temperature, targets, strict=True):
        p, q = softmax(x), softmax(y)
        b = [p[label], 1 - p[label]], [q[label], 1 - q[label]]
        others = np.arange(len(x)) != label
        o = softmax(x[others]), softmax(y[others])
        total += alpha * sum(u * np.log(u / v) for u, v in zip(*b, strict=True))
        total += beta * (o[0] * np.log(o[0] / o[1])).sum()
    return temperature**2 * total / len(targets)


def skd(t: Array, s: Array, multiplier: float | None = None) -> float:
    total = 0.0
    for x, y in zip(t, s, strict=True):
        scale = np.std(x, ddof=1) if multiplier is None else multiplier
        u, v = ((z - z.mean()) / np.sqrt(z.var() + 1e-7) * scale for z in (x, y))
        total -= (softmax(u) * np.log(softmax(v))).sum()
    return total / len(t)


def dist(
    t: Array, s: Array, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> float:
    p, q = softmax(t / temperature), softmax(s / temperature)
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * columns)


def attention(t: Array, s: Array) -> float:
    maps = []
    for x in (t, s):
        rows = [np.ravel((one**2).sum(0) / len(one)) for one in x]
        maps.append(np.array([row / np.linalg.norm(row) for row in rows]))
    return np.mean((maps[0] - maps[1]) ** 2)


def channel_wise(t: Array, s: Array, temperature: float = 4.0) -> float:
    n, c = t.shape[:2]
    p, q = (softmax(x.reshape(n, c, -1) / temperature) for x in (t, s))
    return temperature**2 * np.sum(p * (np.log(p) - np.log(q))) / (n * c)


def fsp(t1: Array, t2: Array, s1: Array, s2: Array) -> float:
    flows = [
        np.einsum("nihw,njhw->nij", a, b) / (a.shape[2] * a.shape[3])
        for a, b in ((t1, t2), (s1, s2))
    ]
    return np.mean((flows[0] - flows[1]) ** 2)


def similarity(t: Array, s: Array) -> float:
    grams = []
    for x in (t, s):
        rows = x.reshape(len(x), -1)
        gram = rows @ rows.T
        grams.append(gram / np.linalg.norm(gram, axis=1)[:, None])
    return np.sum((grams[0] - grams[1]) ** 2) / len(t) ** 2


def huber(x: Array) -> Array:
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def relational_distance(t: Array, s: Array) -> float:
    scaled = []
    for x in (t, s):
        e = x.reshape(len(x), -1)
        d = np.array([[np.linalg.norm(a - b) for b in e] for a in e])
        scaled.append(d / d[d > 0].mean())
    return huber(scaled[1] - scaled[0]).mean()


def relational_angle(t: Array, s: Array) -> float:
    n, angles = len(t), []
    for x in (t, s):
        e, a = x.reshape(n, -1), np.zeros((n, n, n))
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    u, v = e[j] - e[i], e[k] - e[i]
                    if i not in (j, k):
                        a[i, j, k] = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        angles.append(a)
    return huber(angles[1] - angles[0]).mean()


def relational(t: Array, s: Array, distance: float = 25.0, angle: float = 50.0) -> float:
    return distance * relational_distance(t, s) + angle * relational_angle(t, s)


def pkd(t: Array, s: Array) -> float:
    if t.ndim < 4:
        u, v = (x / np.sqrt((x**2).sum(-1))[..., None] for x in (t, s))
        return np.mean((u - v) ** 2)
    channels = []
    for x in (t, s):
        rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        channels.append([(row - row.mean()) / (row.std(ddof=1) + 1e-6) for row in rows])
    return np.mean((np.array(channels[0]) - np.array(channels[1])) ** 2) / 2


def hidden_state(t: Array, s: Array, mask: Array | None = None) -> float:
    kept = np.nonzero(np.ones(t.shape[:2]) if mask is None else mask)
    return np.mean([np.mean((t[at] - s[at]) ** 2) for at in zip(*kept, strict=True)])


def attention_scores(t: Array, s: Array, mask: Array | None = None, by: str = "squares") -> float:
    if by == "divergence":
        return attention_divergence(t, s, mask)
    t, s = (np.where(x > -100, x, 0) for x in (t, s))
    mask = np.ones((len(t), t.shape[2])) if mask is None else mask
    kept = [
        np.square(s - t)[batch, :, query, key]
        for batch, tokens in enumerate(mask)
        for query in np.nonzero(tokens)[0]
        for key in np.nonzero(tokens)[0]
    ]
    return float(np.mean(kept))


def attention_divergence(t: Array, s: Array, mask: Array | None = None) -> float:
    n, heads, length, _ = t.shape
    mask = np.ones((n, length)) if mask is None else mask
    found = []
    for b in range(n):
        keys = np.nonzero(mask[b])[0]
        for h in range(heads):
            for i in keys:
                p, q = softmax(t[b, h, i, keys]), softmax(s[b, h, i, keys])
                found.append((p * np.log(p / q)).sum())
    return float(np.mean(found))


def attention_relation(
    t: Array, s: Array, heads: int | None = None, mask: Array | None = None
) -> float:
    scores = []
    for x in (t, s):
        joined = np.concatenate(list(np.moveaxis(x, 1, 0)), axis=-1)
        split = np.split(joined, heads or x.shape[1], axis=-1)
        scores.append(np.stack([a @ a.swapaxes(1, 2) / np.sqrt(a.shape[-1]) for a in split], 1))
    return attention_divergence(*scores, mask=mask)


def gradient(loss: Loss, arrays: Sequence[Array], at: int, step: float = 1e-6) -> Array:
    """Return the derivative of a loss by one of its arrays, by central differences."""
    found = np.zeros_like(arrays[at])
    for index in np.ndindex(found.shape):
        values = []
        for sign in (1, -1):
            moved = [np.array(array) for array in arrays]
            moved[at][index] += sign * step
            values.append(loss(*moved))
        found[index] = (values[0] - values[1]) / (2 * step)
    return found
