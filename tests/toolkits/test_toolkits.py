"""Networks of Paddle's own toolkits are built as Paddle builds them (`python -m tests.toolkits`).

Marked `longest`: hundreds of networks take hours. CONTRIBUTING says how the packages are installed.
"""

from __future__ import annotations

import os

import pytest

from tests.toolkits.__main__ import is_wrong, verdicts
from tests.toolkits.networks import FOLDER, PACKAGES, TABLE, installed

pytestmark = [
    pytest.mark.pir,
    pytest.mark.nightly,
    pytest.mark.longest,
    pytest.mark.skipif(not installed(), reason=f"{FOLDER} holds no {' and '.join(PACKAGES)}"),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_network_is_built_with_equal_weights_and_numbers_or_refused(package: str) -> None:
    found = dict(verdicts(package, jobs=os.cpu_count() or 1))
    assert sum("to_static" not in one for one in found.values()) >= TABLE[package]["built"]
    assert {name: one for name, one in found.items() if is_wrong(one)} == {}


def test_twelve_pairs_go_the_whole_way_to_an_export() -> None:
    jobs = os.cpu_count() or 1
    found = [pair for package in PACKAGES for pair in verdicts(package, pairs=True, jobs=jobs)]
    assert len(found) == 12
    assert [pair for pair in found if is_wrong(pair[1])] == []
