"""Print how many of an expert's pairs are suggested, per family.

    python -m tests.matching.families [WORD ...]

With words, only cases whose name or family has one of them, and each pair of these; `wild` and
`published` ask for the cases that were written down without a look at what is suggested.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from graphtool.matching import suggest_pairs
from tests.matching.families import CASES, PUBLISHED, WILD, Case, Verdict, graph_of, judge


def main(words: Sequence[str]) -> None:
    """Judge the cases that are asked for and print the result."""
    families: dict[str, list[Verdict]] = defaultdict(list)
    for case in (*CASES, *WILD, *PUBLISHED) if words else CASES:
        if words and not _is_meant(case, words):
            continue
        pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
        families[case.family].append(judge(case, pairs))
    verdicts = [verdict for several in families.values() for verdict in several]
    if words:
        print(*verdicts, sep="\n\n")
        print()
    print(f"{'family':24} cases  found       recall  first right  wrong  too long")
    for family, several in families.items():
        print(_row(family, several))
    print(_row("all", verdicts))


def _is_meant(case: Case, words: Sequence[str]) -> bool:
    text = f"{case.name} {case.family}".lower()
    return any(word.lower() in text for word in words)


def _row(title: str, verdicts: Sequence[Verdict]) -> str:
    found = sum(verdict.found for verdict in verdicts)
    expected = sum(len(verdict.case.expected) for verdict in verdicts)
    first = sum(verdict.leads for verdict in verdicts)
    wrong = sum(len(verdict.wrong) for verdict in verdicts)
    long = sum(verdict.length > verdict.case.most for verdict in verdicts)
    recall = found / expected if expected else float("nan")
    return (
        f"{title:24} {len(verdicts):5}  {found:4} of {expected:<4} {recall:6.2f}"
        f"  {first:4} of {len(verdicts):<4} {wrong:5} {long:9}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
