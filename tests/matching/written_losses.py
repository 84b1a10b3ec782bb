"""Students whose losses are written out, on Paddle 3 or 2.6; run by the tests, also as a script."""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  # Paddle 2.6 segfaults where it loads its own first
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.matching import suggest_pairs
from graphtool.training import export_student

CLASSES = 5


def _data(name: str, *shape: int, dtype: str = "float32") -> Any:
    return paddle.static.data(name, [-1, *shape], dtype)


def _label(name: str, *shape: int) -> Any:
    return _data(name, *shape, dtype="int64")


def _one_hot() -> Any:
    return F.one_hot(_label("label"), CLASSES)


def _log_shares(logits: Any) -> Any:
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)


def _cross_entropy(logits: Any) -> Any:
    return -(_one_hot() * _log_shares(logits)).sum(-1).mean()


def _of_the_largest(logits: Any) -> Any:
    less = logits - logits.max(-1, keepdim=True)
    return (paddle.log(paddle.exp(less).sum(-1)) - (_one_hot() * less).sum(-1)).mean()


def _smoothed(logits: Any) -> Any:
    shares = _log_shares(logits)
    return (-0.9 * (_one_hot() * shares).sum(-1) - 0.1 * shares.mean(-1)).mean()


def _weighed(logits: Any) -> Any:
    weight = _data("weight", 1)
    return -(weight * _data("label", CLASSES) * F.log_softmax(logits)).sum() / weight.sum()


def _binary(logits: Any) -> Any:
    softplus = paddle.log1p(paddle.exp(-paddle.abs(logits)))
    return (F.relu(logits) - logits * _one_hot() + softplus).mean()


def _focal(logits: Any) -> Any:
    wanted, likely = _one_hot(), F.sigmoid(logits)
    right = likely * wanted + (1 - likely) * (1 - wanted)
    return (-((1 - right) ** 2) * paddle.log(right + 1e-8)).mean()


def _margin(logits: Any) -> Any:
    cosine, wanted = F.normalize(logits), _one_hot()
    sine = paddle.sqrt(1 - cosine * cosine + 1e-6)
    turned = wanted * (0.87 * cosine - 0.47 * sine) + (1 - wanted) * cosine
    return -(wanted * F.log_softmax(30 * turned)).sum(-1).mean()


def _angular(logits: Any) -> Any:
    angle = paddle.acos(paddle.clip(logits, -0.99, 0.99))
    return F.cross_entropy(30 * paddle.cos(angle + 0.5 * _one_hot()), _label("again"))


def _mixed(logits: Any) -> Any:
    share, shares = _data("share", 1), _log_shares(logits)
    losses = [-(_data(name, CLASSES) * shares).sum(-1) for name in ("first", "second")]
    return (share * losses[0] + (1 - share) * losses[1]).mean()


def _with_a_penalty(logits: Any) -> Any:
    likely = F.softmax(logits)
    return _cross_entropy(logits) + 0.1 * (likely * paddle.log(likely)).sum(-1).mean()


LOSSES: dict[str, Callable[[Any], Any]] = {
    "cross entropy": _cross_entropy,
    "cross entropy of the largest": _of_the_largest,
    "by index": lambda x: -paddle.take_along_axis(F.log_softmax(x), _label("label", 1), 1).mean(),
    "by place": lambda x: -paddle.gather_nd(_log_shares(x), _label("label", 2)).mean(),
    "likelihood": lambda x: F.nll_loss(_log_shares(x), _label("label")),
    "logarithm of softmax": lambda x: (
        -(_one_hot() * paddle.log(paddle.clip(F.softmax(x), 1e-7, 1.0))).sum(-1).mean()
    ),
    "smoothed": _smoothed,
    "soft labels weighed": _weighed,
    "binary": _binary,
    "focal": _focal,
    "margin": _margin,
    "angular": _angular,
    "poisson": lambda x: (paddle.exp(x) - _data("label", CLASSES) * x).mean(),
    "mixed": _mixed,
    "with a penalty": _with_a_penalty,
}


def network(loss: Callable[[Any], Any] | None = None) -> tuple[Any, Any, str]:
    """Return a Program with its loss, its startup Program, and the name of its logits."""
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
        image = _data("image", 3, 8, 8)
        embedding = F.relu(nn.Conv2D(3, 8, 3, 2, 1)(image)).mean([2, 3])
        logits = nn.Linear(8, CLASSES)(embedding)
        if loss is not None:
            loss(logits)
    return main, startup, "add_1" if hasattr(logits, "is_same") else logits.name


def outcome(loss: Callable[[Any], Any], folder: Path) -> dict[str, list[str]]:
    """Return the pairs of logits, and the feeds and fetches of what is exported."""
    teacher, _, known = network()
    student, startup, logits = network(loss)
    pairs = suggest_pairs(teacher, student)
    scope = paddle.static.Scope()
    paddle.static.Executor(paddle.CPUPlace()).run(startup, scope=scope)
    exported = export_student(student, folder / "student", scope=scope)
    names = {known: "logits", logits: "logits"}
    return {
        "pair": [
            names.get(name, name)
            for pair in pairs
            if pair.kind.value == "logits"
            for name in (pair.teacher.name, pair.student.name)
        ],
        "said": [found.code for found in (*pairs.report, *exported.report)],
        "feeds": list(exported.feeds),
        "fetches": [names.get(name, name) for name in exported.fetches],
    }


WANTED = {
    "pair": ["logits", "logits"],
    "said": ["GT631"],
    "feeds": ["image"],
    "fetches": ["logits"],
}


if __name__ == "__main__":
    found = {name: outcome(loss, Path(sys.argv[1], name)) for name, loss in LOSSES.items()}
    print(json.dumps(found))
