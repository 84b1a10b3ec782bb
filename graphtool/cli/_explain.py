"""`graphtool explain`: print the documentation of a diagnostic."""

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
    "graphtool.readers.tensor_files",
    "graphtool.backend.problems",
    "graphtool.backend.errors",
    "graphtool.backend.facts",
    "graphtool.sources.problems",
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

# A code or its first digits.
_CODE_START = re.compile(r"GT\d{1,3}")
_CODE_DIGITS = _MAX_NEAR = 3


def run(args: Namespace) -> int:
    """Print the documentation of one code, or the list of all."""
    docs = all_docs()
    if args.code is None:
        _show_list(docs, args.format)
    else:
        _show(docs[_find_code(args.code, docs)], args.format)
    return 0


def all_docs() -> dict[str, str]:
    """Return the documentation of every code: its title, an empty line, and the text."""
    for module in _MODULES_WITH_RULES:
        import_module(module)
    return {code: docs_of(code) or "" for code in known_codes()}


def _find_code(text: str, docs: dict[str, str]) -> str:
    """Return the code for a code or slug, ignoring case.

    Raises UsageError: GT602.
    """
    titles = {code: _title(doc) for code, doc in docs.items()}
    for code, title in titles.items():
        if text.upper() == code or text.lower() == title.partition(" ")[2]:
            return code
    if _CODE_START.fullmatch(text.upper()):
        raise UsageError(unknown_code(text, _near_codes(text.upper(), titles)))
    titles_by_word = {word: title for title in titles.values() for word in title.split()}
    near = difflib.get_close_matches(text, titles_by_word, n=3, cutoff=0.5)
    near_titles = tuple(dict.fromkeys(titles_by_word[word] for word in near))
    raise UsageError(unknown_code(text, near_titles))


def _near_codes(text: str, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the titles of the nearest codes with the same first digit."""
    number = int(text[2:].ljust(_CODE_DIGITS, "0"))
    same_range = [code for code in titles if int(code[2:]) // 100 == number // 100]
    nearest = sorted(same_range, key=lambda code: (abs(int(code[2:]) - number), code))
    return tuple(titles[code] for code in nearest[:_MAX_NEAR])


def _title(text: str) -> str:
    return text.partition("\n")[0]


def _show_list(docs: dict[str, str], format: str) -> None:
    if format == "json":
        write_json([_docs_data(text) for text in docs.values()])
        return
    console = results()
    for text in docs.values():
        console.print(_title(text), soft_wrap=True)
    console.print("\ngraphtool explain CODE says what one of them means", style="dim")


def _show(text: str, format: str) -> None:
    if format == "json":
        write_json(_docs_data(text))
        return
    console = results()
    title, _, body = text.partition("\n\n")
    console.print(title, style="bold")
    for paragraph in body.split("\n\n"):
        console.print()
        console.print(_unwrapped(paragraph))


def _docs_data(text: str) -> dict[str, str]:
    title, _, body = text.partition("\n\n")
    code, _, slug = title.partition(" ")
    return {"code": code, "slug": slug, "docs": body}


def _unwrapped(paragraph: str) -> str:
    """Join the lines of a paragraph for the terminal to wrap, unless some are indented."""
    lines = paragraph.split("\n")
    return paragraph if any(line.startswith(" ") for line in lines) else " ".join(lines)
