"""Legacy merges that run alike on Paddle 2.6.2 and on Paddle 3 inside OldIrGuard.

Each case merges a teacher that was never put into test mode, compares both networks' outputs before
and after, and trains the student against the teacher for three steps. `python -m
tests.merging.cases CASE...` prints what came out of each.
"""

from __future__ import annotations

import json
import sys
import zlib  # noqa: F401  Paddle 2.6 crashes where it is imported first
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional as F  # noqa: N812

from graphtool.backend.live import LiveProgram
from graphtool.merging import Merged, merge

Network = Callable[[], Any]
Feed = Mapping[str, Any]

STEPS = 3


def legacy() -> Any:
    """Let Paddle 3 build and run legacy Programs; Paddle 2.6 does by itself."""
    guard = getattr(paddle.pir_utils, "OldIrGuard", None)
    return nullcontext() if guard is None else guard()


@dataclass(kw_only=True)
class Built:
    """A legacy Program that has been initialised in a Scope of its own."""

    main: Any
    startup: Any
    output: Any
    scope: Any

    def run(self, feed: Feed, fetch: list[Any], program: Any = None) -> list[Any]:
        return self.steps(1, feed, fetch, program)[0]

    def steps(
        self, count: int, feed: Feed, fetch: list[Any], program: Any = None
    ) -> list[list[Any]]:
        """Run several times by one Executor, which prepares the Program once."""
        executor, run = paddle.static.Executor(paddle.CPUPlace()), program or self.main
        with legacy(), paddle.static.scope_guard(self.scope):
            return [executor.run(run, feed=dict(feed), fetch_list=fetch) for _ in range(count)]

    def initialise(self) -> None:
        self.run({}, [], self.startup)

    def move(self) -> None:
        """Take the weights away from where the startup program puts them, as training does."""
        for name in self.state():
            tensor = self.scope.find_var(name).get_tensor()
            array = np.asarray(tensor)
            tensor.set(array * np.asarray(1.01, array.dtype), paddle.CPUPlace())

    def state(self) -> dict[str, bytes]:
        """Return the bytes of everything the Scope keeps for the Program, by name."""
        held = {}
        for var in self.main.list_vars():
            found = self.scope.find_var(var.name)
            if var.persistable and found is not None and var.name not in ("feed", "fetch"):
                held[var.name] = np.asarray(found.get_tensor()).tobytes()
        return held


def build(network: Network, *, seed: int = 7) -> Built:
    paddle.enable_static()
    with legacy():
        main, startup = paddle.static.Program(), paddle.static.Program()
        main.random_seed = startup.random_seed = seed
        with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
            output = network()
    built = Built(main=main, startup=startup, output=output, scope=paddle.static.Scope())
    built.initialise()
    return built


def in_test_mode(program: Any) -> Any:
    with legacy():
        return program.clone(for_test=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    teacher: Network
    student: Network
    feed: Feed
    feed_map: Mapping[str, str]

    def teacher_feed(self) -> Feed:
        return {old: self.feed[new] for old, new in self.feed_map.items()}

    def student_feed(self) -> Feed:
        own = {new for old, new in self.feed_map.items() if new == f"teacher_{old}"}
        return {name: array for name, array in self.feed.items() if name not in own}


def run(case: Case) -> dict[str, Any]:
    """Merge and train; every entry of the answer is True where all is as it should be."""
    teacher, student = build(case.teacher, seed=3), build(case.student)
    teacher.move()
    theirs = teacher.run(case.teacher_feed(), [teacher.output], in_test_mode(teacher.main))
    ours = student.run(case.student_feed(), [student.output])
    student.initialise()
    counts = operators(teacher.main), operators(student.main)
    merged = merge(
        teacher.main,
        student.main,
        case.feed_map,
        scope=student.scope,
        teacher_scope=teacher.scope,
    )
    output = merged.teacher(teacher.output.name)
    both = student.run(case.feed, [output, student.output])
    return {
        "teacher bit-equal": np.array_equal(both[0], theirs[0]),
        "student bit-equal": np.array_equal(both[1], ours[0]),
        "names found": names_found(merged, teacher.main),
        "operators added": operators(student.main) - counts[1] - counts[0],
        **trained(merged, student, output, case.feed, teacher),
    }


def operators(program: Any) -> int:
    with legacy():
        return sum(len(block.ops) for block in program.blocks)


def names_found(merged: Merged, teacher: Any) -> bool:
    """Tell whether every Value of the teacher is known in the merged Program, by the right name."""
    before, after = LiveProgram.of(teacher).graph, LiveProgram.of(merged.program).graph
    assert set(merged.values) == set(before.values)
    made = ((before.producer(old), after.producer(new)) for old, new in merged.values.items())
    return all(ours and ours.type == theirs.type for theirs, ours in made if theirs)


def trained(
    merged: Merged, student: Built, output: Any, feed: Feed, teacher: Built
) -> dict[str, Any]:
    """Train the student on the distance to the teacher; re-running startups leaves the teacher."""
    prefixed = {new for _, new in merged.plan.renames}
    with legacy(), paddle.static.program_guard(merged.program, student.startup):
        loss = F.mse_loss(student.output, output)
        paddle.optimizer.Momentum(0.001).minimize(loss)
    before = student.state()
    student.initialise()
    teacher.initialise()
    steps = student.steps(STEPS, feed, [loss, output, student.output])
    after = student.state()
    kept = prefixed & set(after)
    return {
        "teacher frozen": all(before[name] == after[name] for name in kept) and bool(kept),
        "student trained": any(before[name] != after[name] for name in set(before) - kept),
        "losses right": all(
            np.allclose(found, np.square(got - wanted).mean(), rtol=1e-4)
            for found, wanted, got in steps
        ),
        "losses differ": len({float(np.ravel(found)[0]) for found, *_ in steps}) == STEPS,
    }


AS_IT_SHOULD_BE = {
    "teacher bit-equal": True,
    "student bit-equal": True,
    "names found": True,
    "operators added": 0,
    "teacher frozen": True,
    "student trained": True,
    "losses right": True,
    "losses differ": True,
}


def _data(name: str, *shape: int, dtype: str = "float32") -> Any:
    return paddle.static.data(name, [-1, *shape], dtype)


def _array(*shape: int) -> Any:
    return np.random.RandomState(0).rand(2, *shape).astype("float32")


def _linear(x: Any) -> Any:
    return paddle.nn.Linear(8, 8)(x)


def small_student() -> Any:
    return paddle.vision.models.mobilenet_v1(scale=0.25, num_classes=10)(_data("data", 3, 64, 64))


def family(name: str) -> Case:
    """One of Paddle's own networks as a teacher of a small MobileNet."""

    def teacher() -> Any:
        output = getattr(paddle.vision.models, name)(num_classes=10)(_data("image", 3, 64, 64))
        return output[0] if isinstance(output, list | tuple) else output

    return Case(
        teacher=teacher,
        student=small_student,
        feed={"data": _array(3, 64, 64)},
        feed_map={"image": "data"},
    )


FAMILIES = (
    "densenet121",
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_25",
    "squeezenet1_1",
)


def _loop(name: str) -> Network:
    def network() -> Any:
        x, inner = _data(name, 8), paddle.nn.Linear(8, 8)
        count = paddle.full([1], 0, "int64")
        _, x = paddle.static.nn.while_loop(
            lambda count, _: count < 3,
            lambda count, value: [count + 1, F.relu(inner(value)) + x],
            [count, _linear(x)],
        )
        return x

    return network


def _branch(name: str) -> Network:
    def network() -> Any:
        x, inner = _data(name, 8), paddle.nn.Linear(8, 8)
        return paddle.static.nn.cond(
            paddle.mean(x) > 0,
            lambda: paddle.static.nn.cond(
                paddle.mean(x) > 9, lambda: x * 3, lambda: F.dropout(inner(x), 0.5) * 2
            ),
            lambda: inner(x) - 1,
        )

    return network


def _plain() -> Any:
    return _linear(_data("data", 8))


def _writes_its_feed(name: str) -> Network:
    def network() -> Any:
        x = _data(name, 8)
        paddle.assign(_linear(x) * 2, output=x)
        return _linear(x)

    return network


def _two_feeds() -> Any:
    """A teacher that calls another feed what the student calls its own."""
    return _linear(_data("data", 8)) * 2 - _data("x", 8) * 3


def _variable_attribute() -> Any:
    x = _data("x", 8)
    return F.dropout(_linear(x), paddle.full([1], 0.5))


def _pair(teacher: Network, student: Network) -> Case:
    return Case(teacher=teacher, student=student, feed={"data": _array(8)}, feed_map={"x": "data"})


def _recurrent(name: str) -> Network:
    def network() -> Any:
        states, _ = paddle.nn.LSTM(4, 6)(paddle.reshape(_data(name, 8), [-1, 2, 4]))
        return paddle.nn.Linear(6, 8)(states[:, -1])

    return network


def _half(name: str) -> Network:
    """Scale by a bfloat16 parameter, which its startup program sets."""

    def network() -> Any:
        x = _data(name, 8)
        scale = paddle.static.create_parameter(
            [8], "bfloat16", default_initializer=paddle.nn.initializer.Constant(1.5)
        )
        return _linear(paddle.cast(scale, "float32") * x)

    return network


def _normalised(name: str, width: int) -> Network:
    """A convolution, a batch norm that was never put into test mode, dropout, a pooled answer."""

    def network() -> Any:
        x = paddle.nn.Conv2D(3, width, 3, stride=2)(_data(name, 3, 8, 8))
        x = F.dropout(F.relu(paddle.nn.BatchNorm2D(width)(x)), 0.5)
        return paddle.nn.Linear(width, 5)(paddle.mean(x, axis=[2, 3]))

    return network


CASES: dict[str, Callable[[], Case]] = {
    "convolutions with norms": lambda: Case(
        teacher=_normalised("image", 6),
        student=_normalised("data", 4),
        feed={"data": _array(3, 8, 8)},
        feed_map={"image": "data"},
    ),
    "loop in the teacher": lambda: _pair(_loop("x"), _plain),
    "loop in both": lambda: _pair(_loop("x"), _loop("data")),
    "teacher writes over its feed": lambda: _pair(_writes_its_feed("x"), _plain),
    "student writes over its feed": lambda: _pair(_loop("x"), _writes_its_feed("data")),
    "both write over their feeds": lambda: _pair(_writes_its_feed("x"), _writes_its_feed("data")),
    "a recurrent teacher": lambda: _pair(_recurrent("x"), _plain),
    "a bfloat16 weight": lambda: _pair(_half("x"), _plain),
    "another feed has the student's name": lambda: Case(
        teacher=_two_feeds,
        student=_plain,
        feed={"data": _array(8), "teacher_data": _array(8) + 1},
        feed_map={"x": "data", "data": "teacher_data"},
    ),
}

# What Paddle 3 cannot build any more as a legacy Program.
OLD_CASES: dict[str, Callable[[], Case]] = {
    "branch in the teacher": lambda: _pair(_branch("x"), _plain),
    "branch in both": lambda: _pair(_branch("x"), _branch("data")),
    "loop into branch": lambda: _pair(_loop("x"), _branch("data")),
    "branch into loop": lambda: _pair(_branch("x"), _loop("data")),
    "a Variable as an attribute": lambda: _pair(_variable_attribute, _plain),
}

EXTRA_OPERATORS = {
    "teacher writes over its feed": 1,
    "student writes over its feed": 1,
    "both write over their feeds": 1,
}


def expected(name: str) -> dict[str, Any]:
    return {**AS_IT_SHOULD_BE, "operators added": EXTRA_OPERATORS.get(name, 0)}


def main(names: list[str]) -> None:
    # Paddle keeps the call stack with each operator; one frame of it takes a fifth less time.
    sys.tracebacklimit = 1
    for name in names:
        case = {**CASES, **OLD_CASES}[name]() if " " in name else family(name)
        print(json.dumps([name, run(case)], default=bool))


if __name__ == "__main__":
    main(sys.argv[1:])
