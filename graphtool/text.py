r"""Foreign text made fit to be shown and typed: names from files and paths may hold anything.

`visible` is the one place that says which letters are shown as they are. What acts on a terminal,
cannot be seen, or looks like another letter though it is none, is written as Python writes it:
`\x1b`, `\u202e`. A page in HTML follows the same rules in a script of its own.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

__all__ = [
    "as_path",
    "as_typed",
    "bounded",
    "command",
    "literal",
    "named",
    "option",
    "quoted",
    "shortened",
    "shown_forms",
    "visible",
]

# Printable to Python, and yet nothing to be seen: joiners, fillers, variation selectors, blanks.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0100-\U000e01ef]"
)
# A backslash that could be taken for the start of what is written for another letter.
_ESCAPING = re.compile(r"\\(?=[\\nrtxuU]|[^ -~])")
# Scripts that stack marks stack two or three; more of them cover the lines around.
_MOST_MARKS = 3
_ROOM, _DIGEST = 1000, 8
# Of a path, to most systems.
_LONGEST = 4096
_NAMELESS = {"": '""', '""': r"\x22\x22"}


def visible(text: str) -> str:
    r"""Return text as one line that can be shown, and from which it can be told letter by letter.

    A backslash is doubled where it would start an escape, so that no two texts look the same.
    """
    return as_typed(text if "\\" not in text else _ESCAPING.sub(r"\\\\", text))


def as_typed(text: str) -> str:
    r"""Return a command or a line of code as one line that can be shown: backslashes stay.

    In a literal of Python, what is written out means the same.
    """
    if text.isascii() and text.isprintable():
        return text
    # Composed and decomposed letters look the same.
    is_normal = unicodedata.is_normalized("NFC", text)
    shown: list[str] = []
    # At the start, a mark would join what stands before the text.
    marks = _MOST_MARKS
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter)[0] == "M" else 0
        is_shown = marks <= _MOST_MARKS and (letter.isascii() or is_normal) and _is_seen(letter)
        shown.append(letter if is_shown else letter.encode("unicode_escape").decode("ascii"))
    return "".join(shown)


def _is_seen(letter: str) -> bool:
    return letter.isprintable() and not _UNSEEN.match(letter)


def bounded(text: str) -> str:
    """Return visible text with the middle left out where it is longer than any real name.

    A digest in its place keeps apart what differs there alone.
    """
    if len(text) <= _ROOM:
        return visible(text)
    from hashlib import sha256

    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    left_out = f"… {len(text) - _ROOM} more, {digest} …"
    return f"{visible(text[: _ROOM // 2])} {left_out} {visible(text[-_ROOM // 2 :])}"


def shortened(text: str, room: int) -> str:
    """Leave out the middle of text that is longer than `room` letters."""
    return text if len(text) <= room else f"{text[: room // 2]} … {text[-room // 2 :]}"


def named(name: str) -> str:
    """Return a name as tables show it; one without letters is `""`."""
    return _NAMELESS.get(name) or bounded(name)


def shown_forms(name: str) -> tuple[str, str]:
    """Return a name as it is shown, and as it is where nothing but ASCII can be."""
    shown = named(name)
    return shown, shown.encode("ascii", "backslashreplace").decode("ascii")


def quoted(text: str) -> str:
    r"""Return text as one word of a shell: `'a b'`, and `$'\x1b'` for what is not shown.

    What no command line can hold, NUL, lone surrogates, and what is longer than any path, is
    written as it is shown.
    """
    if len(text) > _LONGEST:
        return shlex.quote(bounded(text))
    if as_typed(text) == text:
        return shlex.quote(text)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b"\0"
    if b"\0" in data:
        return shlex.quote(visible(text))
    return f"$'{''.join(map(_in_quotes, text))}'"


def _in_quotes(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isascii() and letter.isprintable():
        return letter
    # As bytes, which mean the same in every locale.
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def command(*words: str) -> str:
    """Return a command line for a shell; words are a program, its options, and paths."""
    return " ".join(map(quoted, words))


def as_path(path: str) -> str:
    """Return a path that no command takes for an option: `./-v`."""
    return f"./{path}" if path.startswith("-") else path


def option(name: str, value: str) -> str:
    """Return an option with its value for a shell: `--feed x=y`, `--feed=-x=y`."""
    return f"{name}{'=' if value.startswith('-') else ' '}{quoted(value)}"


def literal(text: str) -> str:
    """Return text as a literal of Python, in double quotes."""
    import json

    return json.dumps(text, ensure_ascii=False)
