"""Every loss against NumPy: the number, and the gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from tests.losses.cases import CASES, Case, run

# One case of each loss: the others are this loss with other options or shapes.
_FAST = {case.name.split()[0]: case.name for case in reversed(CASES)}.values()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[] if case.name in _FAST else [pytest.mark.slow])
        for case in CASES
    ],
)
def test_a_loss_and_its_gradient_are_those_of_numpy(case: Case) -> None:
    outcome = run(case)

    np.testing.assert_allclose(outcome.value, outcome.wanted, rtol=1e-9, atol=1e-12)
    for found, wanted in zip(outcome.gradients, outcome.wanted_gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)
        assert np.abs(wanted).max() > 1e-4
