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
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional as F  # noqa: N812

from graphtool.backend.live import LiveProgram
from graphtool.merging import Merged
from tests.merging import networks
from tests.merging.networks import Built, bytes_of, legacy, merge_built, steps

Network = Callable[[], Any]
Feed = Mapping[str, Any]

STEPS = 3


def build(network: Network, *, seed: int = 7) -> Built:
    return networks.build(network, kind="legacy", seed=seed)


def state(built: Built) -> dict[str, bytes]:
    """Return the bytes of everything the Scope keeps for a Program, by name."""
    held = (var.name for var in built.program.list_vars() if var.persistable)
    names = [name for name in held if built.scope.find_var(name) and name not in ("feed", "fetch")]
    return bytes_of(built.scope, names)


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
    for name in state(teacher):
        # Away from where the startup program puts them, as training moves them.
        array = teacher.held(name)
        teacher.hold(name, array * np.asarray(1.01, array.dtype))
    test = in_test_mode(teacher.program)
    (wanted,) = teacher.run(case.teacher_feed(), teacher.output, program=test)
    (own,) = student.run(case.student_feed(), student.output)
    student.initialise()
    counts = operators(teacher.program), operators(student.program)
    merged = merge_built(teacher, student, case.feed_map)
    output = merged.teacher(teacher.output.name)
    both = student.run(case.feed, output, student.output)
    return {
        "teacher bit-equal": np.array_equal(both[0], wanted),
        "student bit-equal": np.array_equal(both[1], own),
        "names found": names_found(merged, teacher.program),
        "operators added": operators(student.program) - counts[1] - counts[0],
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
    return all(copied and copied.type == own.type for own, copied in made if own)


def trained(
    merged: Merged, student: Built, output: Any, feed: Feed, teacher: Built
) -> dict[str, Any]:
    """Train the student on the distance to the teacher; re-running startups leaves the teacher."""
    prefixed = {new for _, new in merged.plan.renames}
    with student.guard():
        loss = F.mse_loss(student.output, output)
        paddle.optimizer.Momentum(0.001).minimize(loss)
    before = state(student)
    student.initialise()
    teacher.initialise()
    done = steps(STEPS, student.program, student.scope, feed, loss, output, student.output)
    after = state(student)
    kept = prefixed & set(after)
    return {
        "teacher frozen": all(before[name] == after[name] for name in kept) and bool(kept),
        "student trained": any(before[name] != after[name] for name in set(before) - kept),
        "losses right": all(
            np.allclose(found, np.square(got - wanted).mean(), rtol=1e-4)
            for found, wanted, got in done
        ),
        "losses differ": len({float(np.ravel(found)[0]) for found, *_ in done}) == STEPS,
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
