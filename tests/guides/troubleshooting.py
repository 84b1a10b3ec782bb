"""The troubleshooting guide: what it takes from the rules' docstrings, and the list of all codes.

`examples/troubleshooting-gtN.md` has a section for each code of its hundred:

    ## GT201 name-collision

    <!-- docs -->
    what `graphtool explain GT201` prints
    <!-- /docs -->

    a program that causes it, what that prints, and the cure

A translation has `<!-- of HASH -->` in place of `<!-- docs -->`, HASH being that of the English
text that was translated. `examples/troubleshooting.md` lists all sections between `<!-- codes -->`
and `<!-- /codes -->`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from graphtool.cli._explain import all_docs
from tests.guides.running import EXAMPLES

__all__ = [
    "ENGLISH",
    "TRANSLATED",
    "Section",
    "hash_of",
    "index_of",
    "listed_in",
    "renew",
    "sections_of",
]

ENGLISH = ".md"
TRANSLATED = ".zh-CN.md"

_SECTION = re.compile(
    r"^## (?P<code>GT\d{3})(?: (?P<slug>\S+))?\n"
    r"(?:\n<!-- (?:docs|of (?P<hash>\w+)) -->\n(?P<docs>.*?)\n<!-- /docs -->\n)?"
    r"(?P<rest>.*?)(?=^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
_CODES = re.compile(r"(?<=<!-- codes -->\n).*?(?=<!-- /codes -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one part says of one code.

    `docs` is the rule's docstring or its translation, and `hash` that of what was translated;
    `rest` has the program, what it prints, and the cure.
    """

    part: str
    code: str
    slug: str
    hash: str | None
    docs: str
    rest: str

    @property
    def first(self) -> str:
        """The first line of the docs, which is a sentence."""
        return self.docs.partition("\n")[0]

    @property
    def link(self) -> str:
        title = f"{self.code} {self.slug}"
        return f"[{title}]({self.part}#{title.lower().replace(' ', '-')})"


def renew(guide: Path) -> None:
    """Write what a guide takes from the rules: a part their docstrings, the index all codes."""
    if guide in _parts(ENGLISH):
        docs = all_docs()
        text = guide.read_text(encoding="utf-8")
        guide.write_text(_SECTION.sub(lambda found: _renewed(found, docs), text), "utf-8")
    if guide == _index(ENGLISH):
        for language in (ENGLISH, TRANSLATED):
            _list_codes(language)


def sections_of(language: str) -> list[Section]:
    """Return the sections of all parts in a language, in order."""
    return [
        Section(
            part=part.name,
            code=found["code"],
            slug=found["slug"] or "",
            hash=found["hash"],
            docs=found["docs"] or "",
            rest=found["rest"],
        )
        for part in _parts(language)
        for found in _SECTION.finditer(part.read_text(encoding="utf-8"))
    ]


def index_of(language: str) -> str:
    """Return the list of all codes, each with the first line of its section.

    Where a section is not in this language yet, the English one is listed.
    """
    spoken = {section.code: section for section in sections_of(language)}
    sections = [spoken.get(section.code, section) for section in sections_of(ENGLISH)]
    lines = "".join(f"- {section.link}: {section.first}\n" for section in sections)
    return f"\n{lines}\n"


def listed_in(language: str) -> str:
    """Return the list of codes that the index in a language has."""
    (listed,) = _CODES.findall(_index(language).read_text(encoding="utf-8"))
    return listed


def hash_of(docs: str) -> str:
    """Return what a translation of these docs carries, to be seen when they change."""
    return hashlib.sha256(docs.encode()).hexdigest()[:8]


def _parts(language: str) -> list[Path]:
    return sorted(EXAMPLES.glob(f"troubleshooting-gt[0-9]{language}"))


def _renewed(found: re.Match[str], docs: dict[str, str]) -> str:
    title, _, body = docs[found["code"]].partition("\n\n")
    return f"## {title}\n\n<!-- docs -->\n{body}\n<!-- /docs -->\n{found['rest']}"


def _index(language: str) -> Path:
    return EXAMPLES / f"troubleshooting{language}"


def _list_codes(language: str) -> None:
    index, codes = _index(language), index_of(language)
    text = index.read_text(encoding="utf-8")
    index.write_text(_CODES.sub(lambda _: codes, text), encoding="utf-8")
