"""Read the `.json` that Paddle 3 saves a PIR Program as, without Paddle.

The layout is that of `paddle/fluid/pir/serialize_deserialize` in Paddle 3.0 to 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias, TypeGuard

from graphtool.diagnostics import ReadError
from graphtool.garbage import collection_paused
from graphtool.graph import Attribute, Graph, Operator, Shape
from graphtool.readers import problems
from graphtool.readers._assembly import Assembly, ResultType
from graphtool.readers._bounds import LONGEST_PATH, ImpossibleShapeError, shape_of
from graphtool.readers._callstack import user_line

__all__ = ["read_json"]

# JSON text is untyped: what it holds is checked where it is taken out.
_Json: TypeAlias = Any

_NEWEST_VERSION = 4
_DIALECTS = {"0": "builtin", "1": "pd_op", "2": "cf", "3": "custom_op"}
_DTYPES = {
    "0.t_bool": "bool",
    "0.t_ui8": "uint8",
    "0.t_i8": "int8",
    "0.t_i16": "int16",
    "0.t_i32": "int32",
    "0.t_i64": "int64",
    "0.t_f16": "float16",
    "0.t_bf16": "bfloat16",
    "0.t_f32": "float32",
    "0.t_f64": "float64",
    "0.t_c64": "complex64",
    "0.t_c128": "complex128",
    "0.t_f8e4m3fn": "float8_e4m3fn",
    "0.t_f8e5m2": "float8_e5m2",
}
# The fields that are read. What else a file holds is listed in `Graph.unknown`, unless it is empty.
_FIELDS = {
    "file": frozenset({"base_code", "program"}),
    "base_code": frozenset({"magic", "trainable", "version"}),
    "program": frozenset({"regions"}),
    "region": frozenset({"#", "blocks"}),
    "block": frozenset({"#", "args", "ops"}),
    "operator": frozenset({"#", "A", "I", "O", "OA", "regions"}),
    "result attribute": frozenset({"persistable", "stop_gradient"}),
}
_NUMBER = itemgetter("%")
_NO_OPERAND = 0
_SCALARS = frozenset({bool, int, float, str})
_TEXT, _WHOLE = frozenset({str}), frozenset({int})
# Lists in lists of an attribute: Paddle writes one list, of plain values.
_DEEPEST = 16
# Numbers of Paddle have 64 bits, some no sign. To look at each takes time: only where one is long.
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * 19
_LONGEST, _NUMBERS = 20, 2**64
_LAYOUT_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@collection_paused()
def read_json(path: str, data: bytes) -> Graph:
    """Read a PIR program file.

    Raises ReadError where the bytes are not JSON, not a Paddle program, or of a version not known.
    """
    document = _parse(path, data)
    return _Walk(path).graph(document, _version(path, document))


def _parse(path: str, data: bytes) -> _Json:
    try:
        # A regular expression takes half as long as the parse.
        has_long = _LONG in data.translate(_DIGITS)
        return json.loads(data, parse_int=_number if has_long else None)
    except OverflowError as error:
        raise ReadError(problems.bad_program_json(path, str(error))) from None
    except ValueError as error:
        raise ReadError(problems.not_json(path, str(error))) from None


def _number(digits: str) -> int:
    if len(digits) > _LONGEST or not -_NUMBERS <= 2 * int(digits) < 2 * _NUMBERS:
        raise OverflowError(f"a number in the file has more than 64 bits: `{digits[:_LONGEST]}`")
    return int(digits)


def _version(path: str, document: _Json) -> str:
    base = document.get("base_code") if _is_object(document) else None
    if not _is_object(base) or base.get("magic") != "pir":
        raise ReadError(
            problems.bad_program_json(
                path, "this JSON is no Paddle program: it has no `base_code` with the magic `pir`"
            )
        )
    version: _Json = base.get("version")
    if type(version) is not int or version < 0:
        reason = f"the version of the format is `{json.dumps(version)}`; wanted a number from 0"
        raise ReadError(problems.bad_program_json(path, reason))
    if version > _NEWEST_VERSION:
        raise ReadError(problems.unknown_version(path, version, _NEWEST_VERSION))
    return str(version)


@dataclass
class _Walk:
    path: str
    assembly: Assembly = field(default_factory=lambda: Assembly(frozenset()))
    unknown: set[str] = field(default_factory=set[str])
    _types: dict[str, str] = field(default_factory=dict[str, str])
    _reading: _Json = None

    def graph(self, document: _Json, version: str) -> Graph:
        try:
            top = self._top(document)
            self.assembly = Assembly(frozenset(self._user_names(top)))
            self._reading = None
            self._block(top, path="", owner=None)
        except _LAYOUT_ERRORS as error:
            reason = _layout_problem(document, self._reading, error)
            raise ReadError(problems.bad_program_json(self.path, reason)) from None
        self._check_numbers()
        return self.assembly.graph(
            source=self.path, version=version, unknown=tuple(sorted(self.unknown))
        )

    def _top(self, document: _Json) -> _Json:
        program = document["program"]
        self._note("file", document)
        self._note("base_code", document["base_code"])
        self._note("program", program)
        (region,) = program["regions"]
        (block,) = self._blocks(region)
        return block

    def _blocks(self, region: _Json) -> list[_Json]:
        self._note("region", region)
        return region["blocks"]

    def _note(self, kind: str, fields: _Json) -> None:
        """Keep in mind which fields nobody reads, those that are there and empty left out."""
        for name in fields.keys() - _FIELDS[kind]:
            if fields[name]:
                self.unknown.add(f"{kind} field `{name}`")

    def _block(self, block: _Json, *, path: str, owner: str | None) -> None:
        self._note("block", block)
        arguments = [
            self.assembly.add_argument(argument["#"], _result_type(argument["TT"]), path, index)
            for index, argument in enumerate(block.get("args", ()))
        ]
        operators = [
            self._operator(op, path, index if owner is None else None)
            for index, op in enumerate(block["ops"])
        ]
        self.assembly.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _operator(self, op: _Json, block: str, index: int | None) -> Operator:
        self._reading = op
        if not op.keys() <= _FIELDS["operator"]:
            self._note("operator", op)
        if op["#"] == "p":
            return self._parameter(op, block, index)
        attributes = _attributes(op["A"])
        said = _attributes(op.get("OA", ()))
        if not said.keys() <= _FIELDS["result attribute"]:
            self._note("result attribute", said)
        regions = op.get("regions", ())
        inner = [block for region in regions for block in self._blocks(region)] if regions else []
        operator = self.assembly.add_operator(
            type=self._type(op["#"]),
            block=block,
            index=index,
            operands=self._operands(op),
            results=[(result["%"], _result_type(result.get("TT"))) for result in op["O"]],
            stop_gradient=_flags(said.get("stop_gradient")),
            persistable="persistable" in said and any(_flags(said["persistable"])),
            regions=len(inner),
            module=_text(attributes.pop("struct_name", None)),
            role=_whole(attributes.pop("op_role", 0)),
            source=_source(attributes.pop("op_callstack", None)),
            attributes=attributes,
        )
        if inner:
            self._inside(operator, inner)
        return operator

    def _inside(self, operator: Operator, blocks: list[_Json]) -> None:
        for path, content in zip(operator.blocks, blocks, strict=True):
            if len(path) > LONGEST_PATH:
                raise ReadError(problems.nested_too_deeply(self.path))
            self._block(content, path=path, owner=operator.name)

    def _operands(self, op: _Json) -> tuple[str | None, ...]:
        keys = self.assembly.keys
        numbers = list(map(_NUMBER, op["I"]))
        try:
            return tuple([None if n == _NO_OPERAND else keys[n] for n in numbers])
        except KeyError as error:
            missing = error.args[0]
            raise ReadError(
                problems.undefined_value(self.path, self._type(op["#"]), missing)
            ) from None

    def _check_numbers(self) -> None:
        """A number that is given twice leaves a Value that no number leads to."""
        values = self.assembly.values
        if len(self.assembly.keys) != len(values):
            lost = values.keys() - self.assembly.keys.values()
            first = next(name for name in values if name in lost)
            raise ReadError(problems.repeated_value(self.path, first))

    def _parameter(self, op: _Json, block: str, index: int | None) -> Operator:
        is_distributed, is_parameter, need_clip, name = op["A"]
        persistable, stop_gradient, trainable = op["OA"]
        if not isinstance(name, str):
            raise TypeError(name)
        return self.assembly.add_operator(
            type="builtin.parameter",
            block=block,
            index=index,
            operands=(),
            results=[(op["O"]["%"], _result_type(op["O"]["TT"]))],
            attributes={
                "parameter_name": name,
                "is_distributed": bool(is_distributed),
                "is_parameter": bool(is_parameter),
                "need_clip": bool(need_clip),
            },
            stop_gradient=(bool(stop_gradient),),
            persistable=bool(persistable),
            trainable=bool(trainable),
        )

    def _user_names(self, block: _Json) -> Iterator[str]:
        for op in block["ops"]:
            self._reading = op
            if op["#"] == "p":
                yield op["A"][3]
            elif op["#"] == "1.data":
                yield from (a["AT"]["D"] for a in op["A"] if a["N"] == "name")
            for region in op.get("regions", ()):
                for inner in region["blocks"]:
                    yield from self._user_names(inner)

    def _type(self, code: str) -> str:
        known = self._types.get(code)
        if known is None:
            known = self._types[code] = _type_name(code)
        return known


def _layout_problem(document: _Json, reading: _Json, error: Exception) -> str:
    place = _place(document, reading)
    if isinstance(error, KeyError):
        return f"{place} lacks `{error.args[0]}`"
    if isinstance(error, ImpossibleShapeError):
        return f"{place} makes a tensor that cannot be: it has {error}"
    return f"{place} is not laid out as Paddle lays it out"


def _place(document: _Json, reading: _Json) -> str:
    """Say which operator is meant, counted from 0 in the order of the file."""
    for index, op in enumerate(_operators(document.get("program"))):
        if op is reading:
            code = op.get("#") if _is_object(op) else None
            known = isinstance(code, str)
            return f"operator {index}, `{_type_name(code)}`," if known else f"operator {index}"
    return "the file"


def _operators(owner: _Json) -> Iterator[_Json]:
    """Yield the operators inside a program or operator, in pre-order, whatever is amiss there."""
    for region in _listed(owner, "regions"):
        for block in _listed(region, "blocks"):
            for op in _listed(block, "ops"):
                yield op
                yield from _operators(op)


def _listed(holder: _Json, key: str) -> list[_Json]:
    found = holder.get(key) if _is_object(holder) else None
    return found if _is_list(found) else []


def _type_name(code: str) -> str:
    if code == "p":
        return "builtin.parameter"
    dialect, _, name = code.partition(".")
    return f"{_DIALECTS.get(dialect, f'dialect{dialect}')}.{name}"


def _attributes(listed: _Json) -> dict[str, Attribute]:
    attributes = {attribute["N"]: _attribute(attribute["AT"]) for attribute in listed}
    if not _TEXT.issuperset(map(type, attributes)):
        raise TypeError(attributes)
    return attributes


def _attribute(typed: _Json, depth: int = 0) -> Attribute:
    if typed["#"] == "0.a_array":
        inner = depth + 1
        return tuple([_attribute(item, inner) for item in typed["D"]])
    data = typed.get("D")
    return data if type(data) in _SCALARS and depth <= _DEEPEST else _plain(data, depth)


def _plain(data: _Json, depth: int) -> Attribute:
    if depth > _DEEPEST:
        raise RecursionError
    if _is_list(data):
        return tuple([_plain(item, depth + 1) for item in data])
    if _is_object(data):
        return _attribute(data, depth + 1) if "#" in data else json.dumps(data, sort_keys=True)
    return data


def _result_type(typed: _Json) -> ResultType:
    if not _is_object(typed):
        return ResultType()
    if typed["#"] == "0.t_vec":
        members = [_result_type(member) for member in typed["D"]]
        return ResultType(elements=tuple((member.dtype, member.shape) for member in members))
    data = typed.get("D")
    if not _is_list(data) or len(data) < 2 or not _is_list(dims := data[1]):
        return ResultType()
    if not _WHOLE.issuperset(map(type, dims)):
        raise ImpossibleShapeError("a dim that is no whole number")
    return _tensor(data[0]["#"], tuple(dims))


@lru_cache(maxsize=4096)
def _tensor(code: str, dims: Shape) -> ResultType:
    return ResultType(shape=shape_of(dims), dtype=_DTYPES.get(code) or code)


def _is_list(data: _Json) -> TypeGuard[list[_Json]]:
    return isinstance(data, list)


def _is_object(data: _Json) -> TypeGuard[dict[str, _Json]]:
    return isinstance(data, dict)


def _source(callstack: Attribute) -> str | None:
    if not isinstance(callstack, tuple):
        return None
    return user_line([line for line in callstack if isinstance(line, str)])


def _flags(value: Attribute) -> tuple[bool, ...]:
    return tuple(map(bool, value)) if isinstance(value, tuple) else ()


def _text(value: Attribute) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Attribute) -> int:
    return value if isinstance(value, int) else 0
