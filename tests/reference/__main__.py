"""Write the reference anew: `python -m tests.reference`."""

from __future__ import annotations

from tests.reference.writing import REFERENCE, reference

REFERENCE.write_text(reference(), encoding="utf-8")
