"""Names that look the same and are not, or are spelt nearly the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

__all__ = ["alike", "alike_notes", "closest", "near_notes", "told_apart"]

# Letters of other scripts by their code points, and the ASCII letter that each is drawn as
# (Unicode Technical Standard 39, confusables); then those of ASCII that fonts draw alike.
_LOOKS = (
    "0131i 0251a 0261g 0391A 0392B 0395E 0396Z 0397H 0399I 039aK 039cM 039dN 039fO 03a1P 03a4T "
    "03a5Y 03a7X 03b1a 03b3y 03b9i 03bak 03bdv 03bfo 03c1p 03c5u 03f2c 0405S 0406I 0408J 0410A "
    "0412B 0415E 041aK 041cM 041dH 041eO 0420P 0421C 0422T 0423Y 0425X 0430a 0435e 043ak 043eo "
    "0440p 0441c 0443y 0445x 0455s 0456i 0458j 04afy 04bbh 04c0l 04cfl 0501d 051bq 051dw 0570h "
    "0578n 057du 0585o 2010- 2011- 2012- 2013- 2014- 2044/ 2212- 2215/ 2236:"
)
_ONE_LOOK = str.maketrans("0I1|", "Olll")
_DRAWN_AS = _ONE_LOOK | {int(pair[:4], 16): pair[4].translate(_ONE_LOOK) for pair in _LOOKS.split()}
# Letters of a name: the time to compare two grows with the product of their lengths.
_COMPARED = 200
# What is longer is shown without its middle.
_LONGEST = 1000
_UNSEEN = {"Mn", "Me", "Cf", "Cc", "Zs", "Zl", "Zp"}


def alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that looks like an earlier one, and is not the same, behind that one."""
    looks: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        looks.setdefault(_look(name), []).append(name)
    for found in looks.values():
        yield from pairwise(found)


def closest(wanted: str, known: Iterable[str], *, most: int = 1, cutoff: float) -> list[str]:
    """Return the names that are spelt most like one, the closest first, from `cutoff` of 1 on."""
    from difflib import get_close_matches

    starts: dict[str, str] = {}
    for name in known:
        starts.setdefault(name[:_COMPARED], name)
    found = get_close_matches(wanted[:_COMPARED], starts, n=most, cutoff=cutoff)
    return [starts[start] for start in found]


def near_notes(wanted: str, near: Sequence[str]) -> Iterator[str]:
    """Say what is most like a name that does not exist, and where that looks the same."""
    if near:
        yield f"nearest: {', '.join(f'`{name}`' for name in near)}"
    yield from alike_notes(wanted, near)


def alike_notes(wanted: str, names: Iterable[str]) -> Iterator[str]:
    """Say where a name differs from those that it looks like."""
    for name in names:
        apart = told_apart(wanted, name)
        if apart is not None:
            yield f"they look the same: {apart}"


def told_apart(name: str, other: str) -> str | None:
    """Say at which letter a name is not another that it looks like; None where it does not."""
    if name == other or _look(name) != _look(other):
        return None
    shared = next(
        (place for place, (a, b) in enumerate(zip(name, other, strict=False)) if a != b),
        min(len(name), len(other)),
    )
    letters = _letter(name[shared : shared + 1]), _letter(other[shared : shared + 1])
    return f"`{name}` has {letters[0]} where `{other}` has {letters[1]}"


def _look(name: str) -> str:
    if len(name) > _LONGEST:
        return name
    if name.isascii() and name.isprintable():
        return name.translate(_DRAWN_AS)
    # Before as well: NFKD makes of some letters others that are drawn otherwise.
    shown = unicodedata.normalize("NFKD", name.translate(_DRAWN_AS))
    seen = (letter for letter in shown if unicodedata.category(letter) not in _UNSEEN)
    return "".join(seen).translate(_DRAWN_AS)


def _letter(letter: str) -> str:
    if not letter:
        return "nothing more"
    return f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".rstrip()
