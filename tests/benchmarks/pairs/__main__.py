"""Measure suggested pairs: `python -m tests.benchmarks.pairs [--score FOLDER] [--misses]`.

Scores the development split with its own scorer, as it is and without names and sizes; judges the
tests' own families; halves and doubles each constant; and cross-validates a choice among those. How
long suggesting takes, and how that grows, is in `python -m tests.benchmarks analyse suggest`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphtool.matching import PairSet
from tests.benchmarks.pairs.constants import CONSTANTS, FACTORS, Constant, changed
from tests.benchmarks.pairs.scorer import RECALLS, Job, Result, Scorer, stripped

if TYPE_CHECKING:
    from tests.benchmarks.pairs.families import Families

_SCORE = Path(__file__).parents[4] / "shared" / "score"
_PROGRESS = Console(stderr=True)
_PLAIN = "as they are"
# Of lines that are not written to a terminal.
_WIDTH = 120


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--score", type=Path, default=_SCORE, help="folder of score_pairs.py")
    parser.add_argument("--no-families", action="store_true", help="leave out what needs Paddle")
    parser.add_argument("--misses", action="store_true", help="list every published pair missed")
    args = parser.parse_args()
    if not (args.score / "score_pairs.py").is_file():
        parser.error(f"`{args.score}` has no score_pairs.py; name its folder: --score FOLDER")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        for table in _tables(
            args.score, Path(folder), paddle=not args.no_families, misses=args.misses
        ):
            console.print(table)


def _tables(score: Path, work: Path, *, paddle: bool, misses: bool) -> Iterator[Table]:
    with _PROGRESS.status("reading and scoring the split"):
        scorers = _scorers(score, work)
        suggested = {name: scorer.suggested(scorer.structures) for name, scorer in scorers.items()}
        results = {name: scorer.results(suggested[name]) for name, scorer in scorers.items()}
    plain = results[_PLAIN]
    yield _scores(scorers, results)
    yield _architectures(results)
    if misses:
        yield _misses(plain)
    with _PROGRESS.status("building families"):
        families = _built_families() if paddle else None
    if families is not None:
        yield families.table()
    variants = list(_variants(scorers[_PLAIN], suggested[_PLAIN], families))
    yield _sensitivity(scorers[_PLAIN], plain, variants, families)
    yield _cross_validation(plain, variants)


def _built_families() -> Families:
    from tests.benchmarks.pairs.families import Families

    return Families()


def _scorers(folder: Path, work: Path) -> Mapping[str, Scorer]:
    plain = Scorer(folder=folder, programs=folder / "programs", work=work / "plain")
    return {_PLAIN: plain, "stripped": stripped(folder, work / "bare")}


def _scores(scorers: Mapping[str, Scorer], results: Mapping[str, Sequence[Result]]) -> Table:
    table = Table(title="development split")
    for head in ("programs", "measure", "mean", "95 % interval", "mean per architecture pair"):
        table.add_column(head)
    for name, scorer in scorers.items():
        for key, recall in RECALLS.items():
            low, high = scorer.interval(results[name], key)
            means = scorer.mean(results[name], key), scorer.mean_of_pairs(results[name], key)
            row = f"{means[0]:.4f}", f"{low:.3f} to {high:.3f}", f"{means[1]:.4f}"
            table.add_row(name, recall, *row)
    return table


def _architectures(results: Mapping[str, Sequence[Result]]) -> Table:
    """Tabulate the mean of each pair of architectures, and which change where names are gone."""
    table = Table(title="pairs of architectures, recall@8 and recall@n")
    for head in ("teacher -> student", "configurations", *results, "change when stripped"):
        table.add_column(head)
    groups = {name: _by_architectures(several) for name, several in results.items()}
    for pair in groups[_PLAIN]:
        cells = [_recalls(several[pair]) for several in groups.values()]
        moved = sum(
            any(plain[recall] != bare[recall] for recall in RECALLS)
            for plain, bare in zip(*(several[pair] for several in groups.values()), strict=True)
        )
        count = len(groups[_PLAIN][pair])
        table.add_row(pair, str(count), *cells, str(moved) if moved else "")
    return table


def _by_architectures(results: Sequence[Result]) -> Mapping[str, Sequence[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["pair"], []).append(result)
    return found


def _recalls(results: Sequence[Result]) -> str:
    means = (sum(result[key] for result in results) / len(results) for key in RECALLS)
    return "  ".join(f"{mean:.3f}" for mean in means)


def _misses(results: Sequence[Result]) -> Table:
    table = Table(title="published pairs that are not among the first n")
    for head in ("configuration", "teacher -> student", "pair", "kind", "where it is"):
        table.add_column(head)
    for result in results:
        for pair in result["per_pair"]:
            if not pair["n_tap"]:
                place = "among 8" if pair["k_tap"] else "later" if pair["any_tap"] else "not listed"
                table.add_row(result["config"], result["pair"], pair["id"], pair["kind"], place)
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What comes out with one constant changed; `moved` counts lists that are other than before."""

    constant: Constant
    factor: Fraction
    results: Sequence[Result]
    moved: int
    found: int
    wrong: int


def _variants(
    scorer: Scorer, suggested: Mapping[Job, PairSet], families: Families | None
) -> Iterator[_Variant]:
    changes = [(constant, factor) for constant in CONSTANTS for factor in FACTORS]
    before = None if families is None else families.judged()
    for constant, factor in track(changes, "changing constants", console=_PROGRESS):
        with changed(constant, factor):
            structures = scorer.analysed() if constant.analysed else scorer.structures
            pairs = scorer.suggested(structures)
            after = None if families is None else families.judged(anew=constant.analysed)
        moved = sum(_ends(pairs[job]) != _ends(suggested[job]) for job in pairs)
        if after is not None and before is not None:
            moved += after.moved(before)
        yield _Variant(
            constant=constant,
            factor=factor,
            results=scorer.results(pairs),
            moved=moved,
            found=after.found if after is not None else 0,
            wrong=after.wrong if after is not None else 0,
        )


def _ends(pairs: PairSet) -> list[tuple[str, str, str]]:
    return [(pair.kind.value, pair.teacher.name, pair.student.name) for pair in pairs]


def _sensitivity(
    scorer: Scorer, plain: Sequence[Result], variants: Sequence[_Variant], families: Families | None
) -> Table:
    """Tabulate what halving and doubling each constant does; only what changes is written."""
    lists = len(scorer.jobs) + (0 if families is None else len(families.cases))
    table = Table(title="sensitivity: each constant halved and doubled")
    heads = ("constant", "×", *RECALLS.values(), "families found", "wrong", f"of {lists} lists")
    for head in heads:
        table.add_column(head)
    base = [scorer.mean(plain, key) for key in RECALLS]
    judged = None if families is None else families.judged()
    found, wrong = ("-", "-") if judged is None else (str(judged.found), str(judged.wrong))
    table.add_row(_PLAIN, "1", *(f"{mean:.4f}" for mean in base), found, wrong, "-")
    for one in variants:
        means = [scorer.mean(one.results, key) for key in RECALLS]
        changes = [f"{mean - old:+.4f}" for mean, old in zip(means, base, strict=True)]
        counts = ("-", "-") if judged is None else _differences(one, judged.found, judged.wrong)
        table.add_row(str(one.constant), str(one.factor), *changes, *counts, str(one.moved))
    return table


def _differences(variant: _Variant, found: int, wrong: int) -> tuple[str, str]:
    return f"{variant.found - found:+}", f"{variant.wrong - wrong:+}"


def _cross_validation(plain: Sequence[Result], variants: Sequence[_Variant]) -> Table:
    """Choose among the variants without one family of teachers, and score that family.

    The constants were set by reasons and not by a search; this says what a search over halves and
    doubles would gain on other families, and so how much there is to be fitted.
    """
    table = Table(title="one family of teachers left out: chosen on the others, scored on it")
    for head in ("family", "configurations", "chosen", _PLAIN, "chosen scores"):
        table.add_column(head)
    held: list[Result] = []
    for family, members in _families(plain).items():
        others = [index for index in range(len(plain)) if index not in members]
        best = max(variants, key=lambda one: _fitness(one.results, others))
        gains = _fitness(best.results, others) > _fitness(plain, others)
        chosen = best.results if gains else plain
        held += [chosen[index] for index in members]
        name = f"{best.constant} × {best.factor}" if gains else _PLAIN
        sides = (_recalls([side[index] for index in members]) for side in (plain, chosen))
        table.add_row(family, str(len(members)), name, *sides)
    table.add_section()
    table.add_row("all", str(len(plain)), "", _recalls(plain), _recalls(held))
    best = max(variants, key=lambda one: _fitness(one.results, range(len(plain))))
    name = f"{best.constant} × {best.factor}"
    table.add_row("best on all itself", str(len(plain)), name, "", _recalls(best.results))
    return table


def _fitness(results: Sequence[Result], members: Sequence[int]) -> float:
    return sum(results[index][key] for index in members for key in RECALLS)


def _families(results: Sequence[Result]) -> Mapping[str, list[int]]:
    """Group configurations by collection and name of the teacher, without its depth and width."""
    found: dict[str, list[int]] = {}
    for index, result in enumerate(results):
        collection, name = result["pair"].partition("->")[0].split(":")
        stem = re.match("[A-Za-z]*", name.removeprefix("tv_"))
        found.setdefault(f"{collection}:{stem[0] if stem else name}", []).append(index)
    return found


if __name__ == "__main__":
    main()
