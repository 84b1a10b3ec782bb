"""The troubleshooting guide has each code once: what it means, a program that causes it, a cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphtool.cli._explain import all_docs
from tests.guides.running import EXAMPLES
from tests.guides.troubleshooting import listed, sections

# What no short program causes on every machine; the section says so in these words.
_WITHOUT_PROGRAM = {
    "GT056": "No program causes it: no release of Paddle so far lacks one",
    "GT521": "No program causes it under Paddle 3",
}

_SHOWN = re.compile(r"^```(?:text|console)\n.*?^```$", re.MULTILINE | re.DOTALL)


def test_every_code_has_one_section_in_order() -> None:
    assert [section.code for section in sections()] == list(all_docs())


def test_a_section_says_what_explain_says() -> None:
    said = {s.code: f"{s.code} {s.slug}\n\n{s.docs}" for s in sections()}

    assert said == {code: docs for code, docs in all_docs().items() if code in said}


def test_a_section_shows_its_diagnostic_or_says_why_no_program_causes_it() -> None:
    silent = {s.code: s.rest for s in sections() if f"[{s.code}]" not in "".join(_shown(s.rest))}

    assert sorted(silent) == sorted(_WITHOUT_PROGRAM)
    for code, rest in silent.items():
        assert _WITHOUT_PROGRAM[code] in " ".join(rest.split())
        assert "```python" not in rest, f"{code} has a program now"


@pytest.mark.parametrize("guide", sorted(EXAMPLES.glob("*.md")), ids=lambda guide: guide.name)
def test_codes_that_a_guide_speaks_of_are_there(guide: Path) -> None:
    assert set(re.findall(r"GT\d{3}", guide.read_text(encoding="utf-8"))) <= set(all_docs())


def test_the_chinese_page_has_a_sentence_for_each_code() -> None:
    entries = re.findall(r"^- \[(.+?)\]\(troubleshooting\.md#(.+?)\)：.+。$", listed(), re.M)

    assert entries == [(section.title, section.anchor) for section in sections()]


def test_the_first_line_of_every_section_is_a_sentence() -> None:
    assert [s.code for s in sections() if not s.first.endswith(".")] == []


def _shown(text: str) -> list[str]:
    return _SHOWN.findall(text)
