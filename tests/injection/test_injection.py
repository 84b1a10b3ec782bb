"""Whatever fails, and whenever: Programs and Scopes stay, Paddle is quoted, and a retry works."""

from __future__ import annotations

import pytest

from tests.injection.injecting import Kind, few, inject, sees_calls
from tests.injection.scenarios import SCENARIOS

pytestmark = [pytest.mark.nightly, pytest.mark.pir, sees_calls]

_DENSE = {("merge", Kind.CALL): 12, ("distill_loss", Kind.CALL): 8}
_CHECKED = {"GT032", "GT235", "GT250", "nothing"}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failure_changes_nothing_and_a_second_try_works(name: str, kind: Kind) -> None:
    _assert_whole(name, kind, 5)


@pytest.mark.parametrize(("name", "kind"), _DENSE)
def test_a_failing_call_of_paddle_changes_nothing(name: str, kind: Kind) -> None:
    _assert_whole(name, kind, _DENSE[name, kind])


def _assert_whole(name: str, kind: Kind, count: int) -> None:
    tally = inject(SCENARIOS[name], kind, few(count))
    assert tally.wrong == []
    assert tally.count == count
    # What a failure comes out as; some calls may fail, and a check says what is missing then.
    wanted = "GT258" if kind is Kind.CALL else "KeyboardInterrupt"
    assert tally.raised[wanted] >= count * 2 // 3
    assert set(tally.raised) <= {wanted, *(_CHECKED if kind is Kind.CALL else ())}
