"""A self-contained HTML page in which blocks expand and pairs are chosen."""

from graphtool.rendering.html.page import Page, page_of

__all__ = ["Page", "page_of"]
