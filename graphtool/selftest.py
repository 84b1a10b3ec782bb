"""Prove in a moment that graphtool works here: on a saved model that it carries, and on Paddle.

Paddle is asked in a process of its own: one that does not fit the machine ends its process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import GraphtoolError

__all__ = ["PaddleFacts", "ask_paddle", "compare_files", "report_paddle"]


_MODEL = Path(__file__).with_name("selftest.json")
_ASK = "import sys; sys.path[:] = sys.argv[1:]; import graphtool.selftest as s; s.report_paddle()"
_SECONDS, _SAID = 120, 300
# Begins a line of ours: what Paddle prints, and what is printed beside it, may be JSON as well.
_FACTS = "graphtool.selftest: "
_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleFacts:
    """What a process that imported Paddle said: None is what it did not get to.

    `cuda` is the version of CUDA that Paddle was built for, "" for a CPU build. `compared` and
    `equal` count Values and weights of a merged Program, and those that are bit-equal. `failure`
    says in one line why the process stopped early.
    """

    version: str | None = None
    path: str | None = None
    cuda: str | None = None
    devices: Sequence[str] = ()
    compared: int | None = None
    equal: int | None = None
    failure: str | None = None


def compare_files() -> int:
    """Read the model that is carried, pair it with itself, and return how many pairs that gives.

    Raises ReadError where it cannot be read.
    """
    from graphtool.matching import suggest_pairs
    from graphtool.sources import read

    graph = read(str(_MODEL))
    return len(suggest_pairs(graph, graph))


def ask_paddle() -> PaddleFacts:
    """Import Paddle, merge two tiny networks and verify them, in a process of its own."""
    command = [sys.executable, "-c", _ASK, *sys.path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return PaddleFacts(failure=f"no answer within {_SECONDS} s")
    facts: dict[str, Any] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_FACTS):
            facts.update(json.loads(line.removeprefix(_FACTS)))
    if done.returncode and "failure" not in facts:
        facts["failure"] = _ending(done)
    return PaddleFacts(**facts)


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing was said"]
    return said[-1][:_SAID]


def report_paddle() -> None:
    """Print what `ask_paddle` reads: a line of JSON for each thing that was found out."""
    spec = find_spec("paddle")
    if spec is not None and spec.origin is not None:
        _say(path=str(Path(spec.origin).parent))
    try:
        paddle = load_paddle()
        _say(version=paddle.__version__)
        built = paddle.version.cuda() if paddle.is_compiled_with_cuda() else ""
        _say(cuda=built, devices=["cpu", *paddle.device.get_available_device()])
        found = _verified(paddle)
        compared = len(found.comparisons) + len(found.weights)
        _say(compared=compared, equal=compared - len(found.different))
    except GraphtoolError as error:
        (first, *_) = error.report
        _say(failure=first.message)
        raise SystemExit(1) from None


def _say(**facts: object) -> None:
    # Apart from what Paddle prints in the same line.
    sys.stdout.write(f"\n{_FACTS}{json.dumps(facts)}\n")
    sys.stdout.flush()


def _verified(paddle: Paddle) -> Any:
    """Merge one tiny network into another and compare what both compute."""
    from graphtool.merging import merge
    from graphtool.sources.layers import from_layer

    nn = paddle.nn

    def network(width: int) -> Any:
        return nn.Sequential(nn.Conv2D(3, width, 3), nn.ReLU(), nn.Flatten(1))

    paddle.enable_static()
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    image = [("image", (3, _SIDE, _SIDE))]
    teacher, student = (from_layer(lambda w=w: network(w), image, train=False) for w in (4, 2))
    with paddle.static.scope_guard(scope):
        executor.run(teacher.startup)
    executor.run(student.startup)
    return merge(teacher, student, {"image": "image"}, teacher_scope=scope).verify()
