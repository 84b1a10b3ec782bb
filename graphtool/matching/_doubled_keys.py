"""Find keys that stand twice in YAML: of two, the parser keeps the last and says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from graphtool.matching._entry import brief

__all__ = ["doubled_keys"]

# Nodes are PyYAML's, which has no types.
_Node: TypeAlias = Any

# What is read of a configuration; elsewhere one of PaddleClas does have a key that stands twice.
_READ = ("Arch", "Architecture", "Distillation", "Loss", "pairs")


def doubled_keys(document: _Node) -> Iterator[str]:
    """Say of each key that stands twice in what is read where it does, in the order of the file.

    One that says the same again, as `model_name_pairs` does in four of PaddleOCR's, is let be.
    """
    seen: set[int] = set()
    if document is None or document.id != "mapping":
        # A list is read whole, as PaddleSlim's are; an empty file has no document.
        yield from () if document is None else _within(document, seen)
        return
    yield from _doubled(document)
    for key, value in document.value:
        if key.value in _READ:
            yield from _within(value, seen)


def _within(node: _Node, seen: set[int]) -> Iterator[str]:
    """Look into a node and all below it, each once: aliases make a node stand in many places."""
    if id(node) in seen or node.id == "scalar":
        return
    seen.add(id(node))
    if node.id == "sequence":
        for item in node.value:
            yield from _within(item, seen)
        return
    yield from _doubled(node)
    for _, value in node.value:
        yield from _within(value, seen)


def _doubled(mapping: _Node) -> Iterator[str]:
    first: dict[str, tuple[_Node, _Node]] = {}
    for key, value in mapping.value:
        if not isinstance(key.value, str):
            continue
        before, given = first.setdefault(key.value, (key, value))
        if before is key or (_said(value) is not None and _said(value) == _said(given)):
            continue
        lines = " and ".join(f"in line {one.start_mark.line + 1}" for one in (before, key))
        yield f"the key `{brief(key.value)}` stands twice, {lines}"


def _said(value: _Node) -> str | list[str] | None:
    """Return a text, or a list of texts, which may stand in a list of its own; else None."""
    if value.id == "scalar":
        return value.value
    items = value.value
    if len(items) == 1 and value.id == items[0].id == "sequence":
        items = items[0].value
    is_flat = value.id == "sequence" and all(item.id == "scalar" for item in items)
    return [item.value for item in items] if is_flat else None
