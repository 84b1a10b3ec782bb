"""What a legacy teacher's description becomes: renamed, in test mode, without feeds and fetches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from graphtool.checks import MergePlan
from graphtool.graph import Graph
from graphtool.readers._paddle import load_paddle
from graphtool.readers._schema import program_message

__all__ = ["Adapted", "Link", "Naming", "merged_names"]

# Programs, their descriptions and protobuf messages have no static types.
_Paddle: TypeAlias = Any
_Message: TypeAlias = Any

# By AttrType.
_INT, _STRINGS, _BOOL, _BLOCK, _BLOCKS, _VARIABLE, _VARIABLES = 0, 5, 6, 8, 10, 13, 14
_LINKS = frozenset({_BLOCK, _BLOCKS, _VARIABLE, _VARIABLES})
_PORTS = frozenset({"feed", "fetch"})
_PORT_HOLDERS = frozenset({9, 10})  # by VarType
_ABSENT = frozenset({"", "@EMPTY@"})
_WRITE = re.compile(r"@\d+$")


@dataclass(frozen=True, slots=True)
class Naming:
    """What the teacher's Variables are called in the merged Program.

    `fed` are those that a student feed or shared parameter stands in for, `names` these and all
    that get a new name.
    `copied` goes from student feeds to teacher Variables that cannot be one Variable with them,
    for either program writes over it.
    """

    fed: Mapping[str, str]
    names: Mapping[str, str]
    prefix: str
    copied: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, plan: MergePlan, teacher: _Paddle, student: _Paddle) -> Naming:
        over = _overwritten(teacher)
        student_over = _overwritten(student)
        fed = {
            old: new
            for old, new in plan.stand_ins
            if (old, new) not in plan.feed_map or (old not in over and new not in student_over)
        }
        renames = dict(plan.renames)
        copied = tuple(
            (new, renames.get(old, plan.prefix + old))
            for old, new in plan.feed_map
            if old not in fed
        )
        return cls(fed, {**renames, **fed}, plan.prefix, copied)

    def __call__(self, variable: str) -> str:
        if variable in _ABSENT:
            return variable
        return self.names.get(variable, self.prefix + variable)


def _overwritten(program: _Paddle) -> set[str]:
    """Return what operators write, feed operators aside, and inner Blocks declare anew."""
    written = {
        name
        for block in program.blocks
        for op in block.ops
        if op.type not in _PORTS
        for name in op.desc.output_arg_names()
    }
    return written.union(*(block.vars for block in program.blocks[1:]))


@dataclass(frozen=True, slots=True)
class Link:
    """An attribute that leads to Blocks or Variables, which a copied operator has to be told."""

    op: int
    attribute: str
    many: bool
    blocks: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The teacher's description as it will stand in the student.

    `description` is Paddle's, `message` the same as protobuf, `links` by Block; `variables` goes
    from the teacher's Variables to their new names, `unfed` without those that are fed.
    """

    description: _Paddle
    message: _Message
    links: tuple[tuple[Link, ...], ...]
    variables: Mapping[str, str]
    unfed: Mapping[str, str]

    @classmethod
    def of(cls, program: _Paddle, naming: Naming) -> Adapted:
        message: _Message = program_message()()
        message.ParseFromString(program.desc.serialize_to_string())
        variables = {
            var.name: naming(var.name)
            for block in message.blocks
            for var in block.vars
            if var.type.type not in _PORT_HOLDERS
        }
        links = tuple(_adapt(block, naming, variables) for block in message.blocks)
        data = message.SerializeToString()
        return cls(
            description=load_paddle().base.core.ProgramDesc(data),
            message=message,
            links=links,
            variables=variables,
            unfed={old: new for old, new in variables.items() if old not in naming.fed},
        )


def _adapt(block: _Message, naming: Naming, variables: Mapping[str, str]) -> tuple[Link, ...]:
    """Rename what a Block names, take out feeds and fetches, and put it into test mode."""
    _drop(block.vars, [var.type.type in _PORT_HOLDERS for var in block.vars])
    _drop(block.ops, [op.type in _PORTS for op in block.ops])
    for var in block.vars:
        var.name = naming(var.name)
        var.stop_gradient = True
    links: list[Link] = []
    for index, op in enumerate(block.ops):
        for slot in (*op.inputs, *op.outputs):
            slot.arguments[:] = map(naming, slot.arguments)
        for attr in op.attrs:
            _adapt_attribute(attr, naming, variables)
            if attr.type in _LINKS:
                links += _links(index, attr)
        _test_mode(op)
    return tuple(links)


def _drop(messages: _Message, marks: list[bool]) -> None:
    for index in reversed(range(len(marks))):
        if marks[index]:
            del messages[index]


def _adapt_attribute(attr: _Message, naming: Naming, variables: Mapping[str, str]) -> None:
    kind = attr.type
    if kind == _INT and attr.name == "op_role":
        attr.i = 0
    elif kind == _STRINGS and attr.name == "op_role_var":
        del attr.strings[:]
    elif kind == _STRINGS and attr.name != "op_callstack":
        # Loops and branches list Variables by name: those to keep, the states of a recurrence.
        attr.strings[:] = [_renamed(text, variables) for text in attr.strings]
    elif kind == _VARIABLE:
        attr.var_name = naming(attr.var_name)
    elif kind == _VARIABLES:
        attr.vars_name[:] = map(naming, attr.vars_name)


def _renamed(text: bytes, variables: Mapping[str, str]) -> bytes:
    new = variables.get(text.decode(errors="replace"))
    return text if new is None else new.encode()


def _links(index: int, attr: _Message) -> Iterator[Link]:
    kind, name = attr.type, attr.name
    if kind == _BLOCK:
        yield Link(index, name, many=False, blocks=(attr.block_idx,))
    elif kind == _VARIABLE:
        yield Link(index, name, many=False, variables=(attr.var_name,))
    elif attr.blocks_idx or attr.vars_name:
        blocks, variables = tuple(attr.blocks_idx), tuple(attr.vars_name)
        yield Link(index, name, many=True, blocks=blocks, variables=variables)


def _test_mode(op: _Message) -> None:
    """Set every `is_test`, and unset the flag by which a batch norm would ignore it."""
    missing = set(_test_flags(op.type))
    for attr in op.attrs:
        if attr.name.endswith("is_test"):
            attr.b = True
            missing.discard(attr.name)
        elif attr.name == "trainable_statistics":
            attr.b = False
    for name in sorted(missing):
        op.attrs.add(name=name, type=_BOOL, b=True)


@cache
def _test_flags(type: str) -> tuple[str, ...]:
    """Return the names of the flags for test mode: old files leave out those that were unset."""
    protos = load_paddle().base.framework.OpProtoHolder.instance().op_proto_map
    if type not in protos:
        return ()
    return tuple(attr.name for attr in protos[type].attrs if attr.name.endswith("is_test"))


def merged_names(
    naming: Naming, variables: Mapping[str, str], teacher: Graph, student: Graph, blocks: int
) -> Iterator[tuple[str, str]]:
    """Yield the teacher's Values with their names in the merged Graph: `while_0/0/x@2`.

    `blocks` is how many Blocks the student has.
    """
    places = _places(teacher, student, blocks)
    for value in teacher.values:
        path, variable, write = _parts(value, variables, places)
        if variable in variables:
            yield value, f"{places[path]}{naming(variable)}{write}"


def _parts(
    value: str, variables: Mapping[str, str], places: Mapping[str, str]
) -> tuple[str, str, str]:
    """Split a Value's name into its Block's path, its Variable, and which write it is."""
    found = _WRITE.search(value)
    write = found.group() if found and value not in variables else ""
    name = value.removesuffix(write)
    path = "" if name in variables else next(_paths(name, places), "")
    return path, name.removeprefix(path), write


def _paths(name: str, places: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths of Blocks that a name may begin with, the longest first."""
    end = name.rfind("/")
    while end > 0:
        if name[: end + 1] in places:
            yield name[: end + 1]
        end = name.rfind("/", 0, end)


def _places(teacher: Graph, student: Graph, blocks: int) -> dict[str, str]:
    """Map the paths of the teacher's Blocks, with a `/` behind, to those in the merged Graph."""
    counts = Counter(operator.type for operator in student.operators.values() if not operator.block)
    places = {"": ""}
    for path in filter(None, teacher.blocks):
        first, slash, rest = path.partition("/")
        stem, _, number = first.rpartition("_")
        # A Block that no operator runs is called by its number among all.
        further = counts[stem] if slash else blocks - 1
        places[f"{path}/"] = f"{stem}_{int(number) + further}{slash}{rest}/"
    return places
