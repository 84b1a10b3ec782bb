"""Edits of a ProgramDesc that know its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any, TypeAlias

from graphtool.readers.program_desc import program_message
from tests.fuzzing.cases import Mutator
from tests.fuzzing.spoiling import dims, number, rearranged, text

# Protobuf builds the message classes at run time: their fields have no static types.
_Message: TypeAlias = Any


def _edited(edit: Callable[[Random, _Message], None]) -> Mutator:
    """Make a mutator of an edit that changes a ProgramDesc in place."""

    def mutate(random: Random, data: bytes) -> bytes:
        program = program_message()()
        program.ParseFromString(data)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            # There may be nothing to edit, or nothing more.
            with suppress(LookupError, ValueError):
                edit(random, program)
        return program.SerializeToString()

    return mutate


def _fitting(field: _Message, random: Random) -> object:
    """Return an odd value that a field can hold."""
    kind: int = field.type
    if kind == field.TYPE_BOOL:
        return random.random() < 0.5
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random.choice((0.0, -1.0, 1e30, float("inf"), float("nan")))
    if kind in (field.TYPE_INT32, field.TYPE_INT64):
        return _bounded(number(random), 31 if kind == field.TYPE_INT32 else 63)
    spoilt = text(random).encode("utf-8", "replace")
    if kind == field.TYPE_BYTES:
        return random.choice((spoilt, b"\xff\xfe"))
    return spoilt.decode()


def _bounded(number: int, bits: int) -> int:
    return max(-(2**bits), min(2**bits - 1, number))


def _messages(message: _Message) -> Iterator[_Message]:
    """Yield a message and all inside it."""
    waiting = [message]
    for outer in waiting:
        yield outer
        for field, content in outer.ListFields():
            if field.message_type is not None:
                waiting += content if field.is_repeated else [content]


def _fields(random: Random, program: _Message) -> None:
    """Set or clear any field of any message."""
    message = random.choice(list(_messages(program)))
    field = random.choice(message.DESCRIPTOR.fields)
    if random.random() < 0.3:
        message.ClearField(field.name)
    elif field.message_type is not None:
        held = getattr(message, field.name)
        held.add() if field.is_repeated else held.SetInParent()
    elif field.is_repeated:
        held = getattr(message, field.name)
        held.append(_fitting(field, random))
        if random.random() < 0.3:
            held.extend([_fitting(field, random)] * random.choice((2, 50, 3000)))
    else:
        setattr(message, field.name, _fitting(field, random))


def _lists(random: Random, program: _Message) -> None:
    """Take out of a repeated field, repeat in it, or exchange in it."""
    found = [
        getattr(message, field.name)
        for message in _messages(program)
        for field, _ in message.ListFields()
        if field.is_repeated
    ]
    held = random.choice(found)
    items = rearranged(random, deepcopy(list(held)))
    del held[:]
    held.extend(random.choice((items, items, items, items[: random.randrange(len(items) + 1)])))


def _operators(program: _Message) -> list[_Message]:
    return [op for block in program.blocks for op in block.ops]


def _blocks(random: Random, program: _Message) -> None:
    """Let Blocks be in themselves, in each other, or in none."""
    count = len(program.blocks)
    index = _bounded(random.choice((0, 1, count - 1, count, -1, number(random))), 31)
    way = random.randrange(5)
    block = random.choice(program.blocks)
    if way == 0:
        block.parent_idx = index
    elif way == 1:
        block.forward_block_idx = index
    elif way == 2:
        program.blocks.add().CopyFrom(random.choice(program.blocks))
    elif way == 3:
        attr = random.choice(_operators(program)).attrs.add()
        attr.name, attr.type, attr.block_idx = "sub_block", 8, index
    else:
        _chain(random, program)


def _chain(random: Random, program: _Message) -> None:
    """Nest Blocks in each other, up to deeper than Python follows."""
    for _ in range(random.choice((3, 100, 1500))):
        index = len(program.blocks)
        op = program.blocks[index - 1].ops.add()
        op.type = "while"
        attr = op.attrs.add()
        attr.name, attr.type, attr.block_idx = "sub_block", 8, index
        block = program.blocks.add()
        block.idx, block.parent_idx = index, index - 1


def _slots(random: Random, program: _Message) -> None:
    """Let Operators read and write other Variables: their own, ones of others, ones of nobody."""
    op = random.choice(_operators(program))
    slots = [slot for slot in (*op.inputs, *op.outputs) if slot.arguments]
    names = [var.name for block in program.blocks for var in block.vars]
    slot = random.choice(slots)
    at = random.randrange(len(slot.arguments))
    own = [name for other in slots for name in other.arguments]
    slot.arguments[at] = random.choice(
        (random.choice(names), random.choice(own), "nobody", "", "@EMPTY@", f"{names[0]}@2")
    )
    if random.random() < 0.3:
        slot.arguments.extend([random.choice(names)] * random.choice((1, 3, 500)))
    if random.random() < 0.2:
        slot.parameter = random.choice(("X", "Y", "Mean", "Out", ""))


def _variables(random: Random, program: _Message) -> None:
    """Change names, flags, types and dims of Variables."""
    declared = [var for block in program.blocks for var in block.vars]
    var = random.choice(declared)
    way = random.randrange(5)
    if way == 0:
        odd = text(random).encode("utf-8", "replace").decode()
        var.name = random.choice((random.choice(declared).name, f"{var.name}@2", odd))
    elif way == 1:
        flag = random.choice(("persistable", "need_check_feed", "is_parameter", "stop_gradient"))
        setattr(var, flag, not getattr(var, flag))
    elif way == 2:
        var.type.type = random.choice((*range(40), -1, 2**31 - 1))
    elif way == 3:
        var.type.dense_tensor.tensor.data_type = random.choice((*range(40), -1, 2**31 - 1))
    else:
        held = var.type.dense_tensor.tensor.dims
        spoilt = dims(random, list(held))
        del held[:]
        held.extend(_bounded(dim, 63) for dim in spoilt)


def _attributes(random: Random, program: _Message) -> None:
    """Change the type or content of an Operator's attribute."""
    attr = random.choice(random.choice(_operators(program)).attrs)
    set_fields = [field for field, _ in attr.ListFields() if field.name not in ("name", "type")]
    if random.random() < 0.3 or not set_fields:
        attr.type = random.choice((*range(20), -1, 2**31 - 1))
        return
    field = random.choice(set_fields)
    held = getattr(attr, field.name)
    if field.message_type is not None:
        attr.ClearField(field.name)
    elif not field.is_repeated:
        setattr(attr, field.name, _fitting(field, random))
    elif random.random() < 0.5:
        del held[: random.randrange(len(held)) + 1]
    else:
        held[random.randrange(len(held))] = _fitting(field, random)


def _wire(random: Random, data: bytes) -> bytes:
    """Add fields that nobody knows: of other wire types, nested groups, lengths beyond the end."""
    pieces = (
        b"\xf8\x07\x01",
        b"\xfa\x07\x02ab",
        b"\xfa\x07\xff\xff\xff\xff\x0f",
        b"\xfb\x07" * random.choice((3, 80, 5000)) + b"\xfc\x07",
        b"\xfb\x07" * 60 + b"\xfc\x07" * 60,
        b"\x0a\x00" * 2000,
        b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x22\x02\x08\x01",
        b"\x08" + b"\xff" * 12,
    )
    piece = random.choice(pieces)
    return random.choice((data + piece, piece + data))


_EDITS = (_fields, _lists, _blocks, _slots, _variables, _attributes)
PROTOBUF: Mapping[str, Mutator] = {
    **{edit.__name__[1:]: _edited(edit) for edit in _EDITS},
    "wire": _wire,
}
