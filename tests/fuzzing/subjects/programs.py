"""Saved programs: PIR's JSON and the protobuf of legacy ones."""

from __future__ import annotations

from pathlib import Path

import graphtool as gt
from tests.fuzzing.cases import Subject
from tests.fuzzing.exercises import with_model
from tests.fuzzing.json_spoiling import ANY_JSON, PIR_JSON
from tests.fuzzing.protobuf_spoiling import PROTOBUF
from tests.fuzzing.spoiling import BYTES

__all__ = ["FIXTURES", "SUBJECTS"]

FIXTURES = Path(__file__).parents[2] / "fixtures"
_PARTNER = gt.read(FIXTURES / "3.3.1" / "cnn.json")


def _honest(*names: str) -> dict[str, bytes]:
    return {Path(name).name: (FIXTURES / name).read_bytes() for name in names}


def _pir(data: bytes, folder: Path) -> None:
    _saved(folder / "model.json", data)


def _legacy(data: bytes, folder: Path) -> None:
    _saved(folder / "model.pdmodel", data)


def _saved(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with_model(path, _PARTNER)


SUBJECTS = (
    Subject(
        "pir",
        _honest("3.3.1/cnn.json", "3.3.1/control.json", "3.3.1/encoder.json"),
        {**BYTES, **ANY_JSON, **PIR_JSON},
        _pir,
    ),
    Subject(
        "legacy",
        _honest("2.6.2/cnn.pdmodel", "3.3.1-legacy/control.pdmodel", "2.6.2/encoder.pdmodel"),
        {**BYTES, **PROTOBUF},
        _legacy,
    ),
)
