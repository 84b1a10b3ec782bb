"""Rules about in-place operators that overwrite persistable state or feeds."""

from __future__ import annotations

from collections.abc import Iterator

from graphtool.checks.locations import also, at_operator, feed_map_argument, in_student, in_teacher
from graphtool.checks.networks import modal_operators
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic
from graphtool.graph import Graph, Operator, Origin, ProgramKind
from graphtool.ops import VIEWS, is_training, written_operand

__all__ = ["overwritten_feed", "teacher_writes_state"]


@check("GT225")
def teacher_writes_state(plan: MergePlan) -> Iterator[Diagnostic]:
    """An operator of the teacher changes its state in each run, such as a counter.

    Test mode does not stop it, so the teacher would not stay fixed. Build the teacher without that
    operator.
    """
    stopped_by_test_mode = {operator.name for operator in modal_operators(plan.teacher)}
    writers = [
        (operator, name)
        for operator in plan.teacher.operators.values()
        for name in _written_state(plan, operator)
        if operator.name not in stopped_by_test_mode and not is_training(operator)
    ]
    if writers:
        operator, name = writers[0]
        yield Diagnostic(
            message=f"`{operator.name}` writes `{name}`, which the teacher keeps between runs",
            where=(
                at_operator("teacher", plan.teacher, operator),
                in_teacher(plan, plan.teacher_names.get(name), name),
            ),
            notes=also([other.name for other, _ in writers]),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
        )


def _written_state(plan: MergePlan, operator: Operator) -> Iterator[str]:
    """Yield the persistable names that an operator updates in place, or sets in PIR."""
    graph = plan.teacher
    if graph.kind is ProgramKind.LEGACY:
        for name in operator.results:
            variable, _, write = name.rpartition("@")
            first = graph.values.get(variable) if write.isdecimal() else None
            if first and first.producer is None and first.persistable:
                yield first.name
    elif operator.type == "builtin.set_parameter":
        yield str(operator.attributes.get("parameter_name", operator.name))
    elif operator.type.endswith("_") and operator.kind not in VIEWS:
        written = written_operand(operator)
        if written is not None and graph.values[written].persistable:
            yield written


@check("GT233")
def overwritten_feed(plan: MergePlan) -> Iterator[Diagnostic]:
    """An in-place operator of one network overwrites a feed that the other one reads too.

    `x[:, 0] = 0` on a feed is such an operator in PIR. The other network, or its gradient, would
    read the new values. Map the teacher's feed to its own name with the prefix, and feed the same
    data to both. Legacy programs are merged with a copy of the feed instead.
    """
    if plan.kind is not ProgramKind.PIR:
        return
    fed = {"teacher": dict(plan.feed_map), "student": {new: old for old, new in plan.feed_map}}
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        for feed, operator in _overwritten_feeds(graph):
            if feed in fed[role]:
                yield _overwritten_feed(plan, role, feed, operator)


def _overwritten_feed(plan: MergePlan, role: str, feed: str, operator: Operator) -> Diagnostic:
    graph = plan.teacher if role == "teacher" else plan.student
    other = "student" if role == "teacher" else "teacher"
    value_in = in_teacher if role == "teacher" else in_student
    teacher_feed = feed if role == "teacher" else {new: old for old, new in plan.feed_map}[feed]
    separate = {**dict(plan.feed_map), teacher_feed: plan.prefix + teacher_feed}
    return Diagnostic(
        message=f"`{operator.name}` of the {role} overwrites its feed `{feed}`, which the {other} "
        "reads too",
        where=(value_in(plan, graph.values[feed], feed), at_operator(role, graph, operator)),
        help=feed_map_argument(separate),
    )


def _overwritten_feeds(graph: Graph) -> Iterator[tuple[str, Operator]]:
    """Yield each overwritten feed of a PIR graph with the first operator that overwrites it."""
    if graph.kind is not ProgramKind.PIR:
        return
    aliases = dict(_aliases(graph))
    seen: set[str] = set()
    for operator in graph.operators.values():
        written = written_operand(operator)
        if written is None or operator.kind in VIEWS or is_training(operator):
            continue
        feed = written
        while feed in aliases:
            feed = aliases[feed]
        if graph.values[feed].origin is Origin.FEED and feed not in seen:
            seen.add(feed)
            yield feed, operator


def _aliases(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield each alias with the Value whose memory it uses: in-place results, loop arguments."""
    for operator in graph.operators.values():
        written = written_operand(operator)
        if written is not None and operator.results:
            yield operator.results[0], written
        if operator.kind == "while":
            for path in operator.blocks:
                arguments = graph.blocks[path].arguments
                # The operands begin with the loop's condition, which is no argument of the Block.
                pairs = zip(reversed(arguments), reversed(operator.operands), strict=False)
                for argument, operand in pairs:
                    if operand is not None:
                        yield argument, operand
