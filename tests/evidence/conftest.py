"""Networks that several modules measure."""

from __future__ import annotations

import pytest

from graphtool.sources.layers import Network
from tests.evidence.networks import small


@pytest.fixture(scope="session")
def network() -> Network:
    return small()
