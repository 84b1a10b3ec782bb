"""Merge, suggest, distil, verify, draw and export hundreds of times in one process.

`python -m tests.soak --rounds 500` does so with Programs of either kind, and says by how much
memory, objects, open files, threads and temporary files grow by the round. What Paddle does alone
in the same rounds is the control.
"""

from __future__ import annotations

import argparse
from functools import partial

import paddle

from tests.soak.measures import soak
from tests.soak.rounds import control, everything

WORKS = {"control": control, "graphtool": everything}


def main() -> None:
    parser = argparse.ArgumentParser(description="Do everything many times in one process.")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--only", choices=WORKS, action="append")
    parser.add_argument("--kind", choices=("PIR", "legacy"), action="append")
    given = parser.parse_args()
    paddle.enable_static()
    for kind in given.kind or ("PIR", "legacy"):
        for name in given.only or WORKS:
            work = partial(WORKS[name], legacy=kind == "legacy")
            print(f"{kind:6} {name:9} {soak(work, given.rounds, given.rounds // 4)}", flush=True)


if __name__ == "__main__":
    main()
