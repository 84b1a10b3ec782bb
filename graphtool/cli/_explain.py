"""`graphtool explain`: print the documentation of a diagnostic."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import graphtool
from graphtool.cli._console import results, write_json
from graphtool.diagnostics import Diagnostic, UsageError, registered_docs, replacements, rule
from graphtool.text import closest, near_notes

__all__ = ["GONE", "all_docs", "run_explain"]

_DEFINES_RULES = re.compile(r'^@(rule|check|documented)\(\s*"GT', re.MULTILINE)

# Codes of what graphtool no longer does, with what to do instead.
GONE: Mapping[str, str] = {
    "GT113": "Names that look alike are no longer looked for; `--format json` escapes all letters.",
    "GT238": "Weights that several operators of the teacher read stay tied; nothing notes it.",
    "GT245": "Quantised networks are merged as they are, with their rounding; nothing warns of it.",
    "GT382": "CKA is no longer measured without outliers. If one sample is many times as large as "
    "the others, normalise the samples and measure again.",
    **dict.fromkeys(
        ("GT538", "GT545", "GT548"),
        "A lost rank is no longer named: Paddle's launcher stops all once one has failed. The "
        "cause is in the log of the rank that failed first, `log/workerlog.N`.",
    ),
}

# A code or its first digits.
_CODE_START = re.compile(r"GT\d{1,3}")
_CODE_DIGITS = _MAX_NEAR = 3
_LINE = "\n"


@rule("GT602")
def unknown_code(code: str, near: Sequence[str]) -> Diagnostic:
    """No diagnostic has this code or slug.

    A code is GT and three digits, as in `error[GT001] no-such-path`; `graphtool explain` without a
    code lists all of them.
    """
    return Diagnostic(
        message=f"no diagnostic is called `{code}`",
        notes=tuple(near_notes(near)),
        help=f"graphtool explain {near[0].split()[0]}" if near else "graphtool explain",
    )


def run_explain(args: Namespace) -> int:
    """Print the documentation of one code, or the list of all."""
    docs, console, is_json = all_docs(), results(), args.format == "json"
    if args.code is None:
        if is_json:
            write_json(list(map(_docs_data, docs.values())))
            return 0
        for text in docs.values():
            console.print(_title(text), soft_wrap=True)
        console.print("\ngraphtool explain CODE says what one of them means", style="dim")
        return 0
    old = args.code.upper()
    if old in GONE:
        text = f"{old} gone\n\n{GONE[old]}"
    else:
        code = replacements().get(old) or _find_code(args.code, docs)
        text = docs[code]
        if old in replacements() and not is_json:
            console.print(f"{old} is now {code}\n", style="dim")
    if is_json:
        write_json(_docs_data(text))
        return 0
    title, *paragraphs = text.split("\n\n")
    console.print(title, style="bold")
    for paragraph in paragraphs:
        # The terminal wraps the lines of a paragraph, unless some are indented.
        is_code = any(line.startswith(" ") for line in paragraph.split(_LINE))
        console.print(f"\n{paragraph if is_code else paragraph.replace(_LINE, ' ')}")
    return 0


def all_docs() -> dict[str, str]:
    """Return the documentation of every code: its title, an empty line, and the text."""
    package = Path(graphtool.__file__).parent
    for file in sorted(package.rglob("*.py")):
        if _DEFINES_RULES.search(file.read_text("utf-8")):
            parts = file.relative_to(package).with_suffix("").parts
            import_module(".".join((graphtool.__name__, *parts)))
    return dict(sorted(registered_docs().items()))


def _find_code(text: str, docs: Mapping[str, str]) -> str:
    """Return the code for a code or slug, ignoring case.

    Raises UsageError: GT602, with the nearest codes of the same hundred, or the nearest slugs.
    """
    titles = {code: _title(doc) for code, doc in docs.items()}
    for code, title in titles.items():
        if text.upper() == code or text.lower() == title.partition(" ")[2]:
            return code
    if _CODE_START.fullmatch(text.upper()):
        number = int(text[2:].ljust(_CODE_DIGITS, "0"))
        same_range = [code for code in titles if int(code[2:]) // 100 == number // 100]
        nearest = sorted(same_range, key=lambda code: (abs(int(code[2:]) - number), code))
        raise UsageError(unknown_code(text, [titles[code] for code in nearest[:_MAX_NEAR]]))
    titles_by_word = {word: title for title in titles.values() for word in title.split()}
    near = closest(text, titles_by_word, most=_MAX_NEAR, cutoff=0.5)
    raise UsageError(unknown_code(text, list(dict.fromkeys(titles_by_word[one] for one in near))))


def _title(text: str) -> str:
    return text.partition("\n")[0]


def _docs_data(text: str) -> dict[str, str]:
    title, _, body = text.partition("\n\n")
    code, _, slug = title.partition(" ")
    return {"code": code, "slug": slug, "docs": body}
