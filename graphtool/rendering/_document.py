"""Write DOT with the `graphviz` package; its untyped calls are confined to this module."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Document"]


class Document:
    """A DOT graph or subgraph; the same calls give the same text."""

    # A Digraph of the package.
    _dot: Any

    def __init__(self, dot: Any) -> None:
        self._dot = dot

    @classmethod
    def new(
        cls, *, graph: Mapping[str, str], node: Mapping[str, str], edge: Mapping[str, str]
    ) -> Document:
        """Return an empty graph with default attributes."""
        from graphviz import Digraph

        return cls(Digraph("graphtool", graph_attr=graph, node_attr=node, edge_attr=edge))

    @property
    def source(self) -> str:
        """Return the DOT text."""
        return self._dot.source

    def node(self, name: str, label: str) -> None:
        """Add a node with an HTML-like label."""
        self._dot.node(name, label=f"<{label}>")

    def line_segment(self, name: str, color: str) -> None:
        """Add a node drawn as a short vertical line; dot ends edges a little before nodes."""
        self._dot.node(
            name,
            label="",
            shape="box",
            fixedsize="true",
            width="0.0167",
            height="0.08",
            style="filled",
            fillcolor=color,
            penwidth="0",
        )

    def edge(self, tail: str, head: str, **attributes: str) -> None:
        """Add an edge between nodes or their ports, `node:port:side`."""
        self._dot.edge(tail, head, **attributes)

    @contextmanager
    def subgraph(self, name: str | None = None, **attributes: str) -> Generator[Document]:
        """Add a subgraph; dot draws a frame around one whose name starts with `cluster`."""
        with self._dot.subgraph(name=name) as inner:
            inner.attr(**attributes)
            yield Document(inner)
