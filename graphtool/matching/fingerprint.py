"""Fingerprints: what a Value computes, whatever its name, and whether in train or eval mode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from graphtool.graph import (
    FLOATS,
    UNKNOWN,
    Attribute,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
    dims_agree,
)
from graphtool.structure import kind_of

__all__ = ["Fingerprint", "fingerprints", "program_fingerprint"]

_TEXT = re.compile(r"(?P<kind>.*):(?P<shape>[0-9?x]*):(?P<ancestors>[0-9a-f]{16})", re.DOTALL)

# What training adds, drops or switches, or what only moves data: the Value is as it was before.
_PASSED_OVER = frozenset({"dropout", "assign", "share_data", "memcpy", "identity_loss"})
# How many operands count; the further ones are sizes, which change with the input's, or statistics.
_COUNTED_OPERANDS = {
    "batch_norm": 1,
    "bicubic_interp": 1,
    "bilinear_interp": 1,
    "conv2d_transpose": 2,
    "conv3d_transpose": 2,
    "expand": 1,
    "linear_interp": 1,
    "nearest_interp": 1,
    "reshape": 1,
    "slice": 1,
    "strided_slice": 1,
    "tile": 1,
}
# PIR puts a list into one operand, legacy programs have several.
_OF_LISTS = frozenset({"concat", "stack"})
_KINDS = {"split_with_num": "split", "arg_max": "argmax", "top_k": "topk"}
# What PIR has as operands, from the second on, and legacy programs as attributes.
_OPERAND_ATTRIBUTES = {
    "argmax": ("axis",),
    "clip": ("min", "max"),
    "concat": ("axis",),
    "max": ("dim",),
    "mean": ("dim",),
    "min": ("dim",),
    "pool2d": ("ksize",),
    "prod": ("dim",),
    "scale": ("scale",),
    "slice": ("starts",),
    "split": ("sections", "axis"),
    "split_with_num": ("axis",),
    "squeeze": ("axes",),
    "sum": ("dim",),
    "topk": ("k",),
    "unsqueeze": ("axes",),
}
# What decides what is computed. Modes, workspaces and sizes that follow the input's are left out.
_ATTRIBUTES = frozenset(
    {
        "adaptive",
        "align_corners",
        "align_mode",
        "alpha",
        "approximate",
        "axes",
        "axis",
        "begin_norm_axis",
        "bias",
        "bias_after_scale",
        "ceil_mode",
        "data_format",
        "dilations",
        "dim",
        "epsilon",
        "exclusive",
        "factor",
        "global_pooling",
        "groups",
        "interp_method",
        "k",
        "keepdim",
        "ksize",
        "max",
        "min",
        "num",
        "offset",
        "padding_algorithm",
        "paddings",
        "perm",
        "pooling_type",
        "scale",
        "sections",
        "slope",
        "start_axis",
        "starts",
        "stop_axis",
        "strides",
        "transpose_x",
        "transpose_y",
        "upscale_factor",
        "value",
    }
)
_SPELLINGS = {
    "data_layout": "data_format",
    "keep_dim": "keepdim",
    "negative_slope": "alpha",
    "trans_x": "transpose_x",
    "trans_y": "transpose_y",
    "transpose_X": "transpose_x",
    "transpose_Y": "transpose_y",
}
# Attributes that only one kind of program has for these, where it says nothing or says it by
# another name.
_LEFT_OUT = {
    "add": frozenset({"axis"}),
    "divide": frozenset({"axis"}),
    "hardswish": frozenset({"offset", "scale"}),
    "multiply": frozenset({"axis"}),
    "subtract": frozenset({"axis"}),
}
_UNSAID = frozenset({"False", "None", "", "()", "NCHW", "AnyLayout", "num=0"})
_CONSTANTS = frozenset({"full", "full_int_array"})
_FORWARD_ROLES = frozenset({0, 256})


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes a Value: its Operator's kind, its shape without the batch, a hash over ancestors.

    Its text is `relu:512x7x7:8c2f19d0e4a7b356`, with `?` for a dim that is unknown.
    """

    kind: str
    shape: Shape
    ancestors: str

    def __str__(self) -> str:
        shape = "x".join("?" if dim == UNKNOWN else str(dim) for dim in self.shape)
        return f"{self.kind}:{shape}:{self.ancestors}"

    @classmethod
    def parse(cls, text: str) -> Fingerprint | None:
        """Read what `str` wrote; None where the text is no fingerprint."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        dims = match["shape"].split("x") if match["shape"] else []
        if not all(dim == "?" or 0 < len(dim) < 20 for dim in dims):
            return None
        shape = tuple(UNKNOWN if dim == "?" else int(dim) for dim in dims)
        return cls(match["kind"], shape, match["ancestors"])

    def has_shape_of(self, other: Fingerprint) -> bool:
        """Tell whether the shapes may be equal, batch and unknown dims left out."""
        return len(self.shape) == len(other.shape) and all(map(dims_agree, self.shape, other.shape))


def fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    """Return the fingerprint of every Value by name, in one pass over the Graph.

    They don't depend on names, on the order in which independent Operators stand, on train or eval
    mode, on batch or input size, nor, for Operators that both spell, on whether the program is PIR
    or legacy. Values that are computed alike from the same Values have the same one.
    """
    return graph.once(_fingerprints)


def _fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    walk = _Walk(graph)
    walk.run()
    values = graph.values
    return {
        name: Fingerprint(mark.kind, _without_batch(values[name]), mark.ancestors)
        for name, mark in walk.marks.items()
    }


def program_fingerprint(graph: Graph, marks: Mapping[str, Fingerprint]) -> str:
    """Return one hash over the fingerprints of all forward results, in whatever order."""
    found = {
        marks[name].ancestors
        for operator in graph.operators.values()
        if operator.role in _FORWARD_ROLES
        for name in operator.results[:1]
    }
    return _hash(sorted(found))


@dataclass(frozen=True, slots=True)
class _Mark:
    kind: str
    ancestors: str


_NOTHING = _Mark("", "-")


@dataclass
class _Walk:
    """Marks Values in program order; the owner of Blocks after what its Blocks hand back."""

    graph: Graph
    marks: dict[str, _Mark] = field(default_factory=dict[str, _Mark])

    def run(self) -> None:
        for value in self.graph.values.values():
            if value.origin not in (Origin.OPERATOR, Origin.ARGUMENT):
                self.marks[value.name] = _source(value)
        for operator in self._owners_last():
            first = self._first_result(operator)
            for output, name in enumerate(operator.results):
                self.marks.setdefault(name, _result(first, output))
            if operator.results and self._is_passed_over(operator):
                self.marks[operator.results[0]] = self._mark_of(operator.operands[0])

    def _owners_last(self) -> Iterator[Operator]:
        """Yield Operators in program order, an owner after the Operators of its Blocks."""
        blocks = self.graph.blocks
        # A legacy program may hold Blocks that no Operator runs: they come after the top-level one.
        unowned = [path for path, block in blocks.items() if block.owner is None]
        entered = set(unowned)
        waiting: list[Iterator[str] | Operator]
        waiting = [iter(blocks[path].operators) for path in reversed(unowned)]
        while waiting:
            work = waiting[-1]
            name = None if isinstance(work, Operator) else next(work, None)
            if name is None:
                waiting.pop()
                if isinstance(work, Operator):
                    yield work
                continue
            operator = self.graph.operators[name]
            waiting.append(operator)
            for path in reversed(operator.blocks):
                if path not in entered:
                    entered.add(path)
                    self._hand_in(operator, path)
                    waiting.append(iter(blocks[path].operators))

    def _hand_in(self, owner: Operator, path: str) -> None:
        handed = _hash(self._mark_of(name).ancestors for name in owner.operands)
        for index, name in enumerate(self.graph.blocks[path].arguments):
            self.marks[name] = _Mark("argument", _hash(("argument", str(index), handed)))

    def _first_result(self, operator: Operator) -> _Mark:
        """Return the mark of an Operator's first result."""
        kind = _kind(operator)
        if operator.type == "builtin.split" and operator.operands:
            return self._mark_of(operator.operands[0])
        handed_back = [
            self._mark_of(name).ancestors
            for path in operator.blocks
            for name in self.graph.blocks[path].results
        ]
        attributes = sorted(self._attributes(kind, operator))
        return _Mark(
            kind, _hash((kind, *attributes, "", *self._operands(kind, operator), *handed_back))
        )

    def _operands(self, kind: str, operator: Operator) -> Iterator[str]:
        operands = operator.operands[: _COUNTED_OPERANDS.get(kind)]
        known = len(_attribute_operands(operator))
        marks = [
            self._mark_of(name).ancestors
            for position, name in enumerate(operands)
            if not 0 < position <= known or self._constant(name) is None
        ]
        if kind in _OF_LISTS and self.graph.kind is ProgramKind.LEGACY:
            marks = [_hash(("combine", "", *marks))]
        yield from marks

    def _attributes(self, kind: str, operator: Operator) -> Iterator[str]:
        left_out = _LEFT_OUT.get(kind, frozenset[str]())
        for written, value in operator.attributes.items():
            name = "perm" if kind == "transpose" and written == "axis" else written
            name = _SPELLINGS.get(name, name)
            if name in _ATTRIBUTES and name not in left_out:
                yield from _said(name, value)
        for name, operand in zip(
            _attribute_operands(operator), operator.operands[1:], strict=False
        ):
            constant = self._constant(operand)
            if constant is not None:
                yield from _said(name, constant)

    def _constant(self, name: str | None) -> Attribute:
        """Return what a constant Value holds, None for any other."""
        maker = None if name is None else self.graph.producer(name)
        if maker is None or _kind(maker) not in _CONSTANTS:
            return None
        return maker.attributes.get("value")

    def _is_passed_over(self, operator: Operator) -> bool:
        if not operator.operands or operator.operands[0] is None:
            return False
        kind = _kind(operator)
        if kind == "reshape":
            return self._mark_of(operator.operands[0]).kind == "parameter"
        if kind == "cast":
            names = operator.operands[0], operator.results[0]
            return all(self.graph.values[name].dtype in FLOATS for name in names)
        return kind in _PASSED_OVER

    def _mark_of(self, name: str | None) -> _Mark:
        return _NOTHING if name is None else self.marks.get(name, _NOTHING)


def _kind(operator: Operator) -> str:
    kind = kind_of(operator)
    return _KINDS.get(kind, kind)


def _attribute_operands(operator: Operator) -> tuple[str, ...]:
    return _OPERAND_ATTRIBUTES.get(kind_of(operator), ())


def _result(first: _Mark, output: int) -> _Mark:
    return first if output == 0 else _Mark(first.kind, _hash((first.ancestors, str(output))))


def _source(value: Value) -> _Mark:
    """Mark a feed by its rank, since its sizes may change, and all storage by its shape."""
    if value.origin is Origin.FEED:
        rank = len(value.shape or ())
        number = "float" if value.dtype in FLOATS else str(value.dtype)
        return _Mark("feed", _hash(("feed", str(rank), number)))
    return _Mark("parameter", _hash(("parameter", *map(str, value.shape or ()))))


def _said(name: str, value: Attribute) -> Iterator[str]:
    """Yield an attribute as text, unless it says what goes without saying."""
    text = _text(value)
    said = f"{name}={text}"
    if text not in _UNSAID and said not in _UNSAID:
        yield said


def _text(value: Attribute) -> str:
    """Write a value the same however a program types it: `1`, `1.0` and `(1,)` are `1`."""
    if isinstance(value, tuple):
        items = [_text(item) for item in value]
        return items[0] if len(items) == 1 else f"({','.join(items)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _without_batch(value: Value) -> Shape:
    shape = value.shape or ()
    return shape if value.origin is Origin.PARAMETER else shape[1:]


def _hash(parts: Iterable[str]) -> str:
    from hashlib import blake2b

    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).hexdigest()
