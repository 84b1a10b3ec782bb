"""Measure suggested pairs: `python -m tests.benchmarks.pairs [--score FOLDER] [--misses]`.

Scores the development split with its own scorer, as it is and without names and sizes. The tests'
own cases are judged by `python -m tests.matching.families`. How long suggesting takes, and how that
grows, is in `python -m tests.benchmarks analyse suggest`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.pairs.scorer import RECALLS, Result, Scorer, stripped

_SCORE = Path(__file__).parents[4] / "shared" / "score"
_PROGRESS = Console(stderr=True)
_PLAIN = "as they are"
# Of lines that are not written to a terminal.
_WIDTH = 120


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--score", type=Path, default=_SCORE, help="folder of score_pairs.py")
    parser.add_argument("--misses", action="store_true", help="list every published pair missed")
    args = parser.parse_args()
    if not (args.score / "score_pairs.py").is_file():
        parser.error(f"`{args.score}` has no score_pairs.py; name its folder: --score FOLDER")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        for table in _tables(args.score, Path(folder), misses=args.misses):
            console.print(table)


def _tables(score: Path, work: Path, *, misses: bool) -> Iterator[Table]:
    with _PROGRESS.status("reading and scoring the split"):
        scorers = _scorers(score, work)
        suggested = {name: scorer.suggested(scorer.structures) for name, scorer in scorers.items()}
        results = {name: scorer.results(suggested[name]) for name, scorer in scorers.items()}
    yield _scores(scorers, results)
    yield _architectures(results)
    if misses:
        yield _misses(results[_PLAIN])


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


if __name__ == "__main__":
    main()
