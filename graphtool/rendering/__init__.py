"""Draw a network, or two with their pairs, as DOT, SVG, PNG, PDF or HTML."""

from graphtool.rendering.board import Level
from graphtool.rendering.picture import Picture, render

__all__ = ["Level", "Picture", "render"]
