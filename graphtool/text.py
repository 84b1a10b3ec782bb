r"""Escape untrusted text for terminals, pictures and shells: names and paths may hold anything.

`escaped_code` alone decides which characters are printed as they are. Control characters, invisible
ones, and decomposed ones that look like others, are written as Python escapes them: `\x1b`,
`\u202e`. The script in HTML pages follows the same rules.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "closest",
    "elided",
    "escaped_bounded",
    "escaped_code",
    "inspect_command",
    "near_notes",
    "path_argument",
    "printable",
    "printed_forms",
    "printed_name",
    "shell_command",
    "shell_option",
    "shell_quoted",
    "string_literal",
]

# Printable to Python, and yet invisible: joiners, fillers, variation selectors, blanks.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0100-\U000e01ef]"
)
# A backslash that could be read as the start of an escape.
_ESCAPING = re.compile(r"\\(?=[\\nrtxuU]|[^ -~])")
# Scripts that stack combining marks stack two or three; more of them cover the lines around.
_MAX_MARKS = 3
_MAX_LENGTH, _DIGEST_LENGTH = 1000, 8
# The time to compare two names grows with the product of their lengths.
_MAX_COMPARED = 200
# PATH_MAX on most systems.
_MAX_PATH = 4096
_EMPTY = {"": '""', '""': r"\x22\x22"}


def printable(text: str) -> str:
    r"""Escape text to one printable line, so that no two texts look the same.

    A backslash is doubled where it would start an escape.
    """
    return escaped_code(text if "\\" not in text else _ESCAPING.sub(r"\\\\", text))


def escaped_code(text: str) -> str:
    r"""Escape a command or a line of code to one printable line, keeping its backslashes.

    In a string literal of Python, the escapes mean the same.
    """
    if text.isascii() and text.isprintable():
        return text
    # Composed and decomposed characters look the same.
    is_composed = unicodedata.is_normalized("NFC", text)
    printed: list[str] = []
    # A combining mark at the start would join the text before.
    marks = _MAX_MARKS
    for char in text:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        is_visible = char.isprintable() and not _INVISIBLE.match(char)
        if marks <= _MAX_MARKS and (char.isascii() or is_composed) and is_visible:
            printed.append(char)
        else:
            printed.append(char.encode("unicode_escape").decode("ascii"))
    return "".join(printed)


def escaped_bounded(text: str) -> str:
    """Escape text; replace the middle of one longer than any real name by a digest."""
    if len(text) <= _MAX_LENGTH:
        return printable(text)
    from hashlib import sha256

    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    omitted = f"… {len(text) - _MAX_LENGTH} more, {digest} …"
    return f"{printable(text[: _MAX_LENGTH // 2])} {omitted} {printable(text[-_MAX_LENGTH // 2 :])}"


def elided(text: str, room: int) -> str:
    """Replace the middle of text longer than `room` characters by an ellipsis."""
    return text if len(text) <= room else f"{text[: room // 2]} … {text[-room // 2 :]}"


def printed_name(name: str) -> str:
    """Escape a name for tables and messages; the empty name is `""`."""
    return _EMPTY.get(name) or escaped_bounded(name)


def printed_forms(name: str) -> tuple[str, str]:
    """Return a name as it is printed, and as it is printed in ASCII."""
    printed = printed_name(name)
    return printed, printed.encode("ascii", "backslashreplace").decode("ascii")


def shell_quoted(text: str) -> str:
    r"""Quote text as one word of a shell: `'a b'`, or `$'\x1b'` where it is not printable.

    Text that no command line can hold (NUL, lone surrogates, longer than any path) is escaped as
    by `printable`.
    """
    if len(text) > _MAX_PATH:
        return shlex.quote(escaped_bounded(text))
    if escaped_code(text) == text:
        return shlex.quote(text)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b"\0"
    if b"\0" in data:
        return shlex.quote(printable(text))

    def escaped(byte: int) -> str:
        # Bytes mean the same in every locale.
        is_printable = 32 <= byte < 127
        return ("\\" * (byte in b"\\'") + chr(byte)) if is_printable else f"\\x{byte:02x}"

    return f"$'{''.join(map(escaped, data))}'"


def shell_command(*words: str) -> str:
    """Return a shell command line of a program and its arguments."""
    return " ".join(map(shell_quoted, words))


def path_argument(path: str) -> str:
    """Return a path that no command mistakes for an option: `./-v`."""
    return f"./{path}" if path.startswith("-") else path


def inspect_command(model: str) -> str:
    """Return the command that inspects a MODEL."""
    return shell_command("graphtool", "inspect", path_argument(model))


def shell_option(name: str, value: str) -> str:
    """Return an option with its value for a shell: `--feed x=y` or `--feed=-x=y`."""
    return f"{name}{'=' if value.startswith('-') else ' '}{shell_quoted(value)}"


def string_literal(text: str) -> str:
    """Return text as a Python string literal in double quotes."""
    import json

    return json.dumps(text, ensure_ascii=False)


def closest(wanted: str, known: Iterable[str], *, most: int = 1, cutoff: float) -> list[str]:
    """Return the names that are spelt most like one, the closest first, from `cutoff` of 1 on."""
    from difflib import get_close_matches

    starts: dict[str, str] = {}
    for name in known:
        starts.setdefault(name[:_MAX_COMPARED], name)
    found = get_close_matches(wanted[:_MAX_COMPARED], starts, n=most, cutoff=cutoff)
    return [starts[start] for start in found]


def near_notes(near: Sequence[str]) -> Iterator[str]:
    """Yield a note with the names nearest to one that does not exist."""
    if near:
        yield f"nearest: {', '.join(f'`{name}`' for name in near)}"
