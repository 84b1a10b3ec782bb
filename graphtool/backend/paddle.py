"""Import Paddle, and switch its mode and the kind of Programs that it builds."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, reduce
from importlib import import_module
from threading import RLock, current_thread, main_thread
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic, ReadError, Severity, listed, rule, warn
from graphtool.graph import ProgramKind

__all__ = [
    "Paddle",
    "in_mode",
    "ineffective_auto_cast",
    "is_legacy",
    "is_unseen",
    "legacy_mode",
    "load_paddle",
    "missing_names",
    "program_lock",
    "static_mode",
    "unseen_paddle",
]

# Paddle's objects: its static types do not cover its whole API, and differ between 2.6 and 3.3.
Paddle: TypeAlias = Any
_LOCK = RLock()


@rule("GT030")
def no_paddle(reason: str) -> Diagnostic:
    """Paddle cannot be imported.

    Saved models (`.json`, `.pdmodel`) are read without Paddle; a `module:callable` and a live
    Program need it. Install paddlepaddle or paddlepaddle-gpu, 2.6.2 or newer.
    """
    return Diagnostic(
        message=f"`import paddle` fails: {reason}",
        notes=("paddlepaddle-gpu works as well",),
        help="pip install paddlepaddle",
    )


def load_paddle() -> Paddle:
    """Return the module `paddle`.

    Raises ReadError GT030 if it is not installed or does not import.
    """
    # Hides glog messages below errors, which only Paddle's developers can act on; read at import.
    os.environ.setdefault("GLOG_minloglevel", "2")
    import_module("zlib")  # Paddle 2.6 segfaults if it loads its own zlib first
    try:
        with _first_import():
            import paddle
    except ImportError as error:
        # Paddle's extension module wraps any error of its initialisation in an ImportError.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ReadError(no_paddle(str(error))) from None
    if getattr(paddle, "__file__", None) is None:
        # A folder `paddle` in `sys.path` is imported as a namespace package.
        (folder, *_) = paddle.__path__
        raise ReadError(no_paddle(f"`{folder}` is a folder, not a package"))
    _warn_if_names_are_missing()
    return paddle


@cache
def _warn_if_names_are_missing() -> None:
    """Warn once in a process if this Paddle is new and lacks private names."""
    paddle = sys.modules["paddle"]
    release = str(paddle.__version__)
    if is_unseen(release) and (missing := missing_names(paddle)):
        warn(unseen_paddle(release, missing))


@contextmanager
def _first_import() -> Generator[None]:
    """Keep the caller's handler of SIGTERM, and ignore Paddle's warning about ccache."""
    if "paddle" in sys.modules:
        # Changing the filters resets which warnings were issued already.
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    is_kept = callable(handler) and current_thread() is main_thread()
    # Block the signal while Paddle's own handler is installed, which reports a crash.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM] if is_kept else [])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No ccache found")
            yield
    finally:
        if is_kept:
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def program_lock() -> Generator[None]:
    """Hold the lock for work on Programs.

    Paddle's insertion point, default Programs, mode and kind of Programs are global to the process.
    Two threads that build at once insert operators into each other's Programs, or Paddle refuses
    (`The block obtained before and after calling the static API is inconsistent`).
    """
    with _LOCK:
        yield


def is_legacy(program: Paddle) -> bool:
    """Return whether a Program is legacy: only such a one has a ProgramDesc."""
    return hasattr(program, "desc")


@contextmanager
def in_mode(*, static: bool) -> Generator[None]:
    """Switch Paddle to static or dynamic mode, and back afterwards."""
    paddle = load_paddle()
    was_static = not paddle.in_dynamic_mode()
    switch = {True: paddle.enable_static, False: paddle.disable_static}
    try:
        # Inside the `try`: an interrupted switch may have taken effect.
        if was_static != static:
            switch[static]()
        # A thread starts in the mode of its parent, and cannot switch dynamic mode off.
        is_stuck = static and paddle.in_dynamic_mode()
        guard = paddle.base.framework._dygraph_guard  # noqa: SLF001  # no public equivalent
        with guard(None) if is_stuck else nullcontext():
            yield
    finally:
        if was_static != static:
            switch[was_static]()


@contextmanager
def legacy_mode() -> Generator[None]:
    """Switch to static mode and legacy Programs, and back afterwards.

    Paddle 2.6 has no other kind of Programs, and no OldIrGuard.
    """
    guard = getattr(load_paddle().pir_utils, "OldIrGuard", nullcontext)
    with in_mode(static=True), guard():
        yield


def static_mode(kind: ProgramKind) -> AbstractContextManager[None]:
    """Switch to static mode and a kind of Programs, and back afterwards."""
    return legacy_mode() if kind is ProgramKind.LEGACY else in_mode(static=True)


def ineffective_auto_cast() -> str | None:
    """Return the dtype of a `paddle.amp.auto_cast` around the call that has no effect, if any.

    That is so in dynamic mode on a CPU.
    """
    core = load_paddle().base.core
    if not hasattr(core, "_get_amp_attrs"):  # In Paddle 2.6 it never affects static Programs.
        return None
    # `paddle.amp.auto_cast` is the function; its module keeps what was requested.
    requested = sys.modules["paddle.amp.auto_cast"].amp_state()
    is_requested = requested and requested.get("enable") and requested.get("level") != "O0"
    is_on = core._get_amp_attrs()._amp_level != core.AmpLevel.O0  # noqa: SLF001
    return str(requested.get("dtype")) if is_requested and not is_on else None


_NEWEST_SEEN = (3, 3)

# Private names of Paddle that graphtool needs, by what is not possible without them: what they
# are names of, below `paddle`, and the names. All were seen in Paddle 2.6.2 and 3.0 to 3.3; names
# of PIR are not in 2.6. Attributes that only instances have (an optimizer's `_accumulators`) are
# not listed: they are read with a default.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "merging": (
        "base.core.DenseTensor: _clear _copy _dtype _is_initialized _place _ptr",
        "base.core.DenseTensor: _set_dims _share_data_with",
        "base.core: Place Scope get_all_op_names get_variable_tensor",
        "base.core.pir: ops",
        "base.unique_name: generator",
        "pir: IrMapping",
    ),
    "reading PIR Programs": ("base.core: DataType",),
    "merging legacy Programs": (
        "base.core.BlockDesc: _remove_op _remove_var _set_forward_block_idx",
        "base.core.OpDesc: _block_attr_id _blocks_attr_ids",
        "base.core: ProgramDesc",
        "base.framework.Block: _insert_op",
        "base.framework: OpProtoHolder",
        "static.Program: _sync_with_cpp",
    ),
    "merging a legacy teacher into a PIR student": ("pir: translate_to_pir_with_param_map",),
    "opening and saving PIR Programs": (
        "base.core: deserialize_pir_program serialize_pir_program",
    ),
    "gt.from_layer": (
        "base.data_feeder: convert_dtype",
        "base.framework: _dygraph_guard",
        "base.libpaddle.pir: get_current_insertion_point",
        "pir: translate_to_pir",
        "pir_utils: OldIrGuard",
    ),
    "check_merge(..., place=...)": (
        "base.core: _get_phi_kernel_name _get_registered_phi_kernels",
        "base.framework: _get_paddle_place",
    ),
    "Merged.verify": ("base.core._Scope: _remove_from_pool", "base.core: default_cpu_generator"),
    "suggest_pairs(..., evidence=...)": ("base.libpaddle.pir: set_insertion_point_after",),
    "gt.for_test": ("static.Program: _prune",),
    "gt.for_training": (
        "_C_ops: batch_norm_ data dropout",
        "base.framework.Block: _remove_op _remove_var _var_recursive",
        "base.framework.Operator: _set_attr",
        "base.framework: Parameter",
        "pir: set_insertion_point",
    ),
    "losses in legacy Programs": ("base.layer_helper: LayerHelper",),
    "gt.minimize(..., accumulate=...)": (
        "_C_ops: assign_out_",
        "optimizer.Optimizer: _create_global_learning_rate",
        "pir.core: create_persistable_value",
    ),
    "gt.minimize on several ranks": (
        "_C_ops: all_reduce broadcast",
        "base.core: create_or_get_global_tcp_store",
    ),
    "gt.minimize with ClipGradByValue": ("nn.clip.ClipGradBase: _pir_clip",),
    "checkpoints": ("base.core: default_cpu_generator",),
}


@rule("GT056")
def unseen_paddle(release: str, missing: Mapping[str, tuple[str, ...]]) -> Diagnostic:
    """The installed Paddle is newer than graphtool knows and lacks names that it needs.

    graphtool needs some private names of Paddle. Those that are gone are listed with what does not
    work without them; everything else works as before.
    """
    return Diagnostic(
        message=f"Paddle {release} lacks private names that graphtool needs",
        severity=Severity.WARNING,
        notes=tuple(f"{purpose} needs {listed(names, 20)}" for purpose, names in missing.items()),
        help="pip install -U graphtool",
    )


def is_unseen(release: str) -> bool:
    """Return whether a release is newer than those that graphtool was tested with."""
    numbers = release.split(".")[:2]
    return all(map(str.isdecimal, numbers)) and tuple(map(int, numbers)) > _NEWEST_SEEN


def missing_names(paddle: Any) -> Mapping[str, tuple[str, ...]]:
    """Return the private names that Paddle lacks, by what is not possible without them."""
    missing: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for purpose, lines in _NAMES.items():
        for owner, _, names in (line.partition(": ") for line in lines):
            for name in (f"{owner}.{name}" for name in names.split()):
                parts = name.split(".")
                if reduce(lambda found, part: getattr(found, part, None), parts, paddle) is None:
                    missing[purpose] += (f"paddle.{name}",)
    return missing
