"""Read what a call was given: a Program, with its merges and its dataflow; a Scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from graphtool.arguments import bad_argument
from graphtool.backend.live import LiveProgram, is_live, program_of
from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.backend.pir import read_pir
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph, Operator, ProgramKind
from graphtool.merging import Merged, merged_of
from graphtool.merging.merged import inherited_merges, value_of
from graphtool.ops import STACK_PUSHES, is_training, written_operand
from graphtool.sources.layers import Network

__all__ = [
    "ProgramInfo",
    "ancestors",
    "check_program",
    "required_operators",
    "scope_of",
    "training_operators",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProgramInfo:
    """A Program as it is now, the merges into it in order, and the student before them.

    Merges into the Program that it is a clone of count as its own.

    `names` maps the ids of PIR Values to their names in the Graph, and is empty for a legacy
    Program. `student` is the student before the first merge; without a merge, the network as it was
    built. The fetches of its Graph may be known.
    """

    live: LiveProgram
    names: Mapping[str, str]
    merges: tuple[Merged, ...]
    student: LiveProgram
    network: Network | None

    @classmethod
    def of(cls, source: Paddle) -> ProgramInfo:
        """Read a Program, or what holds one."""
        check_program(source)
        program = program_of(source)
        names: Mapping[str, str] = {}
        if is_legacy(program):
            live = LiveProgram.of(program)
        else:
            walk = read_pir(program)
            live = LiveProgram(program=program, graph=walk.graph, keys=walk.keys)
            names = walk.names
        last = merged_of(program)
        merges = last.teachers if last else inherited_merges(live)
        network = source if isinstance(source, Network) else None
        built = source if isinstance(source, LiveProgram) else getattr(source, "live", None)
        before = merges[0].before if merges else built
        return cls(
            live=live,
            names=names,
            merges=merges,
            student=before if isinstance(before, LiveProgram) else live,
            network=network or next((each.network for each in merges if each.network), None),
        )

    @property
    def program(self) -> Paddle:
        """The Program."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the Program as it is now."""
        return self.live.graph

    @property
    def teacher_weights(self) -> list[str]:
        """The names of all merged teachers' weights in the Program."""
        return [new for merged in self.merges for _, new in merged.plan.weights]

    def value(self, selector: str) -> Paddle:
        """Return the Paddle Value or Variable that a selector means.

        With a teacher's prefix it is that teacher's, if it has one of that name. Otherwise names
        from before the merge, or from when the network was built, come before the current ones.

        Raises ReadError: GT101, GT102, GT031.
        """
        return value_of(selector, self.merges, self.student.value, self.live.value)

    def name_of(self, value: Paddle) -> str | None:
        """Return the name of a Value of this Program in its Graph, None for any other Value.

        Only the id of a PIR Value is read: anything else crashes if its Program is gone.
        """
        if self.live.kind is ProgramKind.PIR:
            return self.names.get(getattr(value, "id", ""))
        name = getattr(value, "name", None)
        return name if name in self.graph.values else None


def check_program(source: object) -> None:
    """Reject anything that neither is nor holds a Program: GT248."""
    if not is_live(source):
        wanted = "a Program, a Network or a Merged"
        raise UsageError(bad_argument("program", source, wanted, "merged.program"))


def scope_of(scope: Paddle | None) -> Paddle:
    """Return a Scope, the global one for None; GT248 for anything else."""
    if scope is None:
        return load_paddle().static.global_scope()
    if not hasattr(scope, "find_var") or isinstance(scope, type):
        wanted, call = "a Scope or None", "scope=paddle.static.global_scope()"
        raise UsageError(bad_argument("scope", scope, wanted, call))
    return scope


def ancestors(graph: Graph, outputs: Iterable[str], *, gradient: bool = False) -> frozenset[str]:
    """Return the Values that the outputs are computed from, outputs included.

    With `gradient`, those that a gradient from the outputs reaches: it flows from an Operator's
    results to its operands, and ends at Values with `stop_gradient`.
    """
    found, pending = set[str](), list(outputs)
    while pending:
        name = pending.pop()
        if name in found or (gradient and graph.values[name].stop_gradient):
            continue
        found.add(name)
        operator = graph.producer(name)
        if operator is not None:
            pending += [operand for operand in operator.operands if operand is not None]
            pending += [result for path in operator.blocks for result in graph.blocks[path].results]
    return frozenset(found)


def training_operators(graph: Graph) -> frozenset[str]:
    """Return the names of the top-level Operators of backward passes and updates.

    Under PIR only gradients and updates have a type of that kind. Operators that read their results
    (clipping, weight decay) count too, and so do branches and loops that contain one.
    """
    training: set[str] = set()
    training_values: set[str] = set()
    for operator in map(graph.operators.__getitem__, graph.blocks[""].operators):
        nested = list(_nested_operators(graph, operator))
        if any(map(is_training, (operator, *nested))) or not training_values.isdisjoint(
            _reads(operator, nested)
        ):
            training.add(operator.name)
            training_values.update(operator.results)
    return frozenset(training)


def required_operators(graph: Graph, names: Iterable[str]) -> tuple[Operator, ...]:
    """Return the top-level Operators that compute Values of the forward pass, in program order.

    Operators that write one of those Values in place are included, optimizers are not.
    """
    training = training_operators(graph)
    required_values, required = set(names), list[Operator]()
    for name in reversed(graph.blocks[""].operators):
        operator = graph.operators[name]
        if name in training:
            continue
        nested = list(_nested_operators(graph, operator))
        # In-place operators write operands.
        written = filter(None, map(written_operand, (operator, *nested)))
        if required_values.isdisjoint((*operator.results, *written)):
            continue
        required.append(operator)
        required_values.update(_reads(operator, nested))
    return tuple(reversed(required))


def _nested_operators(graph: Graph, operator: Operator) -> Iterator[Operator]:
    """Yield the Operators in an Operator's Blocks, at any depth, in pre-order."""
    for path in operator.blocks:
        for name in graph.blocks[path].operators:
            nested = graph.operators[name]
            yield nested
            yield from _nested_operators(graph, nested)


def _reads(operator: Operator, nested: Iterable[Operator]) -> Iterator[str]:
    for reader in (operator, *nested):
        if reader.type not in STACK_PUSHES:
            yield from (name for name in reader.operands if name is not None)
