"""The troubleshooting guide has each code once: what it means, a program that causes it, a cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphtool.cli._explain import all_docs
from tests.guides.running import EXAMPLES
from tests.guides.troubleshooting import (
    ENGLISH,
    TRANSLATED,
    hash_of,
    index_of,
    listed_in,
    sections_of,
)

# What no short program causes on every machine; the section says so in these words.
_WITHOUT_PROGRAM = {
    "GT056": "No program causes it: no release of Paddle so far lacks one",
    "GT521": "No program causes it under Paddle 3",
    "GT548": "No short program causes it: it takes two hosts",
}

_SHOWN = re.compile(r"^```(?:text|console)\n.*?^```$", re.MULTILINE | re.DOTALL)


def test_every_code_has_one_section_in_order() -> None:
    assert [section.code for section in sections_of(ENGLISH)] == list(all_docs())


def test_a_section_says_what_explain_says() -> None:
    said = {s.code: f"{s.code} {s.slug}\n\n{s.docs}" for s in sections_of(ENGLISH)}

    assert said == {code: docs for code, docs in all_docs().items() if code in said}


def test_a_section_shows_its_diagnostic_or_says_why_no_program_causes_it() -> None:
    sections = sections_of(ENGLISH)
    silent = {s.code: s.rest for s in sections if f"[{s.code}]" not in "".join(_shown(s.rest))}

    assert sorted(silent) == sorted(_WITHOUT_PROGRAM)
    for code, rest in silent.items():
        assert _WITHOUT_PROGRAM[code] in " ".join(rest.split())
        assert "```python" not in rest, f"{code} has a program now"


def test_a_translation_is_in_step() -> None:
    docs = {section.code: hash_of(section.docs) for section in sections_of(ENGLISH)}
    translated = {section.code: section.hash for section in sections_of(TRANSLATED)}

    assert translated == {code: docs[code] for code in translated}


@pytest.mark.parametrize("guide", sorted(EXAMPLES.glob("*.md")), ids=lambda guide: guide.name)
def test_codes_that_a_guide_speaks_of_are_there(guide: Path) -> None:
    assert set(re.findall(r"GT\d{3}", guide.read_text(encoding="utf-8"))) <= set(all_docs())


@pytest.mark.parametrize("language", [ENGLISH, TRANSLATED])
def test_the_index_lists_all_sections(language: str) -> None:
    assert listed_in(language) == index_of(language)


def test_the_first_line_of_every_section_is_a_sentence() -> None:
    sections = sections_of(ENGLISH) + sections_of(TRANSLATED)

    assert [s.code for s in sections if not s.first.endswith((".", "。"))] == []


def _shown(text: str) -> list[str]:
    return _SHOWN.findall(text)
