"""Load each bomb in a process of its own, under limits: `python -m tests.security.bombing`."""

from __future__ import annotations

import json
from pathlib import Path

import graphtool as gt
from graphtool.evidence.samples import read_arrays
from graphtool.readers.weights import read_weights
from tests.fuzzing.cases import Limits, run
from tests.security.payloads import bombs, swollen

_GRAPH = gt.read(Path(__file__).parents[1] / "fixtures" / "3.3.1" / "cnn.json")
_LIMITS = Limits(seconds=20.0, memory=256 << 20)


def _parameters(data: bytes, folder: Path) -> None:
    path = folder / "net.pdparams"
    path.write_bytes(data)
    read_weights(path, _GRAPH)


def _samples(data: bytes, folder: Path) -> None:
    path = folder / "x.npz"
    path.write_bytes(data)
    read_arrays(path)


if __name__ == "__main__":
    results = {name: run(_parameters, data, _LIMITS) for name, data in bombs().items()}
    results["archive"] = run(_samples, swollen(), _LIMITS)
    said = {name: f"{one.outcome.value} {one.what}" for name, one in results.items()}
    print(json.dumps(said, indent=1))
