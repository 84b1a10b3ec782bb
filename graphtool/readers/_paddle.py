"""Import Paddle, or say in a Diagnostic how to get it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.readers import problems

__all__ = ["in_mode", "is_legacy", "load_paddle"]

# Paddle's static types neither cover what is used here nor agree between 2.6 and 3.3.
_Paddle: TypeAlias = Any


def load_paddle() -> _Paddle:
    """Return the module `paddle`.

    Raises ReadError GT031 where it is not installed or does not import.
    """
    # Paddle tells users of PIR what only its developers can mend; read at import, errors stay.
    os.environ.setdefault("GLOG_minloglevel", "2")
    import_module("zlib")  # Paddle 2.6 segfaults where it loads its own zlib first
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No ccache found")
            import paddle
    except ImportError as error:
        # Paddle's extension module makes one of whatever ends its initialisation.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ReadError(problems.no_paddle(str(error))) from None
    return paddle


def is_legacy(program: _Paddle) -> bool:
    """Tell a legacy Program, which has a ProgramDesc, from a PIR one."""
    return hasattr(program, "desc")


@contextmanager
def in_mode(*, static: bool) -> Generator[None]:
    """Switch Paddle to static or dynamic mode, and back afterwards."""
    paddle = load_paddle()
    was_static = not paddle.in_dynamic_mode()
    switch = {True: paddle.enable_static, False: paddle.disable_static}
    if was_static != static:
        switch[static]()
    try:
        yield
    finally:
        if was_static != static:
            switch[was_static]()
