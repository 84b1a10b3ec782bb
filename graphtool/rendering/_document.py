"""DOT text through the `graphviz` package, which has no types: they end here."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Document"]


class Document:
    """A graph in DOT, or a part of one; the same calls give the same text."""

    # The package's Digraph, untyped.
    _dot: Any

    def __init__(self, dot: Any) -> None:
        self._dot = dot

    @classmethod
    def new(
        cls, *, graph: Mapping[str, str], node: Mapping[str, str], edge: Mapping[str, str]
    ) -> Document:
        """Start a graph with its defaults."""
        from graphviz import Digraph

        return cls(Digraph("graphtool", graph_attr=graph, node_attr=node, edge_attr=edge))

    @property
    def source(self) -> str:
        """The whole text."""
        return self._dot.source

    def node(self, name: str, label: str) -> None:
        """Add a node with an HTML-like label."""
        self._dot.node(name, label=f"<{label}>")

    def link(self, name: str, color: str) -> None:
        """Add a node that is a piece of a vertical line; dot ends lines a little before nodes."""
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
        """Add an edge between nodes, or ports of them: `node:port:side`."""
        self._dot.edge(tail, head, **attributes)

    @contextmanager
    def part(self, name: str | None = None, **attributes: str) -> Generator[Document]:
        """Add a subgraph; one whose name starts with `cluster` is drawn as a frame."""
        with self._dot.subgraph(name=name) as inner:
            inner.attr(**attributes)
            yield Document(inner)
