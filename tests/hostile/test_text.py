"""What of a text is shown, and how it is typed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphtool.text import (
    escaped_bounded,
    escaped_code,
    printable,
    printed_name,
    shell_command,
    shell_option,
    shell_quoted,
    string_literal,
)
from tests.hostile.names import NAMES, read_back

ANY = st.text(st.characters() | st.sampled_from("\\\\nxuU'\"` \x1b\u0301\u202e\ud800\udcff"))


@settings(max_examples=50)
@given(ANY)
def test_what_is_shown_is_one_line_and_tells_every_letter(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert escaped_code(shown) == shown
    assert unicodedata.is_normalized("NFC", shown)
    assert read_back(shown) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("relu_48", "relu_48"),
        ("données/каталог/模型", "données/каталог/模型"),
        ("a\\b C:\\models", "a\\b C:\\models"),
        ("a\x1b[31m\n", "a\\x1b[31m\\n"),
        ("a\\x1b[31m\\n", "a\\\\x1b[31m\\\\n"),
        ("da\u200bta", "da\\u200bta"),
        ("\u3164", "\\u3164"),
        ("cafe\u0301", "cafe\\u0301"),
        ("\u212a", "\\u212a"),
        ("\u0301a", "\\u0301a"),
        ("\udcff\U000e0041", "\\udcff\\U000e0041"),
    ],
)
def test_letters_that_act_or_cannot_be_told_apart_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_two_hostile_names_look_the_same_and_none_is_long() -> None:
    shown = {printed_name(name) for name in (*NAMES.values(), "", '""')}

    assert len(shown) == len(NAMES) + 2
    assert max(map(len, shown)) < 1040
    assert escaped_bounded("n" * 1000) == "n" * 1000


def test_words_of_a_shell_come_back_as_they_were() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    names = [name for name in NAMES.values() if not {"\0", "\ud800"} & set(name)]
    names = [name for name in names if len(name) < 4000]
    line = shell_command("printf", "%s\\0", *names)
    said = subprocess.run(
        [bash], input=line.encode(), capture_output=True, check=True, env={"LC_ALL": "C"}
    ).stdout

    assert escaped_code(line) == line
    assert said.decode("utf-8", "surrogateescape").split("\0")[:-1] == names


def test_what_no_shell_can_hold_is_typed_as_it_is_shown() -> None:
    assert shell_quoted("a\0b") == "'a\\x00b'"
    assert shell_quoted("\ud800") == "'\\ud800'"
    assert shell_quoted("n" * 100_000) == f"'{escaped_bounded('n' * 100_000)}'"


def test_values_that_start_with_a_dash_are_no_options() -> None:
    assert shell_option("--feed", "x=y z") == "--feed 'x=y z'"
    assert shell_option("--feed", "-x=y") == "--feed=-x=y"


@settings(max_examples=50)
@given(ANY)
def test_what_is_shown_of_a_literal_means_the_text(text: str) -> None:
    assert ast.literal_eval(escaped_code(string_literal(text))) == text
