"""What crashes an interpreter with Paddle alone is a Diagnostic through graphtool, or works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
# Of a dead Value, a dead Block and a dead operation.
_OUTCOMES = {
    "a dead Value in a loss": "GT340",
    "a dead Value in a loss of one's own": "GT340",
    "a dead Value as what a loss of one's own returns": "GT353",
    "a dead loss": "GT340",
    "a dead loss with a startup program": "GT340",
    "a loss whose operator was removed": "GT340",
    "a loss whose operator was removed, with a startup program": "GT340",
    "a loss of another Program, with a startup program": "GT340",
    "the dead as parameters": ["GT534"] * 3,
    "the dead without gradient": ["GT248"] * 3,
    "a dead Value fetched": "GT253",
    "a dead Value as a weight": "GT347",
    "the dead as an option": ["GT347"] * 3,
    "the dead as a side": ["GT347"] * 3,
    "the dead as pairs": ["GT248"] * 3,
    "the dead as keys of weights": ["GT347"] * 3,
    "the dead as Programs": ["GT248"] * 3,
    "the dead as a place": ["GT248"] * 3,
    "the dead as a feed map": ["GT248"] * 3,
    "the dead as a word": ["GT248"] * 3,
    "the dead to be trained": ["GT248"] * 3,
    "the dead to be read": ["GT036"] * 3,
    "a Value of the teacher's own Program": "GT340",
    "a Value of a clone that died": "GT340",
    "a name whose operator was removed": "GT031",
    "a Value whose operator was removed": "GT340",
    "one optimizer for two Programs": [6, "GT531"],
    "a loss differentiated twice before": [6, True],
    "a merged Program after a pass": ["GT031"] * 5,
    "a merged Program normalised": [["add_2"], "GT340", True],
    "a label of another Program": "GT340",
    "a weight of another Program": "GT347",
    "an adapter of another Program": "GT340",
    "a dead Value in an adapter": "GT340",
    "what was built before all else died": [[], [-1, 5], [4, 5]],
    "a Program that changed since": "GT031",
    "a Graph whose Program is gone": [20, 40],
    "Values of an evaluation that is gone": "GT253",
    "copies of what holds Values": [True, True, True],
    "a Program merged into itself": True,
    "a Program merged into its clone": True,
    "a merged Program merged into its teacher": True,
    "a merged Program merged into itself": True,
    "one teacher of two students": [True, True],
    "a merge inside of the teacher's guard": [True, True],
    "Scopes that nobody else holds": True,
    "a teacher that nobody else holds": [-1, 5],
}


@pytest.mark.nightly
def test_nothing_that_is_dead_foreign_or_its_own_teacher_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.merging.misuse"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout[done.stdout.index("{") :]) == _OUTCOMES
