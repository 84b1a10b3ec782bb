"""Fingerprint Values by what computes them, independent of names and of train or eval mode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import UNKNOWN_DIM, Attribute, Graph, Operator, Origin, ProgramKind, Shape
from graphtool.ops import kind_of

__all__ = [
    "Fingerprint",
    "fingerprint_text",
    "fingerprints",
    "name_digest",
    "parse_fingerprint",
    "program_fingerprint",
]

_DIM = r"(?:\?|[0-9]{1,19})"
_TEXT = re.compile(
    rf"(?P<kind>.*):(?P<shape>(?:{_DIM}(?:x{_DIM})*)?):(?P<ancestors>[0-9a-f]{{16}})"
    r"(?:@(?P<digest>[0-9a-f]{8}))?",
    re.DOTALL,
)

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


def fingerprint_text(fingerprint: Fingerprint, name: str) -> str:
    """Return a fingerprint as text, with a digest of the Value's name."""
    return f"{fingerprint}@{name_digest(name)}"


def parse_fingerprint(text: str) -> tuple[Fingerprint | None, str]:
    """Parse `fingerprint_text`: the fingerprint, None where it is not valid, and the digest."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None, ""
    dims = match["shape"].split("x") if match["shape"] else ()
    shape = tuple(UNKNOWN_DIM if dim == "?" else int(dim) for dim in dims)
    return Fingerprint(match["kind"], shape, match["ancestors"]), match["digest"] or ""


def name_digest(name: str) -> str:
    """Return a digest of a name, by which a recipe notices that the name was edited."""
    return _hash((name,), size=4)


def fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    """Return the fingerprint of every Value by name, in one pass over the Graph.

    Fingerprints don't depend on names, on the order of independent Operators, on train or eval
    mode, or on batch or input size; nor on PIR or legacy, for Operators that both kinds of program
    have. Values computed the same way from the same Values have equal fingerprints.
    """
    return graph.once(_fingerprints)


def program_fingerprint(graph: Graph) -> str:
    """Return a hash of the fingerprints of all forward results, independent of their order."""
    by_name = fingerprints(graph)
    ancestors = {
        by_name[name].ancestors
        for operator in graph.operators.values()
        if operator.role in _FORWARD_ROLES
        for name in operator.results[:1]
    }
    return _hash(sorted(ancestors))


def _fingerprints(graph: Graph) -> Mapping[str, Fingerprint]:
    return _Hasher(graph).run()


class _Hasher:
    """Hashes Values in program order; an Operator with Blocks after the results of its Blocks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[str, Fingerprint] = {}

    def run(self) -> Mapping[str, Fingerprint]:
        """Return the fingerprint of every Value."""
        for value in self.graph.values.values():
            if value.origin is Origin.FEED:
                # By its rank, since its size may change.
                number = "float" if value.dtype in FLOAT_DTYPES else str(value.dtype)
                rank = str(len(value.shape or ()))
                self._put(value.name, "feed", _hash(("feed", rank, number)))
            elif value.origin not in (Origin.OPERATOR, Origin.ARGUMENT):
                dims = map(str, value.shape or ())
                self._put(value.name, "parameter", _hash(("parameter", *dims)))
        entered: set[str] = set()
        for operator in self._owners_last():
            for path in (operator.block, *operator.blocks):
                if path not in entered:
                    entered.add(path)
                    self._enter(path)
            kind, ancestors = self._result(operator)
            for output, name in enumerate(operator.results):
                if name not in self.found:
                    own = _hash((ancestors, str(output))) if output else ancestors
                    self._put(name, kind, own)
            if operator.results and self._is_transparent(operator):
                self._put(operator.results[0], *self._of(operator.operands[0]))
        return self.found

    def _put(self, name: str, kind: str, ancestors: str) -> None:
        value = self.graph.values[name]
        shape = value.shape or ()
        without_batch = shape if value.origin is Origin.PARAMETER else shape[1:]
        self.found[name] = Fingerprint(kind, without_batch, ancestors)

    def _of(self, name: str | None) -> tuple[str, str]:
        """Return the kind and the ancestors of an operand."""
        found = None if name is None else self.found.get(name)
        return ("", "-") if found is None else (found.kind, found.ancestors)

    def _owners_last(self) -> list[Operator]:
        """List Operators in program order, the owner of Blocks after the Operators in them."""
        operators, blocks = self.graph.operators, self.graph.blocks
        # Backwards, owners first. A legacy program may hold Blocks that no Operator runs: they come
        # after the top-level one.
        unowned = [block for block in blocks.values() if block.owner is None]
        stack = [name for block in unowned for name in block.operators]
        backwards: list[Operator] = []
        while stack:
            operator = operators[stack.pop()]
            backwards.append(operator)
            for path in operator.blocks:
                if blocks[path].owner == operator.name:
                    stack += blocks[path].operators
        return backwards[::-1]

    def _enter(self, path: str) -> None:
        """Find the fingerprints of a Block's arguments, which depend on the owner's operands."""
        block = self.graph.blocks[path]
        if block.owner is not None:
            owner = self.graph.operators[block.owner]
            operands = _hash(self._of(name)[1] for name in owner.operands)
            for index, argument in enumerate(block.arguments):
                self._put(argument, "argument", _hash(("argument", str(index), operands)))

    def _result(self, operator: Operator) -> tuple[str, str]:
        """Return the kind and the ancestors of the first result.

        Ancestors are the Operator's kind, its attributes that decide the result, sorted, and those
        of its operands and of the results of its Blocks. A constant operand that is an attribute in
        the other kind of program counts as one.
        """
        kind = _kind(operator)
        if operator.type == "builtin.split" and operator.operands:
            return self._of(operator.operands[0])
        attributes: list[tuple[str, Attribute]] = []
        for written, value in operator.attributes.items():
            name = "perm" if kind == "transpose" and written == "axis" else written
            name = _ATTRIBUTE_ALIASES.get(name, name)
            if name in _HASHED_ATTRIBUTES and name not in _IGNORED_ATTRIBUTES.get(kind, ()):
                attributes.append((name, value))
        names = _OPERAND_ATTRIBUTES.get(kind_of(operator), ())
        constants = [self._constant(operand) for operand in operator.operands[1 : 1 + len(names)]]
        attributes += [x for x in zip(names, constants, strict=False) if x[1] is not None]
        texts = [(_text(value), f"{name}={_text(value)}") for name, value in attributes]
        given = sorted(text for value, text in texts if _DEFAULTS.isdisjoint((value, text)))
        operands = [
            self._of(name)[1]
            for position, name in enumerate(operator.operands[: _HASHED_OPERANDS.get(kind)])
            if not 0 < position <= len(constants) or constants[position - 1] is None
        ]
        if kind in _LIST_OPERATORS and self.graph.kind is ProgramKind.LEGACY:
            operands = [_hash(("combine", "", *operands))]
        for path in operator.blocks:
            operands += [self._of(name)[1] for name in self.graph.blocks[path].results]
        return kind, _hash((kind, *given, "", *operands))

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
            return self._of(operator.operands[0])[0] == "parameter"
        if kind == "cast":
            names = operator.operands[0], operator.results[0]
            return all(self.graph.values[name].dtype in FLOAT_DTYPES for name in names)
        return kind in _TRANSPARENT


def _kind(operator: Operator) -> str:
    kind = kind_of(operator)
    return _KIND_ALIASES.get(kind, kind)


def _text(value: Attribute) -> str:
    """Return the same text for a value however a program types it: `1`, `1.0`, `(1,)` are `1`."""
    if isinstance(value, tuple):
        items = [_text(item) for item in value]
        return items[0] if len(items) == 1 else f"({','.join(items)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _hash(parts: Iterable[str], size: int = 8) -> str:
    from hashlib import blake2b

    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=size).hexdigest()
