"""Make the input of a finding smaller while it stays the same finding."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, TypeAlias

from tests.fuzzing.json_spoiling import places

__all__ = ["shrunk"]

_Json: TypeAlias = Any


def shrunk(data: bytes, is_same: Callable[[bytes], bool], attempts: int) -> bytes:
    """Return a smaller input for which `is_same` holds, after so many attempts at most.

    Members and items are taken out of what parses as JSON, pieces out of all else.
    """
    try:
        document: _Json = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    smaller = _json_without if isinstance(document, (dict, list)) else _bytes_without
    left = attempts
    progressed = True
    while progressed and left > 0:
        progressed = False
        for candidate in smaller(data):
            left -= 1
            if left < 0:
                break
            if is_same(candidate):
                data, progressed = candidate, True
                break
    return data


def _bytes_without(data: bytes) -> Iterator[bytes]:
    size = len(data) // 2
    while size:
        for start in range(0, len(data), size):
            yield data[:start] + data[start + size :]
        size //= 4


def _json_without(data: bytes) -> Iterator[bytes]:
    """Yield a document without parts of it, the largest first."""
    document: _Json = json.loads(data)
    sizes = [len(json.dumps(holder[key])) for holder, key in places(document)]
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        copy = deepcopy(document)
        holder, key = list(places(copy))[index]
        del holder[key]
        yield json.dumps(copy, separators=(",", ":")).encode("utf-8", "surrogatepass")
