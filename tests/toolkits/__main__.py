"""Build every network of Paddle's toolkits: `python -m tests.toolkits [NAME ...] [--jobs 2]`.

With `--pairs`, go the whole way with teachers and students of them; a NAME is the teacher's then.
CONTRIBUTING says how PaddleClas and PaddleNLP are installed. Exit status: 0 where each network is
equal or refused, 1 otherwise, 2 where nothing is installed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.toolkits.networks import FOLDER, PACKAGES, TABLE, installed, networks, prepare

# No network may compute for ever, or take all memory.
_SECONDS, _GIGABYTES = 900, 16

# What became of a network, by way.
Verdicts = dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.toolkits", description=__doc__)
    parser.add_argument("names", nargs="*", help="of networks; all, where none is given")
    parser.add_argument("--package", action="append", choices=PACKAGES)
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--pairs", action="store_true", help="teachers and students, the whole way")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not installed():
        print(f"{FOLDER} holds no {' and '.join(PACKAGES)}", file=sys.stderr)
        return 2
    if given.child:
        print(json.dumps(_examined(given.package[0], given.names[0], pairs=given.pairs)))
        return 0
    wrong = 0
    for package in given.package or PACKAGES:
        for name, found in verdicts(package, given.names, pairs=given.pairs, jobs=given.jobs):
            print(f"{name}: {', '.join(f'{way} {verdict}' for way, verdict in found.items())}")
            wrong += is_wrong(found)
    return int(bool(wrong))


def verdicts(
    package: str, names: Sequence[str] = (), *, pairs: bool = False, jobs: int = 1
) -> Iterator[tuple[str, Verdicts]]:
    """Examine networks or pairs, all where none is named, each in a process of its own."""
    prepare()
    teachers = [pair["teacher"] for pair in TABLE["pairs"] if pair["package"] == package]
    known = teachers if pairs else list(networks(package))
    todo = [name for name in known if not names or name in names]
    with ThreadPoolExecutor(jobs) as pool:
        yield from zip(todo, pool.map(partial(_child, package, pairs), todo), strict=True)


def is_wrong(found: Verdicts) -> bool:
    """Return whether a network that `to_static` builds is neither equal nor refused."""
    fine = all(verdict.startswith(("equal", "refused")) for verdict in found.values())
    return "to_static" not in found and not (found and fine)


def _child(package: str, pairs: bool, name: str) -> Verdicts:  # noqa: FBT001
    command = [sys.executable, "-m", "tests.toolkits", name, "--package", package, "--child"]
    done = subprocess.run(
        [*command, *["--pairs"] * pairs],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_limit,
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return {"process": f"ended with {done.returncode}: {''.join(last)[:400]}"}
    return json.loads(done.stdout.splitlines()[-1])


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_GIGABYTES * 10**9,) * 2)


def _examined(package: str, name: str, *, pairs: bool) -> Verdicts:
    # Paddle keeps the call stack with each operator, which takes half the time of building one.
    sys.tracebacklimit = 1
    prepare()
    known = networks(package)
    if not pairs:
        from tests.toolkits.one import examine

        return examine(known[name])
    from tests.toolkits.pairs import distil

    pair = next(one for one in TABLE["pairs"] if one["teacher"] == name)
    return distil(known[name], known[pair["student"]], pair.get("sizes", {}))


if __name__ == "__main__":
    sys.exit(main())
