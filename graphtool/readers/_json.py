"""Read the `.json` that Paddle 3 saves a PIR Program as, without Paddle.

The layout is that of `paddle/fluid/pir/serialize_deserialize` in Paddle 3.0 to 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.graph import Attribute, Graph, Operator
from graphtool.readers import problems
from graphtool.readers._assembly import Assembly, ResultType

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
_OPERATOR_KEYS = frozenset({"#", "A", "I", "O", "OA", "DA", "QA", "regions"})
_NO_OPERAND = 0
_LAYOUT_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)


def read_json(path: str, data: bytes) -> Graph:
    """Read a PIR program file.

    Raises ReadError where the bytes are not JSON, not a Paddle program, or of a version not known.
    """
    try:
        document: _Json = json.loads(data)
    except ValueError as error:
        raise ReadError(problems.not_json(path, str(error))) from None
    version = _version(path, document)
    try:
        top = document["program"]["regions"][0]["blocks"][0]
    except _LAYOUT_ERRORS:
        raise ReadError(
            problems.bad_program_json(path, "`program` holds no block of operators")
        ) from None
    return _Walk(path).graph(top, version)


def _version(path: str, document: _Json) -> str:
    base = document.get("base_code") if isinstance(document, dict) else None
    if not isinstance(base, dict) or base.get("magic") != "pir":
        raise ReadError(
            problems.bad_program_json(
                path, "this JSON is no Paddle program: it has no `base_code` with the magic `pir`"
            )
        )
    version = base.get("version")
    if not isinstance(version, int) or not 0 <= version <= _NEWEST_VERSION:
        raise ReadError(problems.unknown_version(path, version, _NEWEST_VERSION))
    return str(version)


@dataclass
class _Walk:
    path: str
    assembly: Assembly = field(default_factory=lambda: Assembly(frozenset()))
    unknown: set[str] = field(default_factory=set[str])
    _types: dict[str, str] = field(default_factory=dict[str, str])

    def graph(self, top: _Json, version: str) -> Graph:
        try:
            self.assembly = Assembly(frozenset(_user_names(top)))
            self._block(top, path="", owner=None)
        except _LAYOUT_ERRORS as error:
            place = f"after operator {len(self.assembly.operators)}"
            reason = f"{place} the file is not laid out as Paddle lays it out ({type(error).__name__}: {error})"
            raise ReadError(problems.bad_program_json(self.path, reason)) from None
        return self.assembly.graph(
            source=self.path, version=version, unknown=tuple(sorted(self.unknown))
        )

    def _block(self, block: _Json, *, path: str, owner: str | None) -> None:
        arguments = [
            self.assembly.add_argument(argument["#"], _result_type(argument["TT"]), path, index)
            for index, argument in enumerate(block.get("args", ()))
        ]
        operators: list[Operator] = []
        for index, op in enumerate(block["ops"]):
            operators.append(self._operator(op, path, index if owner is None else None))
        self.assembly.add_block(path, owner=owner, arguments=arguments, operators=operators)

    def _operator(self, op: _Json, block: str, index: int | None) -> Operator:
        if not op.keys() <= _OPERATOR_KEYS:
            self.unknown.update(f"operator field {key!r}" for key in op.keys() - _OPERATOR_KEYS)
        if op["#"] == "p":
            return self._parameter(op, block, index)
        attributes = _attributes(op["A"])
        output_attributes = _attributes(op.get("OA", ()))
        regions = [region["blocks"] for region in op.get("regions", ())]
        keys = self.assembly.keys
        operator = self.assembly.add_operator(
            type=self._type(op["#"]),
            block=block,
            index=index,
            operands=tuple([None if x["%"] == _NO_OPERAND else keys[x["%"]] for x in op["I"]]),
            results=[(result["%"], _result_type(result.get("TT"))) for result in op["O"]],
            stop_gradient=_flags(output_attributes.get("stop_gradient")),
            persistable=any(_flags(output_attributes.get("persistable"))),
            regions=sum(map(len, regions)),
            module=_text(attributes.pop("struct_name", None)),
            role=_whole(attributes.pop("op_role", 0)),
            attributes=attributes,
        )
        for path, inner in zip(
            operator.blocks, (block for blocks in regions for block in blocks), strict=True
        ):
            self._block(inner, path=path, owner=operator.name)
        return operator

    def _parameter(self, op: _Json, block: str, index: int | None) -> Operator:
        is_distributed, is_parameter, need_clip, name = op["A"]
        persistable, stop_gradient, trainable = op["OA"]
        return self.assembly.add_operator(
            type="builtin.parameter",
            block=block,
            index=index,
            operands=(),
            results=[(op["O"]["%"], _result_type(op["O"]["TT"]))],
            attributes={
                "parameter_name": str(name),
                "is_distributed": bool(is_distributed),
                "is_parameter": bool(is_parameter),
                "need_clip": bool(need_clip),
            },
            stop_gradient=(bool(stop_gradient),),
            persistable=bool(persistable),
            trainable=bool(trainable),
        )

    def _type(self, code: str) -> str:
        known = self._types.get(code)
        if known is None:
            dialect, _, name = code.partition(".")
            known = self._types[code] = f"{_DIALECTS.get(dialect, f'dialect{dialect}')}.{name}"
        return known


def _user_names(block: _Json) -> Iterator[str]:
    for op in block["ops"]:
        if op["#"] == "p":
            yield op["A"][3]
        elif op["#"] == "1.data":
            yield from (a["AT"]["D"] for a in op["A"] if a["N"] == "name")
        for region in op.get("regions", ()):
            for inner in region["blocks"]:
                yield from _user_names(inner)


def _attributes(listed: _Json) -> dict[str, Attribute]:
    return {attribute["N"]: _attribute(attribute["AT"]) for attribute in listed}


def _attribute(typed: _Json) -> Attribute:
    if typed["#"] == "0.a_array":
        return tuple([_attribute(item) for item in typed["D"]])
    return _plain(typed.get("D"))


def _plain(data: _Json) -> Attribute:
    if isinstance(data, list):
        return tuple([_plain(item) for item in data])
    if isinstance(data, dict):
        return _attribute(data) if "#" in data else json.dumps(data, sort_keys=True)
    return data


def _result_type(typed: _Json) -> ResultType:
    if not isinstance(typed, dict):
        return ResultType()
    if typed["#"] == "0.t_vec":
        members = [_result_type(member) for member in typed["D"]]
        return ResultType(elements=tuple((member.dtype, member.shape) for member in members))
    data = typed.get("D")
    if not isinstance(data, list) or len(data) < 2 or not isinstance(data[1], list):
        return ResultType()
    return ResultType(shape=tuple(map(int, data[1])), dtype=_dtype(data[0]["#"]))


def _dtype(code: str) -> str:
    return _DTYPES.get(code) or code


def _flags(value: Attribute) -> tuple[bool, ...]:
    return tuple(map(bool, value)) if isinstance(value, tuple) else ()


def _text(value: Attribute) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Attribute) -> int:
    return value if isinstance(value, int) else 0
