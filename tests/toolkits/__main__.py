"""Build every network of Paddle's toolkits: `python -m tests.toolkits [NAME ...] [--jobs 2]`.

With `--pairs`, go the whole way with teachers and students of them; a NAME is the teacher's then.
CONTRIBUTING says how PaddleClas and PaddleNLP are installed. What was found is kept in
`build/toolkits-PACKAGE.json`, and found anew with `--again`, or for what is named. Exit status: 0
where each network is equal or refused, 1 otherwise, 2 where nothing is installed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from tests.toolkits.farm import Facts, Work, run
from tests.toolkits.networks import FOLDER, PACKAGES, TABLE, installed, networks, prepare

RESULTS = FOLDER.parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.toolkits", description=__doc__)
    parser.add_argument("names", nargs="*", help="of networks; all, where none is given")
    parser.add_argument("--package", action="append", choices=PACKAGES)
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--pairs", action="store_true", help="teachers and students, the whole way")
    parser.add_argument("--again", action="store_true", help="those that were done before as well")
    given = parser.parse_args(arguments)
    if not installed():
        print(f"{FOLDER} holds no {' and '.join(PACKAGES)}", file=sys.stderr)
        return 2
    again = given.again or bool(given.names)
    find = distilled if given.pairs else examined
    found = find(given.package or PACKAGES, given.names, jobs=given.jobs, again=again)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for package, results in found.items():
        console.print(table(package, results), *lines(results), sep="\n")
    return int(any(bad(facts) for results in found.values() for facts in results.values()))


def examined(
    packages: Sequence[str], names: Sequence[str] = (), *, jobs: int = 1, again: bool = True
) -> dict[str, dict[str, Facts]]:
    """Examine networks, all where none is named; what was found before stays unless `again`."""

    def works(package: str) -> dict[str, Work]:
        return {
            name: partial(_work, "one", "examine", candidate)
            for name, candidate in networks(package).items()
            if not names or name in names
        }

    return _found(packages, works, jobs=jobs, again=again)


def distilled(
    packages: Sequence[str], names: Sequence[str] = (), *, jobs: int = 1, again: bool = True
) -> dict[str, dict[str, Facts]]:
    """Go the whole way with all pairs, or those of which the teacher is named."""

    def works(package: str) -> dict[str, Work]:
        known, found = networks(package), dict[str, Work]()
        for pair in TABLE["pairs"]:
            teacher, student = pair["teacher"], pair["student"]
            if pair["package"] == package and (not names or teacher in names):
                given = known[teacher], known[student], pair.get("sizes", {})
                found[f"{teacher} to {student}"] = partial(_work, "pairs", "distil", *given)
        return found

    return _found(packages, works, jobs=jobs, again=again)


def _found(
    packages: Sequence[str], works_of: Callable[[str], dict[str, Work]], *, jobs: int, again: bool
) -> dict[str, dict[str, Facts]]:
    prepare()
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Facts]] = {}
    for package in packages:
        file, works = RESULTS / f"toolkits-{package}.json", works_of(package)
        known: dict[str, Facts] = json.loads(file.read_text()) if file.exists() else {}
        todo = {name: work for name, work in works.items() if again or name not in known}
        for place, (name, facts) in enumerate(run(todo, RESULTS / "toolkits-logs", jobs=jobs), 1):
            known[name] = facts
            print(f"{place}/{len(todo)} {name}: {summary(facts)}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(known, indent=1))
        found[package] = {name: known[name] for name in works if name in known}
    return found


def _work(module: str, function: str, *given: object) -> None:
    # Paddle keeps the call stack with each operator, which takes half the time of building one.
    sys.tracebacklimit = 1
    gc.set_threshold(50_000)
    # What uses Paddle is imported where it is used: a fork loses the threads of its parent.
    getattr(importlib.import_module(f"tests.toolkits.{module}"), function)(*given)


def summary(facts: Facts) -> str:
    """Say in a line what became of a network."""
    if why := facts.get("to_static"):
        return f"not built by to_static: {why}"
    return ", ".join(
        f"{way} {one.get('verdict')}"
        + (f" ({one['why'].splitlines()[0]})" if one.get("why") else "")
        for way, one in facts["ways"].items()
    )


def bad(facts: Facts) -> bool:
    """Return whether a network is wrong, hangs, takes too much, or ends in a traceback."""
    verdicts = [way.get("verdict", "") for way in facts["ways"].values()]
    fine = verdicts and all(verdict.startswith(("equal", "refused")) for verdict in verdicts)
    return "to_static" not in facts and not fine


def table(package: str, results: dict[str, Facts]) -> Table:
    """Count verdicts by way."""
    built = {name: facts for name, facts in results.items() if "to_static" not in facts}
    page = Table(
        "way",
        "verdict",
        "networks",
        title=f"{package}: {len(results)} networks, of which to_static builds {len(built)}",
        title_justify="left",
    )
    counts = Counter(
        (way, one.get("verdict", "?"))
        for facts in built.values()
        for way, one in facts["ways"].items()
    )
    for (way, verdict), count in sorted(counts.items()):
        page.add_row(way, verdict, str(count))
    return page


def lines(results: dict[str, Facts]) -> Iterator[str]:
    """Yield the slowest, and what is not equal."""
    ways = [(name, *item) for name, facts in results.items() for item in facts["ways"].items()]
    for name, way, one in sorted(ways, key=lambda found: -found[2].get("seconds", 0))[:1]:
        yield f"most seconds: {one.get('seconds')} for {name} from a {way}"
    for name, facts in results.items():
        verdicts = {one.get("verdict") for one in facts["ways"].values()}
        if "to_static" in facts or verdicts != {"equal"}:
            yield f"{name}: {summary(facts)}"


if __name__ == "__main__":
    sys.exit(main())
