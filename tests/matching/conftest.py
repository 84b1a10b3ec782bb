"""In which order these tests run."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of a case one after the other: its networks are built once in a process.

    Several processes share the tests out in pieces, so each would build most of them otherwise.
    """
    cases: dict[int, str] = {}
    for place, item in enumerate(items):
        if item.path.parent == Path(__file__).parent and isinstance(item, pytest.Function):
            case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
            if hasattr(case, "teacher"):
                cases[place] = case.name
    first = {name: place for place, name in reversed(cases.items())}
    together = sorted(cases, key=lambda place: first[cases[place]])
    for place, item in zip(cases, [items[place] for place in together], strict=True):
        items[place] = item
