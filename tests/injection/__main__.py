"""Inject a failure at every step: `python -m tests.injection [--quick] [SCENARIO...]`.

With `--quick` only the first and the last step at each place in the code.
"""

from __future__ import annotations

import sys
import time
import warnings

from tests.injection.injecting import Kind, ends, every, inject
from tests.injection.scenarios import SCENARIOS


def main(arguments: list[str]) -> int:
    warnings.simplefilter("ignore")
    chosen = ends if "--quick" in arguments else every
    names = [name for name in arguments if name != "--quick"] or list(SCENARIOS)
    wrong = 0
    for name in names:
        for kind in Kind:
            started = time.monotonic()
            tally = inject(SCENARIOS[name], kind, chosen)
            raised = ", ".join(f"{count} {what}" for what, count in tally.raised.most_common())
            seconds = f"{time.monotonic() - started:.0f} s"
            print(f"{name:22} {kind.value:24} {tally.count:6} {seconds:>7}  {raised}", flush=True)
            if tally.done:
                print(f"    {tally.done} came when all was done", flush=True)
            for one in dict.fromkeys(tally.wrong):
                print(f"    WRONG {one}", flush=True)
            wrong += len(tally.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
