"""Distances, areas, shares and differences, formatted as text."""

from __future__ import annotations


def metres(value: float) -> str:
    """Format a distance with two or three significant figures, in metres below 10 km.

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
    """Format a share as a percentage with one decimal.

    Example:
        >>> percent(0.4312)
        '43.1 %'
    """
    return f"{100.0 * share:.1f} %"


def distance(value: float) -> str:
    """Format a distance for running text: as `metres`, with whole kilometres where the value is exact.

    Example:
        >>> distance(1000.0), distance(25_000.0), distance(25.0), distance(4.26)
        ('1 km', '25 km', '25 m', '4.3 m')
    """
    if value >= 1_000 and value % 1_000 == 0:
        return f"{value / 1_000:,.0f} km"
    return metres(value)


def p_value(p: float) -> str:
    """Format the p-value of a permutation test.

    Example:
        >>> p_value(0.001), p_value(0.0312), p_value(0.44)
        ('p = 0.001', 'p = 0.03', 'p = 0.44')
    """
    return f"p = {p:.3f}" if p < 0.0095 else f"p = {p:.2f}"


def area(km2: float) -> str:
    """Format an area with two or three significant figures, in square metres below 0.01 km².

    Example:
        >>> area(0.00215), area(0.0313), area(1.0), area(2.46), area(1234.0)
        ('2,150 m²', '0.031 km²', '1 km²', '2.5 km²', '1,234 km²')
    """
    if km2 < 0.01:
        return f"{float(f'{1e6 * km2:.3g}'):,.0f} m²"
    return f"{km2:,.0f} km²" if km2 >= 100 else f"{float(f'{km2:.2g}'):g} km²"


def figure_name(figure: str) -> str:
    """Display name of a compared figure.

    Example:
        >>> figure_name("within_25"), figure_name("median")
        ('within 25 m', 'median')
    """
    return f"within {figure[7:]} m" if figure.startswith("within_") else figure


def signed(value: float, figure: str) -> str:
    """Format a difference with its sign: metres for an error, percentage points for a share.

    Example:
        >>> signed(-0.054, "within_100"), signed(3.2, "median")
        ('−5.4 points', '+3.2 m')
    """
    return f"{_number(value, figure)} {_unit(value, figure)}"


def signed_interval(value: float, interval: tuple[float, float] | None, figure: str) -> str:
    """Format the interval of a difference in brackets, in the unit of the difference; other units are named.

    Args:
        value: The difference.
        interval: Its interval; the text is empty where there is none.
        figure: The figure, which sets the unit.

    Example:
        >>> signed_interval(-3.0, (-10.0, 4.0), "median"), signed_interval(-3.0, None, "median")
        ('[−10, +4.0]', '')
        >>> signed_interval(-350.0, (-26_000.0, 50.0), "median")
        '[−26.0 km, +50 m]'
    """
    if interval is None:
        return ""
    one_unit = len({_unit(number, figure) for number in (value, *interval)}) == 1
    low, high = ((_number if one_unit else signed)(end, figure) for end in interval)
    return f"[{low}, {high}]"


def _number(value: float, figure: str) -> str:
    text = f"{100.0 * abs(value):.1f}" if figure.startswith("within") else metres(abs(value)).rpartition(" ")[0]
    sign = "" if text == "0.0" else "+" if value > 0 else "\N{MINUS SIGN}"
    return f"{sign}{text}"


def _unit(value: float, figure: str) -> str:
    return "points" if figure.startswith("within") else metres(abs(value)).rpartition(" ")[2]
