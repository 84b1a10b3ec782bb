"""What crashes an interpreter that has Paddle in it: each case in a forked child of its own.

`python -m tests.merging.misuse [CASE...]` prints, as JSON, the codes or the answer of each, or the
signal that ended it. Values, Blocks and operations are used whose Program, or clone, is gone.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import paddle
from paddle import optimizer

import graphtool as gt
from graphtool.backend.live import LiveProgram
from tests.losses.merges import FEED, built, inside, merged_with
from tests.merging.networks import merge_built

_FEEDS = {"image": "image"}


def _dead() -> tuple[Any, Any, Any]:
    """Return a Value, a Block and an operation of a Program that is gone."""
    gone = built(8)
    block = gone.program.global_block()
    return gone.output, block, block.ops[0]


def _dead_value() -> Any:
    return _dead()[0]


def _in_guard(call: Callable[[gt.Merged, Any], object], given: Any) -> object:
    merged, student = merged_with(built(8))
    with inside(student):
        return call(merged, given)


def _of_each(call: Callable[[Any], object]) -> list[object]:
    """Call with a Value, a Block and an operation of the dead: their codes, or what came out."""
    return [_outcome(lambda given=given: call(given)) for given in _dead()]


def _itself() -> object:
    student = built(4)
    return merge_built(student, student, _FEEDS).verify().equal


def _own_clone() -> object:
    student, scope = built(4), paddle.static.Scope()
    clone = student.program.clone()
    paddle.static.Executor().run(student.startup, scope=scope)
    merged = gt.merge(student.program, clone, _FEEDS, scope=scope, teacher_scope=student.scope)
    return merged.verify().equal


def _merged_into_its_teacher() -> object:
    teacher = built(8)
    merged, student = merged_with(teacher)
    return (
        gt.merge(
            merged.program,
            teacher.program,
            _FEEDS,
            scope=teacher.scope,
            teacher_scope=student.scope,
            name_prefix="x_",
        )
        .verify()
        .equal
    )


def _merged_into_itself() -> object:
    merged, student = merged_with(built(8))
    again = gt.merge(merged.program, merged.program, _FEEDS, scope=student.scope, name_prefix="x_")
    return again.verify().equal


def _two_students() -> object:
    teacher, one, other = built(8), built(4), built(6)
    merges = merge_built(teacher, one, _FEEDS), merge_built(teacher, other, _FEEDS)
    del teacher
    gc.collect()
    return [merged.verify().equal for merged in merges]


def _inside_the_teachers_guard() -> object:
    teacher, student = built(8), built(4)
    before = str(teacher.program)
    with paddle.static.program_guard(teacher.program, teacher.startup):
        merged = merge_built(teacher, student, _FEEDS)
    return [str(teacher.program) == before, merged.verify().equal]


def _scope_dropped() -> object:
    teacher, student = built(8), built(4)
    merged = merge_built(teacher, student, _FEEDS)
    teacher.scope = student.scope = None
    gc.collect()
    return merged.verify().equal


def _teacher_dropped() -> object:
    merged, _ = merged_with(built(8))
    gc.collect()
    return list(merged.teacher("add_2").shape)


def _of_the_original() -> object:
    teacher = built(8)
    merged, student = merged_with(teacher)
    with inside(student):
        return gt.losses.l2(teacher.output, merged.student("add_2"))


def _of_a_dead_clone() -> object:
    merged, student = merged_with(built(8))
    clone = merged.program.clone()
    value = clone.global_block().ops[-1].result(0)
    del clone
    gc.collect()
    with inside(student):
        return gt.losses.kl(value, "add_2")


def _removed_by_name() -> object:
    merged, student = merged_with(built(8))
    block = merged.program.global_block()
    block.remove_op(block.ops[-1])
    with inside(student):
        return gt.losses.l2("add_2", "add_2")


def _removed() -> object:
    merged, student = merged_with(built(8))
    value = merged.teacher("add_2")
    merged.program.global_block().remove_op(value.get_defining_op())
    with inside(student):
        return gt.losses.l2(value, "add_2")


def _removed_loss(startup: Any = None) -> object:
    network = built(8)
    with paddle.static.program_guard(network.program, network.startup):
        loss = network.output.mean()
        network.program.global_block().remove_op(loss.get_defining_op())
        return gt.minimize(optimizer.SGD(0.1), loss, startup)


def _outside_of_a_guard() -> object:
    network = built(8)
    with paddle.static.program_guard(network.program, network.startup):
        loss = network.output.mean()
    return len(gt.minimize(optimizer.SGD(0.1), loss, network.startup)[1])


def _one_optimizer_for_two_programs() -> object:
    adam = optimizer.Adam(0.1)

    def train() -> object:
        student = merged_with(built(8))[1]
        with inside(student):
            return len(gt.minimize(adam, gt.losses.l2("add_2", "add_2"))[1])

    return [_outcome(train), _outcome(train)]


def _differentiated_twice() -> object:
    merged, student = merged_with(built(8))
    with inside(student):
        loss = gt.losses.l2("add_2", "add_2")
        for _ in range(2):
            paddle.static.append_backward(loss)
        learnt = len(gt.minimize(optimizer.SGD(0.1), loss)[1])
    return [learnt, merged.verify().equal]


def _after_a_pass() -> object:
    """Let Paddle remove what nobody reads: here all of it."""
    merged, student = merged_with(built(8))
    removing = paddle.base.libpaddle.pir.PassManager()
    removing.add_pass("dead_code_elimination_pass", {})
    removing.run(merged.program)
    with inside(student):
        uses: list[Callable[[], object]] = [
            merged.verify,
            lambda: merged.teacher("add_2"),
            lambda: merged.student("add_2"),
            lambda: gt.for_test(merged, fetch=["add_2"]),
            lambda: gt.distill_loss(merged, [("add_2", "add_2", "kl")]),
        ]
        return [_outcome(use) for use in uses]


def _normalised() -> object:
    """Use a Program that Paddle made of a merged one: it is none of the merge's."""
    merged, student = merged_with(built(8))
    fed = [op.result(0) for op in merged.program.global_block().ops if op.name() == "pd_op.data"]
    made = paddle.static.normalize_program(merged.program, fed, [merged.student("add_2")])
    names = gt.for_test(made, fetch=["add_2"]).names
    with paddle.static.program_guard(made, student.startup):
        loss = _outcome(lambda: gt.distill_loss(merged, [("add_2", "add_2", "kl")]))
    return [names, loss, merged.verify().equal]


def _of_another(call: Callable[[gt.Merged, Any], object]) -> object:
    other = built(5)
    return _outcome(lambda: _in_guard(call, other.output))


def _what_was_built_before_all_else_died() -> object:
    merged, student = merged_with(built(8))
    with inside(student):
        loss = gt.distill_loss(merged, [("add_2", "add_2", "kl")])
    scope = student.scope
    test = gt.for_test(merged, fetch=["add_2"])
    del merged, student
    gc.collect()
    shapes = [list(value.shape) for value in (loss.total, *test.fetches)]
    held = paddle.static.Executor().run(
        test.program, feed=FEED, fetch_list=list(test.fetches), scope=scope
    )
    return [*shapes, list(held[0].shape)]


def _stale() -> object:
    program = built(8).program
    live = LiveProgram.of(program)
    program.global_block().remove_op(program.global_block().ops[-1])
    return live.value("add_2")


def _graph_alone() -> object:
    graph = gt.read(built(8).program)
    gc.collect()
    return [len(graph.values), len(copy.deepcopy(graph).nx)]


def _copied() -> object:
    merged, student = merged_with(built(8))
    with inside(student):
        loss = gt.distill_loss(merged, [("add_2", "add_2", "kl")])
    test = gt.for_test(merged, fetch=["add_2"])
    return [copy.deepcopy(one) is one for one in (merged, loss, test)]


def _evaluation_died() -> object:
    merged, _ = merged_with(built(8))
    fetches = gt.for_test(merged, fetch=["add_2"]).fetches
    gc.collect()
    return gt.for_test(merged, fetch=list(fetches))


def _minimized(given: Any, **options: Any) -> object:
    return _in_guard(
        lambda merged, _: gt.minimize(
            optimizer.SGD(0.1), merged.student("add_2").mean(), **options
        ),
        given,
    )


CASES: dict[str, Callable[[], object]] = {
    "a dead Value in a loss": lambda: _in_guard(
        lambda _, value: gt.losses.l2(value, "add_2"), _dead_value()
    ),
    "a dead Value in a loss of one's own": lambda: _in_guard(
        lambda _, value: gt.losses.custom(lambda t: t.mean(), t=value), _dead_value()
    ),
    "a dead Value as what a loss of one's own returns": lambda: _in_guard(
        lambda _, value: gt.losses.custom(lambda: value), _dead_value()
    ),
    "a dead loss": lambda: _in_guard(
        lambda _, value: gt.minimize(optimizer.SGD(0.1), value), _dead_value()
    ),
    "a dead loss with a startup program": lambda: gt.minimize(
        optimizer.SGD(0.1), _dead_value(), paddle.static.Program()
    ),
    "a loss whose operator was removed": _removed_loss,
    "a loss whose operator was removed, with a startup program": lambda: _removed_loss(
        paddle.static.Program()
    ),
    "a loss of another Program, with a startup program": _outside_of_a_guard,
    "the dead as parameters": lambda: _of_each(lambda one: _minimized(one, parameters=[one])),
    "the dead without gradient": lambda: _of_each(lambda one: _minimized(one, no_grad_set=[one])),
    "a dead Value fetched": lambda: _in_guard(
        lambda merged, value: gt.for_test(merged, fetch=[value]), _dead_value()
    ),
    "a dead Value as a weight": lambda: _in_guard(
        lambda merged, value: gt.distill_loss(
            merged, [("relu_0", "relu_0", "attention")], weights=[value]
        ),
        _dead_value(),
    ),
    "the dead as an option": lambda: _of_each(
        lambda one: _in_guard(lambda _, it: gt.losses.kl("add_2", "add_2", temperature=it), one)
    ),
    "the dead as a side": lambda: _of_each(
        lambda one: _in_guard(lambda _, it: gt.losses.kl("add_2", "add_2", from_probs=it), one)
    ),
    "the dead as pairs": lambda: _of_each(
        lambda one: _in_guard(lambda merged, it: gt.distill_loss(merged, [(it, it)]), one)
    ),
    "the dead as keys of weights": lambda: _of_each(
        lambda one: _in_guard(
            lambda merged, it: gt.distill_loss(
                merged, [("add_2", "add_2", "kl")], weights={it: 1.0}
            ),
            one,
        )
    ),
    "the dead as Programs": lambda: _of_each(lambda one: gt.merge(one, one, {})),
    "the dead as a place": lambda: _of_each(
        lambda one: gt.merge(built(8).program, built(4).program, _FEEDS, one)
    ),
    "the dead as a feed map": lambda: _of_each(
        lambda one: gt.merge(built(8).program, built(4).program, {"image": one})
    ),
    "the dead as a word": lambda: _of_each(
        lambda one: gt.merge(built(8).program, built(4).program, _FEEDS, parameters=one)
    ),
    "the dead to be trained": lambda: _of_each(gt.for_training),
    "the dead to be read": lambda: _of_each(gt.read),
    "a Value of the teacher's own Program": _of_the_original,
    "a Value of a clone that died": _of_a_dead_clone,
    "a name whose operator was removed": _removed_by_name,
    "a Value whose operator was removed": _removed,
    "one optimizer for two Programs": _one_optimizer_for_two_programs,
    "a loss differentiated twice before": _differentiated_twice,
    "a merged Program after a pass": _after_a_pass,
    "a merged Program normalised": _normalised,
    "a label of another Program": lambda: _of_another(
        lambda merged, value: gt.distill_loss(merged, [("add_2", "add_2", "dkd")], label=value)
    ),
    "a weight of another Program": lambda: _of_another(
        lambda merged, value: gt.distill_loss(merged, [("add_2", "add_2", "kl")], weights=[value])
    ),
    "an adapter of another Program": lambda: _of_another(
        lambda _, value: gt.losses.adapters.linear(value, 8)
    ),
    "a dead Value in an adapter": lambda: _in_guard(
        lambda _, value: gt.losses.adapters.resize(value, (4, 4)), _dead_value()
    ),
    "what was built before all else died": _what_was_built_before_all_else_died,
    "a Program that changed since": _stale,
    "a Graph whose Program is gone": _graph_alone,
    "Values of an evaluation that is gone": _evaluation_died,
    "copies of what holds Values": _copied,
    "a Program merged into itself": _itself,
    "a Program merged into its clone": _own_clone,
    "a merged Program merged into its teacher": _merged_into_its_teacher,
    "a merged Program merged into itself": _merged_into_itself,
    "one teacher of two students": _two_students,
    "a merge inside of the teacher's guard": _inside_the_teachers_guard,
    "Scopes that nobody else holds": _scope_dropped,
    "a teacher that nobody else holds": _teacher_dropped,
}


def _outcome(case: Callable[[], object]) -> object:
    try:
        return case()
    except gt.GraphtoolError as error:
        return ", ".join(dict.fromkeys(found.code for found in error.report.errors))


def _apart(case: Callable[[], object]) -> object:
    """Run a case in a child, which its crash ends alone."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        # Paddle writes its stack there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writing, json.dumps(_outcome(case), default=repr).encode())
        # Programs that hold Values of others crash when they are destroyed.
        gc.collect()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return json.loads(said) if said else f"exit {os.waitstatus_to_exitcode(status)}"


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    paddle.enable_static()
    print(json.dumps({name: _apart(CASES[name]) for name in names or CASES}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
