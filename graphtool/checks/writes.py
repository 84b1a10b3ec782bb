"""Rules about what operators write over: what is kept from run to run, and what is fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphtool.checks.networks import modal_operators
from graphtool.checks.places import also, at_operator, feed_map_argument, in_student, in_teacher
from graphtool.checks.plan import MergePlan
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic
from graphtool.graph import Graph, Operator, Origin, ProgramKind
from graphtool.structure import is_training

__all__ = ["feed_written_over", "teacher_writes_state"]


@check("GT225")
def teacher_writes_state(plan: MergePlan) -> Iterator[Diagnostic]:
    """An operator of the teacher changes what the teacher keeps from run to run.

    A counter or a moving average is such a thing. Test mode does not stop it, so the teacher would
    not stay as it is. Build the teacher without that operator.
    """
    stopped = {operator.name for operator in modal_operators(plan.teacher)}
    writers = [
        (operator, name)
        for operator in plan.teacher.operators.values()
        for name in _state_written(plan, operator)
        if operator.name not in stopped and not is_training(operator)
    ]
    if writers:
        operator, name = writers[0]
        yield Diagnostic(
            message=f"`{operator.name}` writes `{name}`, which the teacher keeps from run to run",
            where=(
                at_operator("teacher", plan.teacher, operator),
                in_teacher(plan, plan.teacher_names.get(name), name),
            ),
            notes=also([other.name for other, _ in writers]),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
        )


# Which operand an in-place operator of PIR writes, where it is not the first.
_WRITTEN_OPERAND = {"pd_op.assign_out_": 1}
# In-place operators that look at the same elements in another way.
_VIEWS = frozenset({"flatten", "reshape", "share_data", "squeeze", "unsqueeze"})
# These write their running statistics, and no operand that is fed.
_NORMS = frozenset({"batch_norm", "sync_batch_norm"})


def _state_written(plan: MergePlan, operator: Operator) -> Iterator[str]:
    """Yield persistable names that an operator reads and writes, or sets outright in PIR."""
    graph = plan.teacher
    if graph.kind is ProgramKind.LEGACY:
        for name in operator.results:
            variable, _, write = name.rpartition("@")
            first = graph.values.get(variable) if write.isdecimal() else None
            if first and first.producer is None and first.persistable:
                yield first.name
    elif operator.type == "builtin.set_parameter":
        yield str(operator.attributes.get("parameter_name", operator.name))
    elif operator.type.endswith("_") and operator.kind not in _VIEWS:
        at = _WRITTEN_OPERAND.get(operator.type, 0)
        written = operator.operands[at] if at < len(operator.operands) else None
        if written is not None and graph.values[written].persistable:
            yield written


@check("GT233")
def feed_written_over(plan: MergePlan) -> Iterator[Diagnostic]:
    """An operator of one network writes over a feed that the other reads as well.

    `x[:, 0] = 0` on what is fed is such an operator in PIR. The other network, or its gradient,
    would compute with the new numbers. Feed the two networks apart: map the teacher's feed onto its
    own name with the prefix, and give that name the same data in each run. Legacy programs are
    merged with a copy of the feed instead.
    """
    if plan.kind is not ProgramKind.PIR:
        return
    fed = {"teacher": dict(plan.feed_map), "student": {new: old for old, new in plan.feed_map}}
    for role, graph in (("teacher", plan.teacher), ("student", plan.student)):
        for feed, operator in _overwriting(graph):
            if feed in fed[role]:
                yield _written_over(plan, role, feed, operator)


def _written_over(plan: MergePlan, role: str, feed: str, operator: Operator) -> Diagnostic:
    graph = plan.teacher if role == "teacher" else plan.student
    other = "student" if role == "teacher" else "teacher"
    at = in_teacher if role == "teacher" else in_student
    theirs = feed if role == "teacher" else {new: old for old, new in plan.feed_map}[feed]
    mapped = {**dict(plan.feed_map), theirs: plan.prefix + theirs}
    return Diagnostic(
        message=f"the {role} writes over its feed `{feed}`, which the {other} reads as well, in "
        f"`{operator.name}`",
        where=(at(plan, graph.values[feed], feed), at_operator(role, graph, operator)),
        help=feed_map_argument(mapped),
    )


def _overwriting(graph: Graph) -> Iterator[tuple[str, Operator]]:
    """Yield feeds with an operator that writes over them, each feed once; PIR alone has such."""
    if graph.kind is not ProgramKind.PIR:
        return
    same = dict(_same_elements(graph))
    seen: set[str] = set()
    for operator in graph.operators.values():
        written = _written(operator)
        if written is None or operator.kind in _VIEWS or is_training(operator):
            continue
        feed = _first(written, same)
        if graph.values[feed].origin is Origin.FEED and feed not in seen:
            seen.add(feed)
            yield feed, operator


def _written(operator: Operator) -> str | None:
    """Return the operand that an in-place operator writes its first result over."""
    if not operator.type.endswith("_") or operator.kind in _NORMS:
        return None
    at = _WRITTEN_OPERAND.get(operator.type, 0)
    return operator.operands[at] if at < len(operator.operands) else None


def _same_elements(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield Values with those whose elements they are: of views, and of a loop's Block."""
    for operator in graph.operators.values():
        written = _written(operator)
        if written is not None and operator.results:
            yield operator.results[0], written
        if operator.kind == "while":
            for path in operator.blocks:
                inner = graph.blocks[path].arguments
                # What the loop itself reads, its condition, comes before what it hands in.
                handed = zip(reversed(inner), reversed(operator.operands), strict=False)
                for argument, operand in handed:
                    if operand is not None:
                        yield argument, operand


def _first(name: str, same: Mapping[str, str]) -> str:
    while name in same:
        name = same[name]
    return name
