"""The version of the installed distribution, and how to get a newer one."""

from __future__ import annotations

__all__ = ["DISTRIBUTION", "UPGRADE", "version"]

DISTRIBUTION = "paddle-graphtool"

# graphtool is on no package index; it is installed from a clone.
UPGRADE = "git pull && pip install .  # in your clone of graphtool"


def version() -> str:
    """Return the installed version, `0+not.installed` if only the source is there."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+not.installed"
