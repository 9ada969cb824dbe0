"""Formats sizes, durations and numbers of things for a person."""

from orchestrator.shared.constants import GIB, MIB


def size(amount: float) -> str:
    """Format bytes; parts of a MiB count as one."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{int(-(-amount // MIB))} MiB"


def duration(seconds: float) -> str:
    """Format a duration in seconds; at least one second."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def number(count: int, what: str) -> str:
    """Format a number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"
