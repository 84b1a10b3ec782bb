"""What graphtool says, in English and in Chinese, is said in the words of the glossary."""

from __future__ import annotations

from collections import Counter

import pytest

from graphtool.matching.pairs import Kind, Relation
from graphtool.structure import Tap
from tests.reference.glossary import (
    GLOSSARY,
    chinese_guides,
    english_texts,
    misused,
    terms,
    untranslated,
)

TERMS = terms()
# What the design gives one meaning each.
_WORDS = """Program, Block, Graph, Operator, Variable, Value, feature map, teacher, student, feed,
fetch, Scope, startup program, parameter, persistable, feed map, prefix, stage, tap, recipe"""


def test_every_row_is_whole_and_every_term_has_one() -> None:
    assert all(all((one.name, *one.chinese, one.paddle, *one.never, one.meaning)) for one in TERMS)
    twice = Counter(one.name for one in TERMS)
    # The word, and the kind of pair of that name.
    assert [name for name, count in twice.items() if count > 1] == ["stage"]
    assert set(_WORDS.replace("\n", " ").split(", ")) <= set(twice)


def test_the_words_of_the_tables_are_explained() -> None:
    text = GLOSSARY.read_text(encoding="utf-8")
    assert {kind.value for kind in Kind} <= {one.name for one in TERMS}
    assert [one.value for one in Relation if f"`{one.value}`" not in text] == []
    tap = next(one.meaning for one in TERMS if one.name == "tap")
    for part in (part for one in Tap for part in one.value.split("-")):
        assert part.removeprefix("norm") in tap


def test_no_word_is_forbidden_that_is_a_term() -> None:
    allowed = {word.lower() for one in TERMS for word in (one.name, *one.chinese)}
    assert [never for one in TERMS for never in one.never if never.lower() in allowed] == []


@pytest.mark.slow
def test_what_graphtool_says_uses_no_other_word_for_a_term() -> None:
    texts = list(english_texts())
    assert len(texts) > 400
    assert [(where, said) for where, text in texts for said in misused(text, TERMS)] == []


@pytest.mark.slow
def test_the_chinese_guides_use_the_words_of_the_glossary() -> None:
    guides = chinese_guides()
    assert {"README", "tutorial", "from-paddleslim"} <= {name for name, _, _ in guides}
    assert [(name, said) for name, _, text in guides for said in misused(text, TERMS)] == []
    assert [
        (name, term)
        for name, english, chinese in guides
        for term in untranslated(english, chinese, TERMS)
    ] == []


def test_a_word_that_is_not_to_be_used_is_seen() -> None:
    assert misused("The Teacher models' activation\nmaps", TERMS) == [
        ("teacher model", "teacher"),
        ("activation map", "feature map"),
    ]
    assert misused("`namespace` and paddle.namespace, fused", TERMS) == []
    assert misused("把占位符连上", TERMS) == [("占位符", "feed")]
    assert untranslated("two feature maps", "两张图", TERMS) == ["feature map"]
