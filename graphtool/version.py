"""The version of the installed distribution."""

from __future__ import annotations

__all__ = ["version"]


def version() -> str:
    """Return the version that pip shows; `0+not.installed` where only the source is there."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("paddle-graphtool")
    except PackageNotFoundError:
        return "0+not.installed"
