"""Foreign text made fit to be shown: names from model files may hold anything."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str) -> str:
    r"""Return text as one line with control characters written out: `\x1b`, never sent as such."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _written(letter) for letter in text)


def _written(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
