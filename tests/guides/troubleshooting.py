"""The troubleshooting page, and what it takes from the rules' docstrings.

`examples/troubleshooting.md` has a section for each code:

    ### GT201 name-collision

    what `graphtool explain GT201` prints

    a program that causes it, what that prints, and the cure

`<!-- /docs -->` divides the two where the program does not come first. A code that its message
explains has no program. Between `<!-- codes -->` and `<!-- /codes -->` the Chinese page has a
sentence for each.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from graphtool.cli._explain import all_docs
from tests.guides.running import EXAMPLES

__all__ = ["PAGE", "Section", "listed", "renew", "sections"]

PAGE = EXAMPLES / "troubleshooting.md"
_CHINESE = EXAMPLES / "troubleshooting.zh-CN.md"

_SECTION = re.compile(
    r"^### (?P<code>GT\d{3})(?: (?P<slug>\S+))?\n\n"
    r"(?P<docs>.*?)\n(?=\n```|<!-- /docs -->|\n### |\n<!-- new script -->|\Z)"
    r"(?P<rest>.*?)(?=^### |^<!-- new script -->|\Z)",
    re.MULTILINE | re.DOTALL,
)
_CODES = re.compile(r"(?<=<!-- codes -->\n).*?(?=<!-- /codes -->)", re.DOTALL)


class Section(NamedTuple):
    """What the page says of one code.

    `docs` is the rule's docstring; `rest` has the program, what it prints, and the cure.
    """

    code: str
    slug: str
    docs: str
    rest: str

    @property
    def title(self) -> str:
        return f"{self.code} {self.slug}"


def renew() -> None:
    """Write the rules' docstrings into the page, and leave out the codes that are gone."""
    docs = all_docs()
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_SECTION.sub(lambda found: _renewed(found, docs), text), "utf-8")


def sections() -> list[Section]:
    """Return the sections of the page, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return [Section(*found.groups("")) for found in _SECTION.finditer(text)]


def listed() -> str:
    """Return the list of codes that the Chinese page has."""
    (found,) = _CODES.findall(_CHINESE.read_text(encoding="utf-8"))
    return found


def _renewed(found: re.Match[str], docs: dict[str, str]) -> str:
    if found["code"] not in docs:
        return ""
    title, _, body = docs[found["code"]].partition("\n\n")
    return f"### {title}\n\n{body}\n{found['rest']}"
