"""The troubleshooting guide has each code once: what it means, a program that causes it, a cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphtool.cli._explain import all_docs
from tests.guides.running import EXAMPLES
from tests.guides.troubleshooting import listed, sections

# What the message alone explains, what another guide shows, and what no short program causes.
_WITHOUT_PROGRAM = {
    f"GT{number:03}"
    for number in (
        *(10, 31, 32, 43, 56, 215, 218, 219, 223, 232, 303, 306, 307),
        *(334, 346, 352, 383, 402, 403, 521, 532, 534, 537, 546, 547),
        *(600, 601, 602, 613, 617, 621),
    )
}

_SHOWN = re.compile(r"^```(?:text|console)\n.*?^```$", re.MULTILINE | re.DOTALL)


def test_every_code_has_one_section_in_order() -> None:
    assert [section.code for section in sections()] == list(all_docs())


def test_a_section_says_what_explain_says() -> None:
    assert {s.code: f"{s.title}\n\n{s.docs}" for s in sections()} == all_docs()
    assert [s.code for s in sections() if not s.docs.partition("\n")[0].endswith(".")] == []


def test_every_diagnostic_is_shown_unless_its_message_explains_it() -> None:
    shown = "".join(text for section in sections() for text in _SHOWN.findall(section.rest))

    assert {s.code for s in sections() if f"[{s.code}]" not in shown} == _WITHOUT_PROGRAM


@pytest.mark.parametrize("guide", sorted(EXAMPLES.glob("*.md")), ids=lambda guide: guide.name)
def test_codes_that_a_guide_speaks_of_are_there(guide: Path) -> None:
    assert set(re.findall(r"GT\d{3}", guide.read_text(encoding="utf-8"))) <= set(all_docs())


def test_the_chinese_page_has_a_sentence_for_each_code() -> None:
    entries = re.findall(r"^- \[(.+?)\]\(troubleshooting\.md#(.+?)\)：.+。$", listed(), re.M)

    titles = [section.title for section in sections()]
    assert entries == [(title, title.lower().replace(" ", "-")) for title in titles]
