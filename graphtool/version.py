"""The version of the installed distribution, and how to get a newer one."""

from __future__ import annotations

__all__ = ["REINSTALL", "UPGRADE", "version"]

# graphtool is on no package index; it is installed from a clone.
UPGRADE = "git pull && pip install .  # in your clone of graphtool"
REINSTALL = "pip install --force-reinstall --no-deps .  # in your clone of graphtool"


def version() -> str:
    """Return the installed version, `0+not.installed` if only the source is there."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("paddle-graphtool")
    except PackageNotFoundError:
        return "0+not.installed"
