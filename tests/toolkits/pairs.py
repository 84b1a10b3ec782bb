"""A teacher and a student of Paddle's toolkits, all the way from Layers to the student's files."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

import graphtool as gt
from tests.toolkits.networks import Candidate, seed
from tests.toolkits.one import UnlikeError, called, fed

_STEPS, _RATE = 2, 1e-3


def distil(teacher: Candidate, student: Candidate, sizes: Mapping[str, Any]) -> dict[str, str]:
    """Build both, merge and train them, and export the student; return what comes of it."""
    warnings.simplefilter("ignore")
    feed, takes = fed(student.made(), student.takes)
    inputs = [(one.name, one.shape, one.dtype) for one in takes]
    seed()
    taught = gt.from_layer(student.make, inputs)
    teaching = gt.from_layer(lambda: teacher.make(**sizes), inputs, train=False)
    paddle.enable_static()
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        executor.run(teaching.startup)
    executor.run(taught.startup)
    pairs = gt.suggest_pairs(teaching, taught)
    merged = gt.merge(teaching, taught, {one: one for one in feed}, teacher_scope=scope)
    verification = merged.verify(feed)
    if not verification:
        raise UnlikeError(str(verification))
    with paddle.static.program_guard(merged.program, taught.startup):
        loss = gt.distill_loss(merged, pairs).total
        gt.minimize(paddle.optimizer.Adam(_RATE), loss)
    executor.run(taught.startup)
    losses = [
        float(executor.run(merged.program, feed=dict(feed), fetch_list=[loss])[0])
        for _ in range(_STEPS)
    ]
    if not np.isfinite(losses).all() or losses[0] == losses[-1]:
        raise UnlikeError(f"the losses of {_STEPS} steps are {losses}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student"
        exported = gt.export_student(merged, path)
        if any(one.code == "GT226" for one in exported.report):
            # As its help says: a forward that draws numbers in training has another Program.
            paddle.disable_static()
            evaluated = gt.from_layer(student.make, inputs, train=False)
            paddle.enable_static()
            with paddle.static.scope_guard(paddle.static.Scope()):
                gt.load_parameters(evaluated, f"{path}.pdparams")
                gt.export_student(evaluated, path, force=True)
        program, feeds, fetches = paddle.static.load_inference_model(str(path), executor)
        given = {name: feed[name] for name in feeds}
        answers = executor.run(program, feed=given, fetch_list=fetches)
        paddle.disable_static()
        layer = student.made()
        missing, unexpected = layer.set_state_dict(paddle.load(f"{path}.pdparams"))
    if missing or unexpected:
        raise UnlikeError(f"missing {missing}, unexpected {unexpected}")
    layer.eval()
    for place, (got, want) in enumerate(zip(answers, called(layer, feed), strict=True)):
        if not np.allclose(got, want, 1e-3, 1e-4):
            raise UnlikeError(f"output {place} of the exported student is another")
    return {"whole way": f"equal, with {len(pairs)} pairs and losses {losses}"}
