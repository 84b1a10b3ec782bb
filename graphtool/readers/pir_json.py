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
from graphtool.dtypes import BY_JSON_CODE
from graphtool.graph import Attribute, Graph, Operator, Shape, collection_paused
from graphtool.readers import problems
from graphtool.readers.graph_builder import (
    MAX_PATH_LENGTH,
    GraphBuilder,
    ImpossibleShapeError,
    ResultType,
    checked_shape,
    int_or_zero,
    str_or_none,
    user_line,
)

__all__ = ["read_json"]

# JSON is untyped: its content is checked where it is used.
_Json: TypeAlias = Any

_NEWEST_VERSION = 4
_DIALECTS = {"0": "builtin", "1": "pd_op", "2": "cf", "3": "custom_op"}
# The fields that are read. Other non-empty ones are listed in `Graph.unknown`.
_FIELDS = {
    "file": frozenset({"base_code", "program"}),
    "base_code": frozenset({"magic", "trainable", "version"}),
    "program": frozenset({"regions"}),
    "region": frozenset({"#", "blocks"}),
    "block": frozenset({"#", "args", "ops"}),
    "operator": frozenset({"#", "A", "I", "O", "OA", "regions"}),
    "result attribute": frozenset({"persistable", "stop_gradient"}),
}
_VALUE_ID = itemgetter("%")
_NO_OPERAND = 0
_SCALARS = frozenset({bool, int, float, str})
_STR, _INT = frozenset({str}), frozenset({int})
# Nested lists in an attribute: Paddle writes one list of plain values.
_MAX_DEPTH = 16
# Paddle's integers have 64 bits, signed or not. They are checked only if the file has a long one,
# as checking all takes time.
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * 19
_MAX_DIGITS, _UINT64_LIMIT = 20, 2**64
_LAYOUT_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@collection_paused()
def read_json(path: str, data: bytes) -> Graph:
    """Read a PIR program file.

    Raises ReadError if the bytes are not JSON, not a Paddle program, or of an unknown version.
    """
    document = _parse(path, data)
    return _JsonReader(path).graph(document, _version(path, document))


def _parse(path: str, data: bytes) -> _Json:
    try:
        # A regular expression would take half as long as the parse.
        has_long = _LONG in data.translate(_AS_ZEROS)
        return json.loads(data, parse_int=_checked_int if has_long else None)
    except OverflowError as error:
        raise ReadError(problems.damaged_model(path, str(error))) from None
    except ValueError as error:
        raise ReadError(problems.damaged_model(path, f"the text is not JSON: {error}")) from None


def _checked_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS or not -_UINT64_LIMIT <= 2 * int(digits) < 2 * _UINT64_LIMIT:
        raise OverflowError(f"a number in the file has more than 64 bits: `{digits[:_MAX_DIGITS]}`")
    return int(digits)


def _version(path: str, document: _Json) -> str:
    base = document.get("base_code") if _is_object(document) else None
    if not _is_object(base) or base.get("magic") != "pir":
        reason = "this JSON is not a Paddle program: it has no `base_code` with the magic `pir`"
        raise ReadError(problems.damaged_model(path, reason, help=None))
    version: _Json = base.get("version")
    if type(version) is not int or version < 0:
        reason = f"the version of the format is `{json.dumps(version)}`; wanted a number from 0"
        raise ReadError(problems.damaged_model(path, reason, help=None))
    if version > _NEWEST_VERSION:
        known = f"this graphtool knows 0 to {_NEWEST_VERSION}"
        message = f"the file is of PIR format version {version}; {known}"
        raise ReadError(problems.unknown_version(path, message))
    return str(version)


@dataclass
class _JsonReader:
    path: str
    builder: GraphBuilder = field(default_factory=lambda: GraphBuilder(frozenset()))
    unknown: set[str] = field(default_factory=set[str])
    # The operator being read, for error messages, and its index in the order of the file.
    _current: _Json = None
    _index: int = -1

    def graph(self, document: _Json, version: str) -> Graph:
        try:
            top = self._top_block(document)
            self.builder = GraphBuilder(frozenset(self._user_names(top)))
            self._current, self._index = None, -1
            self._read_block(top, path="", owner=None)
        except _LAYOUT_ERRORS as error:
            place = self._position()
            if isinstance(error, KeyError):
                reason = f"{place} lacks `{error.args[0]}`"
            elif isinstance(error, ImpossibleShapeError):
                reason = f"{place} makes an impossible tensor: it has {error}"
            else:
                reason = f"{place} does not have the layout that Paddle writes"
            raise ReadError(problems.damaged_model(self.path, reason)) from None
        self._check_ids()
        return self.builder.graph(
            source=self.path, version=version, unknown=tuple(sorted(self.unknown))
        )

    def _position(self) -> str:
        """Return the index and type of the operator being read."""
        if self._index < 0:
            return "the file"
        code: _Json = self._current.get("#") if _is_object(self._current) else None
        named = f", `{_type_name(code)}`," if isinstance(code, str) else ""
        return f"operator {self._index}{named}"

    def _top_block(self, document: _Json) -> _Json:
        program = document["program"]
        self._collect_unknown("file", document)
        self._collect_unknown("base_code", document["base_code"])
        self._collect_unknown("program", program)
        (region,) = program["regions"]
        (block,) = self._blocks(region)
        return block

    def _blocks(self, region: _Json) -> list[_Json]:
        self._collect_unknown("region", region)
        return region["blocks"]

    def _collect_unknown(self, kind: str, fields: _Json) -> None:
        for name in fields.keys() - _FIELDS[kind]:
            if fields[name]:
                self.unknown.add(f"{kind} field `{name}`")

    def _read_block(self, block: _Json, *, path: str, owner: str | None) -> None:
        self._collect_unknown("block", block)
        arguments = [
            self.builder.add_argument(argument["#"], _result_type(argument["TT"]), path, index)
            for index, argument in enumerate(block.get("args", ()))
        ]
        operators = [
            self._read_operator(op, path, index if owner is None else None)
            for index, op in enumerate(block["ops"])
        ]
        self.builder.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _read_operator(self, op: _Json, block: str, index: int | None) -> Operator:
        self._current, self._index = op, self._index + 1
        if not op.keys() <= _FIELDS["operator"]:
            self._collect_unknown("operator", op)
        if op["#"] == "p":
            return self._read_parameter(op, block, index)
        attributes = _attributes(op["A"])
        result_attributes = _attributes(op.get("OA", ()))
        if not result_attributes.keys() <= _FIELDS["result attribute"]:
            self._collect_unknown("result attribute", result_attributes)
        regions = op.get("regions", ())
        inner = [block for region in regions for block in self._blocks(region)] if regions else []
        operator = self.builder.add_operator(
            type=_type_name(op["#"]),
            block=block,
            index=index,
            operands=self._operands(op),
            results=[(result["%"], _result_type(result.get("TT"))) for result in op["O"]],
            stop_gradient=_flags(result_attributes.get("stop_gradient")),
            persistable="persistable" in result_attributes
            and any(_flags(result_attributes["persistable"])),
            regions=len(inner),
            module=str_or_none(attributes.pop("struct_name", None)),
            role=int_or_zero(attributes.pop("op_role", 0)),
            source=_source(attributes.pop("op_callstack", None)),
            attributes=attributes,
        )
        for path, content in zip(operator.blocks, inner, strict=True):
            if len(path) > MAX_PATH_LENGTH:
                raise ReadError(problems.damaged_model(self.path, problems.TOO_DEEP))
            self._read_block(content, path=path, owner=operator.name)
        return operator

    def _operands(self, op: _Json) -> tuple[str | None, ...]:
        keys = self.builder.keys
        ids = list(map(_VALUE_ID, op["I"]))
        try:
            return tuple([None if n == _NO_OPERAND else keys[n] for n in ids])
        except KeyError as error:
            operator, missing = _type_name(op["#"]), error.args[0]
            reason = f"operator `{operator}` reads value {missing}, which nothing before it makes"
            raise ReadError(problems.damaged_model(self.path, reason)) from None

    def _check_ids(self) -> None:
        """Check that no id is given twice: the first Value of that id is in no key then."""
        values = self.builder.values
        if len(self.builder.keys) != len(values):
            unreachable = values.keys() - self.builder.keys.values()
            first = next(name for name in values if name in unreachable)
            reason = f"the number of value `{first}` is used twice"
            raise ReadError(problems.damaged_model(self.path, reason))

    def _read_parameter(self, op: _Json, block: str, index: int | None) -> Operator:
        is_distributed, is_parameter, need_clip, name = op["A"]
        persistable, stop_gradient, trainable = op["OA"]
        if not isinstance(name, str):
            raise TypeError(name)
        return self.builder.add_operator(
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
            self._current, self._index = op, self._index + 1
            if op["#"] == "p":
                yield op["A"][3]
            elif op["#"] == "1.data":
                yield from (a["AT"]["D"] for a in op["A"] if a["N"] == "name")
            for region in op.get("regions", ()):
                for inner in region["blocks"]:
                    yield from self._user_names(inner)


@lru_cache(maxsize=4096)
def _type_name(code: str) -> str:
    if code == "p":
        return "builtin.parameter"
    dialect, _, name = code.partition(".")
    return f"{_DIALECTS.get(dialect, f'dialect{dialect}')}.{name}"


def _attributes(entries: _Json) -> dict[str, Attribute]:
    attributes = {entry["N"]: _attribute(entry["AT"]) for entry in entries}
    if not _STR.issuperset(map(type, attributes)):
        raise TypeError(attributes)
    return attributes


def _attribute(typed: _Json, depth: int = 0) -> Attribute:
    if typed["#"] == "0.a_array":
        inner = depth + 1
        return tuple([_attribute(item, inner) for item in typed["D"]])
    data = typed.get("D")
    return data if type(data) in _SCALARS and depth <= _MAX_DEPTH else _plain(data, depth)


def _plain(data: _Json, depth: int) -> Attribute:
    if depth > _MAX_DEPTH:
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
        elements = [_result_type(element) for element in typed["D"]]
        return ResultType(elements=tuple((element.dtype, element.shape) for element in elements))
    data = typed.get("D")
    if not _is_list(data) or len(data) < 2 or not _is_list(dims := data[1]):
        return ResultType()
    if not _INT.issuperset(map(type, dims)):
        raise ImpossibleShapeError("a dim that is not an integer")
    return _tensor_type(data[0]["#"], tuple(dims))


@lru_cache(maxsize=4096)
def _tensor_type(code: str, dims: Shape) -> ResultType:
    dtype = BY_JSON_CODE.get(code)
    return ResultType(shape=checked_shape(dims), dtype=dtype.name if dtype else code)


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
