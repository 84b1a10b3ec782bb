"""What a merge costs: `python -m tests.benchmarks.merging [--incumbent-python PATH]`.

resnet50 is merged into mobilenet_v1, checks included, once with its 102 MB of weights copied and
once with them shared, beside three things: the floor (a bare copy
of the block, a loop that freezes and prefixes, one walk of both Programs), the incumbent
(paddleslim.dist, in a Python that has it and Paddle 2.6.2, named by the option or by
GRAPHTOOL_PADDLESLIM_PYTHON), and our own merge of legacy Programs in that same Python. Then a chain
of 1,000 to 100,000 operators, with the exponent of the growth, and the peak of memory while vgg16
is merged into mobilenet_v2 with `share=True`, in a process of its own. Times are medians of
interleaved rounds.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from graphtool.merging import merge

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 7
FEEDS = {"image": "data"}
ROOT = Path(__file__).parents[2]
Work = Callable[[], object]


def legacy() -> Any:
    guard = getattr(paddle.pir_utils, "OldIrGuard", None)
    return nullcontext() if guard is None else guard()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two Programs, and Scopes in which they were initialised."""

    teacher: Any
    student: Any
    teacher_scope: Any
    student_scope: Any

    def fresh(self) -> Any:
        """Return a student that nothing has been merged into."""
        return self.student.clone()


def network(name: str, feed: str) -> tuple[Any, Any]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        getattr(paddle.vision.models, name)()(paddle.static.data(feed, [-1, 3, 224, 224]))
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(startup)
    return main, scope


def pair(teacher: str, student: str) -> Pair:
    theirs, their_scope = network(teacher, "image")
    ours, our_scope = network(student, "data")
    return Pair(teacher=theirs, student=ours, teacher_scope=their_scope, student_scope=our_scope)


def ours(pair: Pair) -> Work:
    student, scope = pair.fresh(), paddle.static.Scope()
    return lambda: merge(
        pair.teacher, student, FEEDS, scope=scope, teacher_scope=pair.teacher_scope
    )


def ours_shared(pair: Pair) -> Work:
    student, scope = pair.fresh(), paddle.static.Scope()
    return lambda: merge(
        pair.teacher, student, FEEDS, scope=scope, teacher_scope=pair.teacher_scope, share=True
    )


def floor(pair: Pair) -> Work:
    student = pair.fresh()
    return lambda: _floor(pair.teacher, student)


def _floor(teacher: Any, student: Any) -> None:
    walked = [_walk(program) for program in (teacher, student)]
    mapping, block = paddle.pir.IrMapping(), student.global_block()
    feeds = [next(op for op in ops if op.name() == "pd_op.data") for ops in walked]
    mapping.add(feeds[0].result(0), feeds[1].result(0))
    before = len(block.ops)
    teacher.copy_to_block(mapping, block)
    for op in block.ops[before:]:
        if op.has_attr("is_test"):
            op.set_bool_attr("is_test", True)  # noqa: FBT003
        for value in op.results():
            if value.initialized():
                value.stop_gradient = True
        if op.name() == "builtin.parameter":
            name = op.attrs()["parameter_name"]
            op.set_str_attr("parameter_name", f"teacher_{name}")


def _walk(program: Any) -> list[Any]:
    """Take out what a check has to look at: types, attributes, operands, shapes."""
    ops = program.global_block().ops
    for op in ops:
        op.name()
        op.attrs()
        for value in op.operands_source():
            _ = value.initialized() and value.id
        for value in op.results():
            _ = value.initialized() and (value.id, value.shape, value.dtype)
    return ops


def incumbent(pair: Pair) -> Work:
    from paddleslim.dist import merge as slim_merge

    student, scope = pair.fresh(), paddle.static.Scope()
    for held, program in ((pair.student_scope, pair.student), (pair.teacher_scope, pair.teacher)):
        for var in program.list_vars():
            if var.persistable:
                array = np.asarray(held.find_var(var.name).get_tensor())
                scope.var(var.name).get_tensor().set(array, paddle.CPUPlace())
    place = paddle.CPUPlace()
    return lambda: slim_merge(pair.teacher, student, FEEDS, place, scope=scope)


def medians(ways: Mapping[str, Callable[[Pair], Work]], pair: Pair) -> dict[str, float]:
    """Time each way in turns; what it works on is made anew each time, outside of the clock."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(seconds(way(pair)))
    return {name: statistics.median(taken) for name, taken in times.items()}


def seconds(work: Work) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def old_paddle() -> None:
    """Print the medians of the incumbent and of our merge of legacy Programs."""
    ways = {"incumbent": incumbent, "legacy": ours, "legacy, weights shared": ours_shared}
    print(json.dumps(medians(ways, pair("resnet50", "mobilenet_v1"))))


def chain(count: int, feed: str) -> Any:
    """Return a Program of `count` activations and additions."""
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        x = last = paddle.static.data(feed, [-1, 8])
        for index in range(count - 1):
            last = last + x if index % 2 else paddle.nn.functional.relu(last)
    return main


def growth(count: int) -> float:
    """Merge a chain into a chain of a tenth of its length; the median of some rounds."""
    scope = paddle.static.Scope()
    built = Pair(
        teacher=chain(count, "image"),
        student=chain(count // 10, "data"),
        teacher_scope=scope,
        student_scope=scope,
    )
    rounds = 3 if count >= SIZES[-1] else ROUNDS
    return statistics.median(seconds(ours(built)) for _ in range(rounds))


def exponent(times: Mapping[int, float]) -> float:
    """Fit `seconds = c * operators ** e` by least squares in logarithms, and return e."""
    points = [(math.log(count), math.log(taken)) for count, taken in times.items()]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def memory() -> None:
    """Print the growth of the peak while merging, as a part of the teacher's parameters."""
    built = pair("vgg16", "mobilenet_v2")
    held = sum(
        math.prod(tensor.shape()) * 4
        for name in built.teacher_scope.local_var_names()
        if (tensor := built.teacher_scope.find_var(name).get_tensor())._is_initialized()
    )
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # The peak counts from here.
    before = _status("VmRSS")
    kept = merge(
        built.teacher,
        built.student,
        FEEDS,
        scope=built.student_scope,
        teacher_scope=built.teacher_scope,
        share=True,
    )
    print(json.dumps([len(kept.plan.weights), held, _status("VmHWM") - before]))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def elsewhere(python: str, *arguments: str) -> Any:
    done = subprocess.run(
        [python, "-m", "tests.benchmarks.merging", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def report(python: str | None, sizes: Sequence[int]) -> None:
    built = pair("resnet50", "mobilenet_v1")
    found = medians({"floor": floor, "PIR": ours, "PIR, weights shared": ours_shared}, built)
    if python is not None:
        found |= elsewhere(python, "--part", "old")
    print("resnet50 -> mobilenet_v1        ms   x floor   incumbent is slower by")
    for name, taken in found.items():
        times = f"{found['incumbent'] / taken:>20.1f}" if "incumbent" in found else ""
        print(f"{name:<22} {taken * 1000:>11.1f} {taken / found['floor']:>9.2f}   {times}")
    print("\noperators         PIR s  legacy s")
    rows: dict[int, tuple[float, float]] = {}
    for count in sizes:
        times = [growth(count)]
        with legacy():
            times.append(growth(count))
        rows[count] = (times[0], times[1])
        print(f"{count:>9,}  {times[0]:>10.4f}  {times[1]:>8.4f}")
    fitted = [exponent({count: times[kind] for count, times in rows.items()}) for kind in (0, 1)]
    print(f"{'exponent':>9}  {fitted[0]:>10.2f}  {fitted[1]:>8.2f}")
    count, held, peak = elsewhere(sys.executable, "--part", "memory")
    print(
        f"\nvgg16 -> mobilenet_v2: {count} tensors, {held / 2**20:.0f} MiB; the peak grew by "
        f"{peak / 2**20:.1f} MiB, {peak / held:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--incumbent-python", default=os.environ.get("GRAPHTOOL_PADDLESLIM_PYTHON"))
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--part", choices=["all", "old", "memory"], default="all")
    asked = parser.parse_args()
    paddle.enable_static()
    if asked.part == "old":
        old_paddle()
    elif asked.part == "memory":
        memory()
    else:
        report(asked.incumbent_python, [size for size in SIZES if size <= asked.largest])


if __name__ == "__main__":
    main()
