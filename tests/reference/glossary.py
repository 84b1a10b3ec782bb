"""The terms of the glossary, and the texts that are to use them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import graphtool
from graphtool.cli._arguments import parsers
from graphtool.cli._explain import all_docs
from tests.guides.markdown import Guide
from tests.guides.running import EXAMPLES, guides
from tests.reference.public import all_names, callables, docs_of

__all__ = [
    "GLOSSARY",
    "Term",
    "chinese_guides",
    "english_texts",
    "misused",
    "terms",
    "untranslated",
]

_ROOT = Path(__file__).parents[2]
GLOSSARY = EXAMPLES / "glossary.md"
# What is no prose: names, and the titles of diagnostics.
_CODE = re.compile(r"`[^`]*`|\[GT\d{3} [^\]]*\]\([^)]*\)")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_RULES = re.compile(r"^@(rule|check)\(", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Term:
    """A row of the glossary; several Chinese words may stand for it.

    `is_literal` tells what is written as it is, in a table or a file, from what is said.
    """

    name: str
    is_literal: bool
    chinese: tuple[str, ...]
    paddle: str
    never: tuple[str, ...]
    meaning: str


def terms() -> list[Term]:
    rows = (
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in GLOSSARY.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| term ")
    )
    return [
        Term(
            name=name.strip("`"),
            is_literal=name.startswith("`"),
            chinese=tuple(chinese.split("、")),
            paddle=paddle,
            never=tuple(never.split(", ")),
            meaning=meaning,
        )
        for name, chinese, paddle, never, meaning in rows
    ]


def english_texts() -> Iterator[tuple[str, str]]:
    """Yield what graphtool says, with where: names, docstrings, diagnostics and help texts."""
    for name in all_names():
        yield name.full, f"{name.name.replace('_', ' ')}\n{docs_of(name.object)}"
    for name, function in callables():
        parameters = (one.replace("_", " ") for one in inspect.signature(function).parameters)
        yield name, "\n".join((docs_of(function), *parameters))
    yield from all_docs().items()
    for path in Path(graphtool.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if _RULES.search(source):
            yield path.name, "\n".join(_constants(source))
    main, commands = parsers()
    for parser in (main, *commands.values()):
        yield parser.prog, parser.format_help()


def _constants(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def misused(text: str, found: list[Term]) -> list[tuple[str, str]]:
    """Return the words of a text that the glossary has another one for, with that one."""
    prose = _CODE.sub("", text)
    return [(never, term.name) for term in found for never in term.never if _says(prose, never)]


def _says(text: str, words: str) -> bool:
    if _CHINESE.search(words):
        return words in text
    # Most texts have nothing of it, and looking is much cheaper than matching.
    if words.split()[0].lower() not in text.lower():
        return False
    spelt = re.escape(words).replace(r"\ ", r"[\s-]+")
    return re.search(rf"(?<![\w.]){spelt}(s|es)?(?![\w.]*\w)", text, re.IGNORECASE) is not None


def chinese_guides() -> list[tuple[str, str, str]]:
    """Return each guide that has a Chinese text: its name, and the prose of both."""
    all_guides = map(Guide, (_ROOT / "README.md", *guides()))
    translated = [guide for guide in all_guides if guide.translation.exists()]
    return [(one.path.stem, one.prose, Guide(one.translation).prose) for one in translated]


def untranslated(english: str, chinese: str, found: list[Term]) -> list[str]:
    """Return terms that the English text uses, none of whose Chinese words is in the Chinese."""
    return [
        term.name
        for term in found
        if _CHINESE.search(term.chinese[0])
        and not term.is_literal
        and _says(_CODE.sub("", english), term.name)
        and not any(word in chinese for word in term.chinese)
    ]
