"""Fingerprint Values by what computes them, independent of names and of train or eval mode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import (
    UNKNOWN_DIM,
    Attribute,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
    dims_agree,
)
from graphtool.ops import kind_of

__all__ = ["Fingerprint", "fingerprints", "program_fingerprint"]

_TEXT = re.compile(r"(?P<kind>.*):(?P<shape>[0-9?x]*):(?P<ancestors>[0-9a-f]{16})", re.DOTALL)

# Identities in eval mode, or data movement: the result has the fingerprint of the operand.
_TRANSPARENT = frozenset({"dropout", "assign", "share_data", "memcpy", "identity_loss"})
# How many operands are hashed; the others are sizes, which change with the input's, or statistics.
_HASHED_OPERANDS = {
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
# In PIR these have one list operand, in legacy programs several operands.
_LIST_OPERATORS = frozenset({"concat", "stack"})
_KIND_ALIASES = {"split_with_num": "split", "arg_max": "argmax", "top_k": "topk"}
# Attributes of legacy programs that are operands in PIR, from the second on.
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
# Attributes that decide the result: no modes, workspaces, or sizes that follow the input's.
_HASHED_ATTRIBUTES = frozenset(
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
_ATTRIBUTE_ALIASES = {
    "data_layout": "data_format",
    "keep_dim": "keepdim",
    "negative_slope": "alpha",
    "trans_x": "transpose_x",
    "trans_y": "transpose_y",
    "transpose_X": "transpose_x",
    "transpose_Y": "transpose_y",
}
# Attributes that these have in one kind of program only, without meaning or under another name.
_IGNORED_ATTRIBUTES = {
    "add": frozenset({"axis"}),
    "divide": frozenset({"axis"}),
    "hardswish": frozenset({"offset", "scale"}),
    "multiply": frozenset({"axis"}),
    "subtract": frozenset({"axis"}),
}
_DEFAULTS = frozenset({"False", "None", "", "()", "NCHW", "AnyLayout", "num=0"})
_CONSTANTS = frozenset({"full", "full_int_array"})
_FORWARD_ROLES = frozenset({0, 256})


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The Operator kind of a Value, its shape without the batch, and a hash of its ancestors.

    Its text is `relu:512x7x7:8c2f19d0e4a7b356`, with `?` for an unknown dim.
    """

    kind: str
    shape: Shape
    ancestors: str

    def __str__(self) -> str:
        shape = "x".join("?" if dim == UNKNOWN_DIM else str(dim) for dim in self.shape)
        return f"{self.kind}:{shape}:{self.ancestors}"

    @classmethod
    def parse(cls, text: str) -> Fingerprint | None:
        """Parse the text of a fingerprint; return None where it is not valid."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        dims = match["shape"].split("x") if match["shape"] else []
        if not all(dim == "?" or 0 < len(dim) < 20 for dim in dims):
            return None
        shape = tuple(UNKNOWN_DIM if dim == "?" else int(dim) for dim in dims)
        return cls(match["kind"], shape, match["ancestors"])

    def has_shape_of(self, other: Fingerprint) -> bool:
        """Return whether the shapes may be equal, unknown dims ignored."""
        return len(self.shape) == len(other.shape) and all(map(dims_agree, self.shape, other.shape))


def fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    """Return the fingerprint of every Value by name, in one pass over the Graph.

    Fingerprints don't depend on names, on the order of independent Operators, on train or eval
    mode, or on batch or input size; nor on PIR or legacy, for Operators that both kinds of program
    have. Values computed the same way from the same Values have equal fingerprints.
    """
    return graph.once(_fingerprints)


def _fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    hasher = _Hasher(graph)
    hasher.run()
    found: dict[str, Fingerprint] = {}
    for name, history in hasher.histories.items():
        value = graph.values[name]
        shape = value.shape or ()
        without_batch = shape if value.origin is Origin.PARAMETER else shape[1:]
        found[name] = Fingerprint(history.kind, without_batch, history.ancestors)
    return found


def program_fingerprint(graph: Graph, by_name: Mapping[str, Fingerprint]) -> str:
    """Return a hash of the fingerprints of all forward results, independent of their order."""
    ancestors = {
        by_name[name].ancestors
        for operator in graph.operators.values()
        if operator.role in _FORWARD_ROLES
        for name in operator.results[:1]
    }
    return _hash(sorted(ancestors))


@dataclass(frozen=True, slots=True)
class _History:
    """A Fingerprint without the shape."""

    kind: str
    ancestors: str


_NOTHING = _History("", "-")


@dataclass
class _Hasher:
    """Hashes Values in program order; an Operator with Blocks after the results of its Blocks."""

    graph: Graph
    histories: dict[str, _History] = field(default_factory=dict[str, _History])

    def run(self) -> None:
        for value in self.graph.values.values():
            if value.origin not in (Origin.OPERATOR, Origin.ARGUMENT):
                self.histories[value.name] = _source(value)
        for operator in self._owners_last():
            first = self._first_result(operator)
            for output, name in enumerate(operator.results):
                history = first
                if output:
                    history = _History(first.kind, _hash((first.ancestors, str(output))))
                self.histories.setdefault(name, history)
            if operator.results and self._is_transparent(operator):
                self.histories[operator.results[0]] = self._history(operator.operands[0])

    def _owners_last(self) -> Iterator[Operator]:
        """Yield Operators in program order, the owner of Blocks after the Operators in them."""
        blocks = self.graph.blocks
        # A legacy program may hold Blocks that no Operator runs: they come after the top-level one.
        unowned = [path for path, block in blocks.items() if block.owner is None]
        entered = set(unowned)
        stack: list[Iterator[str] | Operator]
        stack = [iter(blocks[path].operators) for path in reversed(unowned)]
        while stack:
            top = stack[-1]
            name = None if isinstance(top, Operator) else next(top, None)
            if name is None:
                stack.pop()
                if isinstance(top, Operator):
                    yield top
                continue
            operator = self.graph.operators[name]
            stack.append(operator)
            for path in reversed(operator.blocks):
                if path not in entered:
                    entered.add(path)
                    self._hash_arguments(operator, path)
                    stack.append(iter(blocks[path].operators))

    def _hash_arguments(self, owner: Operator, path: str) -> None:
        operands = _hash(self._history(name).ancestors for name in owner.operands)
        for index, name in enumerate(self.graph.blocks[path].arguments):
            ancestors = _hash(("argument", str(index), operands))
            self.histories[name] = _History("argument", ancestors)

    def _first_result(self, operator: Operator) -> _History:
        kind = _kind(operator)
        if operator.type == "builtin.split" and operator.operands:
            return self._history(operator.operands[0])
        block_results = [
            self._history(name).ancestors
            for path in operator.blocks
            for name in self.graph.blocks[path].results
        ]
        attributes = sorted(self._attributes(kind, operator))
        operands = self._operands(kind, operator)
        return _History(kind, _hash((kind, *attributes, "", *operands, *block_results)))

    def _operands(self, kind: str, operator: Operator) -> list[str]:
        """Return the hashes of the operands, without constants that are attributes elsewhere."""
        as_attributes = len(_attribute_operands(operator))
        ancestors = [
            self._history(name).ancestors
            for position, name in enumerate(operator.operands[: _HASHED_OPERANDS.get(kind)])
            if not 0 < position <= as_attributes or self._constant(name) is None
        ]
        if kind in _LIST_OPERATORS and self.graph.kind is ProgramKind.LEGACY:
            return [_hash(("combine", "", *ancestors))]
        return ancestors

    def _attributes(self, kind: str, operator: Operator) -> Iterator[str]:
        ignored = _IGNORED_ATTRIBUTES.get(kind, frozenset[str]())
        for written, value in operator.attributes.items():
            name = "perm" if kind == "transpose" and written == "axis" else written
            name = _ATTRIBUTE_ALIASES.get(name, name)
            if name in _HASHED_ATTRIBUTES and name not in ignored:
                yield from _unless_default(name, value)
        for name, operand in zip(
            _attribute_operands(operator), operator.operands[1:], strict=False
        ):
            constant = self._constant(operand)
            if constant is not None:
                yield from _unless_default(name, constant)

    def _constant(self, name: str | None) -> Attribute:
        """Return the value of a constant, None for any other Value."""
        maker = None if name is None else self.graph.producer(name)
        if maker is None or _kind(maker) not in _CONSTANTS:
            return None
        return maker.attributes.get("value")

    def _is_transparent(self, operator: Operator) -> bool:
        """Return whether the result has the fingerprint of the first operand."""
        if not operator.operands or operator.operands[0] is None:
            return False
        kind = _kind(operator)
        if kind == "reshape":
            return self._history(operator.operands[0]).kind == "parameter"
        if kind == "cast":
            names = operator.operands[0], operator.results[0]
            return all(self.graph.values[name].dtype in FLOAT_DTYPES for name in names)
        return kind in _TRANSPARENT

    def _history(self, name: str | None) -> _History:
        return _NOTHING if name is None else self.histories.get(name, _NOTHING)


def _kind(operator: Operator) -> str:
    kind = kind_of(operator)
    return _KIND_ALIASES.get(kind, kind)


def _attribute_operands(operator: Operator) -> tuple[str, ...]:
    return _OPERAND_ATTRIBUTES.get(kind_of(operator), ())


def _source(value: Value) -> _History:
    """Hash a feed by its rank, since its size may change, and a parameter by its shape."""
    if value.origin is Origin.FEED:
        rank = len(value.shape or ())
        number = "float" if value.dtype in FLOAT_DTYPES else str(value.dtype)
        return _History("feed", _hash(("feed", str(rank), number)))
    return _History("parameter", _hash(("parameter", *map(str, value.shape or ()))))


def _unless_default(name: str, value: Attribute) -> Iterator[str]:
    """Yield an attribute as text, unless it has a default value."""
    text = _text(value)
    attribute = f"{name}={text}"
    if text not in _DEFAULTS and attribute not in _DEFAULTS:
        yield attribute


def _text(value: Attribute) -> str:
    """Return the same text for a value however a program types it: `1`, `1.0`, `(1,)` are `1`."""
    if isinstance(value, tuple):
        items = [_text(item) for item in value]
        return items[0] if len(items) == 1 else f"({','.join(items)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _hash(parts: Iterable[str]) -> str:
    from hashlib import blake2b

    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).hexdigest()
