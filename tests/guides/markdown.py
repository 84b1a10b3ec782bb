"""Markdown as far as guides need it: fenced blocks, pictures, and the figures of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

__all__ = ["Block", "Guide", "figures_of"]

_FENCED = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
_LINK = re.compile(r"\]\(([^)]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_NEW_SCRIPT = re.compile(r"^<!-- new script -->$", re.MULTILINE)
_TITLES_ALONE = "<!-- titles alone -->"
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, a word after it, its text and the line this begins at."""

    language: str
    word: str | None
    text: str
    line: int
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Guide:
    """A Markdown file: `blocks` in order, `pictures` that it shows, `links` that it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.blocks = [
            Block(
                language=found[1],
                word=found[2],
                text=found[3],
                line=self.text.count("\n", 0, found.start(3)) + 1,
                start=found.start(3),
            )
            for found in _FENCED.finditer(self.text)
        ]
        prose = _COMMENT.sub("", _FENCED.sub("", self.text))
        self.prose = prose
        self.pictures = _PICTURE.findall(prose)
        self.links = [link for link in _LINK.findall(prose) if "://" not in link]

    @property
    def scripts(self) -> list[list[Block]]:
        """The blocks of each script; another one begins at `<!-- new script -->`."""
        starts = [0, *(found.start() for found in _NEW_SCRIPT.finditer(self.text)), len(self.text)]
        return [
            [block for block in self.blocks if start <= block.start < end]
            for start, end in pairwise(starts)
        ]

    @property
    def translation(self) -> Path | None:
        """The Chinese text of this guide, None if there is none or of its titles alone."""
        path = self.path.with_suffix(".zh-CN.md")
        is_whole = path.exists() and _TITLES_ALONE not in path.read_text(encoding="utf-8")
        return path if is_whole else None

    @property
    def shared(self) -> tuple[list[tuple[str, str]], set[str], list[str]]:
        """What is the same in every language: blocks, figures and pictures."""
        blocks = [(block.language, block.text) for block in self.blocks]
        return blocks, figures_of(self.prose), self.pictures

    @property
    def broken_links(self) -> list[str]:
        """The links that lead to no file, or to no heading of it."""
        return [link for link in self.links if not self._leads_somewhere(link)]

    def _leads_somewhere(self, link: str) -> bool:
        name, _, anchor = link.partition("#")
        target = self.path.parent / name if name else self.path
        return target.exists() and (not anchor or anchor in anchors_of(target))


def anchors_of(path: Path) -> set[str]:
    """Return what GitHub makes of the headings of a file: small letters, hyphens for blanks."""
    prose = _FENCED.sub("", path.read_text(encoding="utf-8"))
    words = (re.sub(r"[^\w\- ]", "", found[1].lower()) for found in _HEADING.finditer(prose))
    return {text.strip().replace(" ", "-") for text in words}


def figures_of(prose: str) -> set[str]:
    """Return the figures of a text that say something measured: all but lone digits."""
    return {figure for figure in _FIGURE.findall(prose) if len(figure) > 1}
