"""`graphtool explain`: the documentation of a diagnostic."""

from __future__ import annotations

import difflib
import re
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module

from graphtool.cli._console import results, write_json
from graphtool.cli.problems import unknown_code
from graphtool.diagnostics import UsageError, docs_of, known_codes

__all__ = ["all_docs", "run"]

# Importing a module registers its rules.
_MODULES_WITH_RULES = (
    "graphtool.files",
    "graphtool.selectors",
    "graphtool.readers.problems",
    "graphtool.matching.problems",
    "graphtool.matching.config_problems",
    "graphtool.matching.evidence_problems",
    "graphtool.checks",
    "graphtool.merging.problems",
    "graphtool.merging.folder",
    "graphtool.training.evaluation_problems",
    "graphtool.training.export_problems",
    "graphtool.losses.pair_problems",
    "graphtool.losses.problems",
    "graphtool.training.problems",
    "graphtool.training.minimize_problems",
    "graphtool.training.rank_problems",
    "graphtool.training.checkpoint_problems",
    "graphtool.rendering.problems",
    "graphtool.cli.problems",
)

# A code, or the start of one.
_CODE = re.compile(r"GT\d{1,3}")
_DIGITS = _NEAREST = 3


def run(args: Namespace) -> int:
    """Print the documentation of one code, or the list of all."""
    docs = all_docs()
    if args.code is None:
        _show_list(docs, args.format)
    else:
        _show(docs[_code(args.code, docs)], args.format)
    return 0


def all_docs() -> dict[str, str]:
    """Return the documentation of every code: its title, an empty line, and what it means."""
    for module in _MODULES_WITH_RULES:
        import_module(module)
    return {code: docs_of(code) or "" for code in known_codes()}


def _code(wanted: str, docs: dict[str, str]) -> str:
    """Return the code that a code or slug means, in any case."""
    titles = {code: _title(text) for code, text in docs.items()}
    for code, title in titles.items():
        if wanted.upper() == code or wanted.lower() == title.partition(" ")[2]:
            return code
    if _CODE.fullmatch(wanted.upper()):
        raise UsageError(unknown_code(wanted, _near_codes(wanted.upper(), titles)))
    spellings = {spelling: title for title in titles.values() for spelling in title.split()}
    near = difflib.get_close_matches(wanted, spellings, n=3, cutoff=0.5)
    titles_near = tuple(dict.fromkeys(spellings[name] for name in near))
    raise UsageError(unknown_code(wanted, titles_near))


def _near_codes(wanted: str, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the titles of the nearest codes that belong to the same part of graphtool."""
    number = int(wanted[2:].ljust(_DIGITS, "0"))
    same = [code for code in titles if int(code[2:]) // 100 == number // 100]
    nearest = sorted(same, key=lambda code: (abs(int(code[2:]) - number), code))[:_NEAREST]
    return tuple(titles[code] for code in nearest)


def _title(text: str) -> str:
    return text.partition("\n")[0]


def _show_list(docs: dict[str, str], format: str) -> None:
    if format == "json":
        write_json([_data(text) for text in docs.values()])
        return
    console = results()
    for text in docs.values():
        console.print(_title(text), soft_wrap=True)
    console.print("\ngraphtool explain CODE says what one of them means", style="dim")


def _show(text: str, format: str) -> None:
    if format == "json":
        write_json(_data(text))
        return
    console = results()
    title, _, body = text.partition("\n\n")
    console.print(title, style="bold")
    for paragraph in body.split("\n\n"):
        console.print()
        console.print(_flowing(paragraph))


def _data(text: str) -> dict[str, str]:
    title, _, body = text.partition("\n\n")
    code, _, slug = title.partition(" ")
    return {"code": code, "slug": slug, "docs": body}


def _flowing(paragraph: str) -> str:
    """Join the lines of a paragraph for the terminal to break; indented ones stay as they are."""
    lines = paragraph.split("\n")
    return paragraph if any(line.startswith(" ") for line in lines) else " ".join(lines)
