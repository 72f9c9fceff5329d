"""Distances and shares as a person reads them."""

from __future__ import annotations


def metres(value: float) -> str:
    """A distance as a person reads it: two or three figures, metres below 10 km.

    Example:
        >>> metres(4.26), metres(91.96), metres(12345.0), metres(276_800.0)
        ('4.3 m', '92 m', '12.3 km', '277 km')
    """
    size = abs(value)
    if size < 9.95:
        return f"{value:.1f} m"
    if size < 9_999.5:
        return f"{value:,.0f} m"
    return f"{value / 1000.0:,.1f} km" if size < 99_950 else f"{value / 1000.0:,.0f} km"


def percent(share: float) -> str:
    """A share as a percentage with one decimal.

    Example:
        >>> percent(0.4312)
        '43.1 %'
    """
    return f"{100.0 * share:.1f} %"


def distance(value: float) -> str:
    """A distance in running text: as `metres`, without a decimal that says nothing.

    Example:
        >>> distance(1000.0), distance(25_000.0), distance(25.0), distance(4.26)
        ('1 km', '25 km', '25 m', '4.3 m')
    """
    if value >= 1_000 and value % 1_000 == 0:
        return f"{value / 1_000:,.0f} km"
    return metres(value)
