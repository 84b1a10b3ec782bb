"""Evaluate a legacy Program that trains, on Paddle 3 or 2.6; run by the tests, also as a script."""

from __future__ import annotations

import json
import zlib  # noqa: F401  # Paddle 2.6 segfaults where it loads its own first
from contextlib import nullcontext
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F  # noqa: N812

from graphtool.backend.live import LiveProgram
from graphtool.training import for_test

guard = getattr(paddle.pir_utils, "OldIrGuard", nullcontext)
HAS_BRANCHES = guard is nullcontext
FEED = {
    "x": np.random.RandomState(0).rand(4, 3, 8, 8).astype("float32"),
    "label": np.array([[0], [1], [2], [3]]),
}
WANTED = {
    "as built for evaluation": True,
    "share of what is right": True,
    "Variables changed": [],
    "feeds": ["x", "label"],
    "feeds of the logits": ["x"],
    "trains": [],
    "not in test mode": [],
}


def _forward(x: Any, *, train: bool) -> Any:
    mode = nn.Layer.train if train else nn.Layer.eval
    norm, inner = nn.BatchNorm2D(6), nn.BatchNorm2D(6)
    mode(norm), mode(inner)
    x = F.dropout(F.relu(norm(nn.Conv2D(3, 6, 3)(x))), 0.3, training=train)
    if HAS_BRANCHES:
        x = paddle.static.nn.cond(
            x.mean() > -100, lambda: F.dropout(inner(x), 0.4, training=train), lambda: x * 2
        )
    x = x.mean([2, 3])
    count = paddle.full([1], 0, "int64")
    _, x = paddle.static.nn.while_loop(
        lambda count, _: count < 3,
        lambda count, x: [count + 1, F.dropout(x * 1.5, training=train)],
        [count, x],
    )
    return nn.Linear(6, 5)(x)


def _built(*, train: bool) -> dict[str, Any]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        x = paddle.static.data("x", [-1, 3, 8, 8])
        label = paddle.static.data("label", [-1, 1], "int64")
        logits = _forward(x, train=train)
        loss = F.cross_entropy(logits, label).mean()
        if train:
            rate = paddle.optimizer.lr.StepDecay(0.1, 1)
            paddle.optimizer.Adam(rate).minimize(loss)
        accuracy = paddle.static.accuracy(F.softmax(logits), label)
    return {"main": main, "startup": startup, "logits": logits, "loss": loss, "right": accuracy}


def outcome() -> dict[str, Any]:
    """Return what `WANTED` has, as it was found."""
    paddle.enable_static()
    with guard():
        trained, alone = _built(train=True), _built(train=False)
        scope, executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())

        def run(program: Any, feed: Any, *fetch: Any) -> Any:
            return executor.run(program, feed=feed, fetch_list=list(fetch), scope=scope)

        executor.run(trained["startup"], scope=scope)
        run(trained["main"], FEED, trained["loss"])
    logits, right = trained["logits"], trained["right"]
    whole = for_test(trained["main"], fetch=[logits, right.name, trained["loss"]])
    only = for_test(trained["main"], fetch=[logits.name])
    with guard():
        (want,) = run(alone["main"], FEED, alone["logits"])
        before = _state(trained["main"], scope)
        got, share, _ = run(whole.program, FEED, *whole.fetches)
        run(only.program, {"x": FEED["x"]}, *only.fetches)
        after = _state(trained["main"], scope)
    operators = LiveProgram.of(whole.program).graph.operators.values()
    return {
        "as built for evaluation": want.tobytes() == got.tobytes() and bool(want.std() > 0),
        "share of what is right": float(np.ravel(share)[0])
        == float(np.mean(want.argmax(1) == FEED["label"].ravel())),
        "Variables changed": [name for name, held in before.items() if after[name] != held],
        "feeds": list(whole.feeds),
        "feeds of the logits": list(only.feeds),
        "trains": [
            one.name for one in operators if one.kind.endswith("_grad") or one.kind == "adam"
        ],
        "not in test mode": [
            one.name for one in operators if not one.attributes.get("is_test", True)
        ],
    }


def _state(program: Any, scope: Any) -> dict[str, bytes]:
    held = [name for name, var in program.global_block().vars.items() if var.persistable]
    return {name: np.array(scope.find_var(name).get_tensor()).tobytes() for name in held}


if __name__ == "__main__":
    print(json.dumps(outcome()))
