"""Paddle's dtypes: their names, sizes, and codes in each file format."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_CODE", "BY_JSON_CODE", "BY_NAME", "FLOAT_DTYPES", "HALF_DTYPES", "Dtype"]


@dataclass(frozen=True, slots=True)
class Dtype:
    """A dtype: bytes per element, its number in VarType (framework.proto), its name in PIR's JSON.

    `storage` is the NumPy dtype that holds its bits, for those that NumPy lacks; Paddle hands them
    out as that, too. PIR and files of parameters have none of the unsigned ones beyond uint8.
    """

    name: str
    size: int
    code: int
    json: str | None
    storage: str


def _dtype(name: str, size: int, code: int, json: str | None, storage: str = "") -> Dtype:
    return Dtype(name, size, code, json, storage or name)


_DTYPES = (
    _dtype("bool", 1, 0, "bool"),
    _dtype("int16", 2, 1, "i16"),
    _dtype("int32", 4, 2, "i32"),
    _dtype("int64", 8, 3, "i64"),
    _dtype("float16", 2, 4, "f16"),
    _dtype("float32", 4, 5, "f32"),
    _dtype("float64", 8, 6, "f64"),
    _dtype("uint8", 1, 20, "ui8"),
    _dtype("int8", 1, 21, "i8"),
    _dtype("bfloat16", 2, 22, "bf16", "uint16"),
    _dtype("complex64", 8, 23, "c64"),
    _dtype("complex128", 16, 24, "c128"),
    _dtype("float8_e4m3fn", 1, 32, "f8e4m3fn", "uint8"),
    _dtype("float8_e5m2", 1, 33, "f8e5m2", "uint8"),
    _dtype("uint16", 2, 36, None),
    _dtype("uint32", 4, 37, None),
    _dtype("uint64", 8, 38, None),
)
BY_NAME = {dtype.name: dtype for dtype in _DTYPES}
BY_CODE = {dtype.code: dtype for dtype in _DTYPES}
# `0.t_` is the dialect of built-in types.
BY_JSON_CODE = {f"0.t_{dtype.json}": dtype for dtype in _DTYPES if dtype.json is not None}
# Float dtypes; halves are computed in float32.
HALF_DTYPES = frozenset({"bfloat16", "float16"})
FLOAT_DTYPES = HALF_DTYPES | {"float32", "float64"}
