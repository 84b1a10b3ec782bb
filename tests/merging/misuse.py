"""What crashes an interpreter that has Paddle in it: each case in a forked child of its own.

`python -m tests.merging.misuse [CASE...]` prints, as JSON, what should have come of a case and what
did, or the signal that ended it. Values, Blocks and operations are used whose Program is gone.
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


def _in_guard(call: Callable[[gt.Merged, Any], object], given: Any) -> object:
    merged, student = merged_with(built(8))
    with inside(student):
        return call(merged, given)


def _of_another(call: Callable[[gt.Merged, Any], object]) -> object:
    other = built(5)
    return _in_guard(call, other.output)


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
    scopes = {"scope": teacher.scope, "teacher_scope": student.scope}
    again = gt.merge(merged.program, teacher.program, _FEEDS, **scopes, name_prefix="x_")
    return again.verify().equal


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


def _sgd(loss: Any, *arguments: Any, **options: Any) -> object:
    return gt.minimize(optimizer.SGD(0.1), loss, *arguments, **options)


_PAIR = ("add_2", "add_2", "kl")
Use = Callable[[gt.Merged, Any], object]
# What comes of a Value of a Program that is gone, in the guard of a merged one.
_WITH_DEAD_VALUE: dict[str, tuple[str, Use]] = {
    "in a loss": ("GT340", lambda _, one: gt.losses.l2(one, "add_2")),
    "in a custom loss": ("GT340", lambda _, one: gt.losses.custom(lambda t: t.mean(), t=one)),
    "returned by a custom loss": ("GT353", lambda _, one: gt.losses.custom(lambda: one)),
    "as the loss": ("GT340", lambda _, one: _sgd(one)),
    "fetched": ("GT253", lambda merged, one: gt.for_test(merged, fetch=[one])),
    "as a weight": ("GT347", lambda merged, one: gt.distill_loss(merged, [_PAIR], weights=[one])),
    "in an adapter": ("GT340", lambda _, one: gt.losses.adapters.resize(one, (4, 4))),
}
# What comes of a dead Value, a dead Block and a dead operation alike.
_WITH_THE_DEAD: dict[str, tuple[str, Use]] = {
    "parameters": (
        "GT534",
        lambda merged, one: _sgd(merged.student("add_2").mean(), parameters=[one]),
    ),
    "without gradient": (
        "GT248",
        lambda merged, one: _sgd(merged.student("add_2").mean(), no_grad_set=[one]),
    ),
    "option": ("GT347", lambda _, one: gt.losses.kl("add_2", "add_2", temperature=one)),
    "side": ("GT347", lambda _, one: gt.losses.kl("add_2", "add_2", from_probs=one)),
    "pairs": ("GT248", lambda merged, one: gt.distill_loss(merged, [(one, one)])),
    "keys of weights": (
        "GT347",
        lambda merged, one: gt.distill_loss(merged, [_PAIR], weights={one: 1.0}),
    ),
    "Programs": ("GT248", lambda _, one: gt.merge(one, one, {})),
    "place": (
        "GT248",
        lambda _, one: gt.merge(built(8).program, built(4).program, _FEEDS, one),
    ),
    "feed map": (
        "GT248",
        lambda _, one: gt.merge(built(8).program, built(4).program, {"image": one}),
    ),
    "word": (
        "GT248",
        lambda _, one: gt.merge(built(8).program, built(4).program, _FEEDS, parameters=one),
    ),
    "to be trained": ("GT248", lambda _, one: gt.for_training(one)),
    "to be read": ("GT036", lambda _, one: gt.read(one)),
}
# What comes of a Value of another Program.
_WITH_ANOTHERS: dict[str, tuple[str, Use]] = {
    "label": (
        "GT340",
        lambda merged, one: gt.distill_loss(merged, [("add_2", "add_2", "dkd")], label=one),
    ),
    "weight": ("GT347", lambda merged, one: gt.distill_loss(merged, [_PAIR], weights=[one])),
    "adapter": ("GT340", lambda _, one: gt.losses.adapters.linear(one, 8)),
}
CASES: dict[str, tuple[object, Callable[[], object]]] = {
    **{
        f"a dead Value {name}": (code, lambda use=use: _in_guard(use, _dead()[0]))
        for name, (code, use) in _WITH_DEAD_VALUE.items()
    },
    **{
        f"the dead as {name}": (
            [code] * 3,
            lambda use=use: [_outcome(lambda one=one: _in_guard(use, one)) for one in _dead()],
        )
        for name, (code, use) in _WITH_THE_DEAD.items()
    },
    **{
        f"the {name} of another Program": (code, lambda use=use: _of_another(use))
        for name, (code, use) in _WITH_ANOTHERS.items()
    },
    "a dead loss with a startup program": (
        "GT340",
        lambda: _sgd(_dead()[0], paddle.static.Program()),
    ),
    "a loss whose operator was removed": ("GT340", _removed_loss),
    "a loss whose operator was removed, with a startup program": (
        "GT340",
        lambda: _removed_loss(paddle.static.Program()),
    ),
    "a loss of another Program, with a startup program": ("GT340", _outside_of_a_guard),
    "a Value of the teacher's own Program": ("GT340", _of_the_original),
    "a Value of a clone that died": ("GT340", _of_a_dead_clone),
    "a name whose operator was removed": ("GT031", _removed_by_name),
    "a Value whose operator was removed": ("GT340", _removed),
    "one optimizer for two Programs": ([6, "GT531"], _one_optimizer_for_two_programs),
    "a loss differentiated twice before": ([6, True], _differentiated_twice),
    "a merged Program after a pass": (["GT031"] * 5, _after_a_pass),
    "a merged Program normalised": ([["add_2"], "GT340", True], _normalised),
    "what was built before all else died": (
        [[], [-1, 5], [4, 5]],
        _what_was_built_before_all_else_died,
    ),
    "a Program that changed since": ("GT031", _stale),
    "a Graph whose Program is gone": ([20, 40], _graph_alone),
    "Values of an evaluation that is gone": ("GT253", _evaluation_died),
    "copies of what holds Values": ([True, True, True], _copied),
    "a Program merged into itself": (True, _itself),
    "a Program merged into its clone": (True, _own_clone),
    "a merged Program merged into its teacher": (True, _merged_into_its_teacher),
    "a merged Program merged into itself": (True, _merged_into_itself),
    "one teacher of two students": ([True, True], _two_students),
    "a merge inside of the teacher's guard": ([True, True], _inside_the_teachers_guard),
    "Scopes that nobody else holds": (True, _scope_dropped),
    "a teacher that nobody else holds": ([-1, 5], _teacher_dropped),
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
    found = {name: (CASES[name][0], _apart(CASES[name][1])) for name in names or CASES}
    print(json.dumps({name: both for name, both in found.items() if both[0] != both[1]}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
