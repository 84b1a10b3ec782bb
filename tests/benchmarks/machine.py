"""What a measurement depends on: the machine, the versions, the commit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.timing import ROOT

__all__ = ["commit", "machine", "versions"]

_PACKAGES = ("paddle-graphtool", "paddlepaddle", "networkx", "numpy", "protobuf", "msgspec", "rich")
_PEERS = ("paddleslim", "paddlepaddle", "numpy")
_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({"python": sys.version.split()[0], **{one: version(one) for one in sys.argv[1:]}}))
"""


def machine() -> Mapping[str, object]:
    """Describe processor, memory, system, and what else kept it busy over the last minute."""
    return {
        "processor": _line_of("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _line_of("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 1),
    }


def versions(peer: str | None) -> Mapping[str, object]:
    """Return the versions of what is measured, and of what it is compared with."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "dot": _said(["dot", "-V"]) if shutil.which("dot") else None,
        "peer": json.loads(_said([peer, "-c", _VERSIONS, *_PEERS])) if peer else None,
    }


def commit() -> str | None:
    """Return the commit, marked where files differ from it; None outside of a repository."""
    if shutil.which("git") is None:
        return None
    said = _said(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"])
    return said if " " not in said else None


def _line_of(file: str, key: str) -> str | None:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _said(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
