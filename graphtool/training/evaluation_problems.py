"""What can be wrong with a Program for evaluation: GT253 to GT253."""

from __future__ import annotations

__all__ = []
