"""What is to be whole or not at all: merges, losses and exports, of PIR and legacy Programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import paddle
from paddle import nn

import graphtool as gt
from tests.injection.injecting import Case, Scenario
from tests.injection.looking import state
from tests.losses.merges import built as convolutions
from tests.losses.merges import merged_with
from tests.merging import cases, networks
from tests.merging.networks import Built, merge_built, small

# As in `looking`, in a file.
_ROOT = re.compile(rb'("/[A-Za-z0-9]+)_\d+/')
_CONTROL = Path(__file__).parents[1] / "fixtures" / "2.6.2" / "control.pdmodel"


def merge() -> Case:
    """A loop into a branch: Blocks inside of Blocks, constants, dropout, running statistics."""
    return _merge(small(networks.looping, "image"), small(networks.branching))


def _merge(teacher: Built, student: Built, **options: Any) -> Case:
    return Case(
        lambda: merge_built(teacher, student, **options),
        lambda: state(
            teacher.program,
            student.program,
            teacher.startup,
            student.startup,
            scopes=(teacher.scope, student.scope),
        ),
    )


def merge_again() -> Case:
    """A second teacher beside the first."""
    teacher, student = small(networks.perceptron, "image"), small(networks.plain)
    _merge(teacher, student).work()
    return _merge(teacher, student, name_prefix="second_")


def merge_file() -> Case:
    """A model of Paddle 2.6.2 with a branch and a loop into a legacy Program."""
    student = cases.build(cases._plain)
    program, scope = student.program, student.scope
    return Case(
        lambda: gt.merge(_CONTROL, program, {"x": "data"}, scope=scope, parameters="later"),
        lambda: state(program, student.startup, scopes=(scope,)),
    )


def merge_legacy() -> Case:
    """A loop into a network that writes over its feed."""
    teacher = cases.build(cases._loop("image"), seed=3)
    return _merge(teacher, cases.build(cases._writes_its_feed("data")))


def merge_layer() -> Case:
    """Layers of dynamic mode, whose tensors the Scope is given."""
    paddle.disable_static()
    paddle.seed(1)
    spec = [("data", [8])]
    teacher = gt.from_layer(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5)), spec)
    student = gt.from_layer(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 5)), spec, train=True)
    paddle.enable_static()
    scope = paddle.static.Scope()
    return Case(
        lambda: gt.merge(teacher, student, {"data": "data"}, scope=scope),
        lambda: state(teacher.program, student.program, scopes=(scope,)),
    )


def load_teacher() -> Case:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    other = small(networks.plain, "image")
    merged: gt.Merged = _merge(teacher, student).work()
    return Case(
        lambda: merged.load_teacher(other.scope),
        lambda: state(student.program, scopes=(student.scope, other.scope)),
    )


_PAIRS = [("relu_0", "relu_0", "hint"), ("add_2", "add_2", "kl")]


def distill() -> Case:
    """Three losses, one of them with an adapter whose parameters the startup program gets."""
    merged, student = merged_with(convolutions(8), width=4)
    pairs = [*_PAIRS, ("relu_0", "relu_0", "attention")]
    startup = paddle.static.Program()

    def work() -> object:
        with paddle.static.program_guard(merged.program, startup):
            return gt.distill_loss(merged, pairs, weights=[1.0, 2.0, 3.0])

    return Case(work, lambda: state(merged.program, startup, scopes=(student.scope,)))


def distill_legacy() -> Case:
    def network(width: int, name: str) -> Callable[[], Any]:
        def forward() -> Any:
            x = paddle.static.data(name, [-1, 3, 8, 8])
            x = nn.functional.relu(paddle.static.nn.conv2d(x, width, 3, padding=1))
            return paddle.static.nn.fc(nn.functional.adaptive_avg_pool2d(x, 1), 5)

        return forward

    student = cases.build(network(4, "data"))
    merged = merge_built(cases.build(network(8, "image"), seed=3), student)
    theirs, own = (
        next(name for name in graph.values if "relu" in name)
        for graph in (merged.plan.teacher, merged.plan.student)
    )
    with networks.legacy():
        startup = paddle.static.Program()

    def work() -> object:
        with networks.legacy(), paddle.static.program_guard(merged.program, startup):
            return gt.distill_loss(merged, [(theirs, own, "hint"), (theirs, own, "attention")])

    return Case(work, lambda: state(merged.program, startup, scopes=(student.scope,)))


def adapter() -> Case:
    """An adapter by itself: parameters in two Programs, then a convolution."""
    merged, student = merged_with(convolutions(8), width=4)
    startup = paddle.static.Program()

    def work() -> object:
        with paddle.static.program_guard(merged.program, startup):
            return gt.losses.adapters.conv1x1("relu_0", 8)

    return Case(work, lambda: state(merged.program, startup, scopes=(student.scope,)))


def for_test() -> Case:
    merged, student, startup = _minimized()
    return Case(
        lambda: gt.for_test(merged.program, fetch=["add_2"]),
        lambda: state(merged.program, startup, scopes=(student.scope,)),
    )


def export() -> Case:
    """A student after `minimize`, in the place of an older export."""
    merged, student, startup = _minimized()
    folder = Path(mkdtemp())
    (folder / "student.json").write_text("old")

    def look() -> dict[str, Any]:
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        contents = {name: _ROOT.sub(rb"\1/", data) for name, data in files.items()}
        # Its checksums are those of the files as they are.
        contents.pop("student.graphtool", None)
        seen = {"identity of files": files, "files": contents}
        return seen | state(merged.program, startup, scopes=(student.scope,))

    return Case(
        lambda: gt.export_student(merged, folder / "student", fetch=["add_2"], force=True), look
    )


def _minimized() -> tuple[gt.Merged, Any, Any]:
    merged, student = merged_with(convolutions(8), width=4)
    startup = paddle.static.Program()
    with paddle.static.program_guard(merged.program, startup):
        gt.minimize(paddle.optimizer.AdamW(0.01), gt.distill_loss(merged, _PAIRS).total)
    paddle.static.Executor().run(startup, scope=student.scope)
    return merged, student, startup


SCENARIOS: dict[str, Scenario] = {
    "merge": merge,
    "merge a second teacher": merge_again,
    "merge Layers": merge_layer,
    "merge, legacy": merge_legacy,
    "merge a file, legacy": merge_file,
    "load_teacher": load_teacher,
    "distill_loss": distill,
    "an adapter": adapter,
    "distill_loss, legacy": distill_legacy,
    "for_test": for_test,
    "export_student": export,
}
