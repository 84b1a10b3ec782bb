"""Networks of Paddle's own toolkits are built as Paddle builds them (`python -m tests.toolkits`).

Marked `longest`: hundreds of networks take hours. CONTRIBUTING says how the packages are installed.
"""

from __future__ import annotations

import os

import pytest

from tests.toolkits.__main__ import bad, distilled, examined, summary
from tests.toolkits.farm import Facts
from tests.toolkits.networks import FOLDER, PACKAGES, TABLE, installed

pytestmark = [
    pytest.mark.pir,
    pytest.mark.nightly,
    pytest.mark.longest,
    pytest.mark.skipif(not installed(), reason=f"{FOLDER} holds no {' and '.join(PACKAGES)}"),
]


def _wrong(found: dict[str, dict[str, Facts]]) -> list[str]:
    return [
        f"{name}: {summary(facts)}"
        for results in found.values()
        for name, facts in results.items()
        if bad(facts)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_network_is_built_with_equal_weights_and_numbers_or_refused(package: str) -> None:
    found = examined([package], jobs=os.cpu_count() or 1)
    built = [facts for facts in found[package].values() if "to_static" not in facts]
    assert len(built) >= TABLE[package]["built"]
    assert _wrong(found) == []


def test_twelve_pairs_go_the_whole_way_to_an_export() -> None:
    found = distilled(PACKAGES, jobs=os.cpu_count() or 1)
    assert sum(map(len, found.values())) == 12
    assert _wrong(found) == []
