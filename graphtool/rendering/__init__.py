"""Pictures: of a network, or of two with their pairs; as DOT, SVG, PNG or PDF."""

from graphtool.rendering.board import Level
from graphtool.rendering.picture import Picture, render

__all__ = ["Level", "Picture", "render"]
