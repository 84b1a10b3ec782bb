"""Build every network of Paddle's toolkits: `python -m tests.toolkits [NAME ...] [--jobs 2]`.

CONTRIBUTING says how PaddleClas and PaddleNLP are installed. What was found before is kept in
`build/toolkits-PACKAGE.json`, and found anew with `--again`. Exit status: 0 where each network is equal or
refused, 1 otherwise.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.toolkits.farm import Facts, run
from tests.toolkits.networks import FOLDER, PACKAGES, installed, networks, prepare

RESULTS = Path("build")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.toolkits", description=__doc__)
    parser.add_argument("names", nargs="*", help="of networks; all, where none is given")
    parser.add_argument("--package", action="append", choices=PACKAGES)
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--again", action="store_true", help="those that were done before as well")
    given = parser.parse_args(arguments)
    if not installed():
        print(f"{FOLDER} holds no {' and '.join(PACKAGES)}", file=sys.stderr)
        return 2
    found = examined(
        given.package or PACKAGES, given.names, jobs=given.jobs, again=given.again or given.names
    )
    console = Console(width=None if sys.stdout.isatty() else 160)
    for package, results in found.items():
        console.print(table(package, results), *lines(results), sep="\n")
    return int(any(bad(facts) for results in found.values() for facts in results.values()))


def examined(
    packages: Sequence[str], names: Sequence[str] = (), *, jobs: int = 1, again: bool = True
) -> dict[str, dict[str, Facts]]:
    """Examine networks, all where none is named; what was found before stays unless `again`."""
    prepare()
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Facts]] = {}
    for package in packages:
        works = {
            name: partial(_examine, candidate)
            for name, candidate in networks(package).items()
            if not names or name in names
        }
        file = RESULTS / f"toolkits-{package}.json"
        known: dict[str, Facts] = json.loads(file.read_text()) if file.exists() else {}
        todo = {name: work for name, work in works.items() if again or name not in known}
        for place, (name, facts) in enumerate(run(todo, RESULTS / "toolkits-logs", jobs=jobs), 1):
            known[name] = facts
            print(f"{place}/{len(todo)} {name}: {summary(facts)}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(known, indent=1))
        found[package] = {name: known[name] for name in works if name in known}
    return found


def _examine(candidate: object, tell: object) -> None:
    # Paddle keeps the call stack with each operator, which takes half the time of building one.
    sys.tracebacklimit = 1
    gc.set_threshold(50_000)
    # Before its first use in a child there is no thread that a fork would lose.
    from tests.toolkits.one import examine

    examine(candidate, tell)


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
    if "to_static" in facts:
        return False
    return not (facts["ways"] and all(map(_fine, facts["ways"].values())))


def _fine(way: Facts) -> bool:
    return way.get("verdict", "").startswith(("equal", "refused"))


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
    """Yield the largest and slowest, and what is not equal."""
    for unit in ("seconds", "gigabytes"):
        most = max(
            (
                (one.get(unit, 0), name, way)
                for name, facts in results.items()
                for way, one in facts["ways"].items()
            ),
            default=None,
        )
        if most is not None:
            yield f"most {unit}: {most[0]} for {most[1]} from a {most[2]}"
    for name, facts in results.items():
        if "to_static" in facts or any(
            one.get("verdict") != "equal" for one in facts["ways"].values()
        ):
            yield f"{name}: {summary(facts)}"


if __name__ == "__main__":
    sys.exit(main())
