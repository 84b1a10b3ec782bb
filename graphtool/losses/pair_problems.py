"""Diagnostics about the arguments of `distill_loss` and where it is called."""

from __future__ import annotations

__all__ = []
