"""The page: one self-contained HTML file in which a picture's blocks open and pairs are chosen."""

from graphtool.rendering.html.page import Page, page_of

__all__ = ["Page", "page_of"]
