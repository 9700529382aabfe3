"""Numbers as words, the same everywhere in a report."""

import math


def number(value: float) -> str:
    """Return a value with three decimals."""
    return "not defined" if math.isnan(value) else f"{value:.3f}"


def points(difference: float) -> str:
    """Return the size of a difference of shares in points, "1.2 points"."""
    if math.isnan(difference):
        return "an unknown amount"
    size = f"{abs(100 * difference):.1f}"
    return f"{size} point{'' if size == '1.0' else 's'}"


def counted(n: int, thing: str) -> str:
    """Return "1 seed", "1,000 seeds"."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.3f}"


def p_value(p: float) -> str:
    """Return a p-value with two significant digits."""
    return "< .0001" if p < 1e-4 else f"{p:.2g}"
