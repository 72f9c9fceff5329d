"""Figure of a semivariogram: empirical bins, the fitted curve and its parameters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from swclip.files import atomic_file
from swclip.geo.semivariogram import EmpiricalSemivariogram, FittedSemivariogram
from swclip.reporting.units import metres

_POINT, _CURVE, _LEVEL, _LENGTH = "#2a6f97", "#d1495b", "#5c677d", "#1b7f5c"
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
_SMALLEST, _LARGEST = 25.0, 260.0


def write_semivariogram_figure(
    paths: Sequence[str | os.PathLike[str]],
    empirical: EmpiricalSemivariogram,
    fitted: FittedSemivariogram,
    *,
    note: str = "",
) -> None:
    """Draw the semivariogram of image features against geographic distance.

    Args:
        paths: Files to write; the suffix sets the format (PNG, SVG, PDF).
        empirical: The bins, drawn as points whose area grows with the logarithm of the number of pairs.
        fitted: The curve, with nugget, sill, practical range and correlation length.
        note: Description of the pairs, below the title.

    Raises:
        ValueError: There are no bins.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(empirical.lag_m) == 0:
        raise ValueError("a semivariogram without bins cannot be drawn")
    figure = Figure(figsize=(8.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lag = empirical.lag_m
    low, high = float(lag[0]) / 1.5, max(float(lag[-1]), empirical.max_lag_m) * 1.05
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    top = 1.14 * max(float(empirical.gamma.max()), fitted.sill, 1e-9)
    axes.set_ylim(0.0, top)
    _levels(axes, fitted, high)
    if fitted.structured:
        _lengths(axes, fitted, top)
    along = np.geomspace(low, high, 400)
    style = "-" if fitted.structured else ":"
    axes.plot(along, fitted.gamma(along), style, color=_CURVE, linewidth=2.2, label=f"{fitted.model} curve", zorder=3)
    axes.scatter(
        lag,
        empirical.gamma,
        s=_areas(empirical.pairs),
        color=_POINT,
        alpha=0.85,
        edgecolors="white",
        linewidths=0.8,
        label=f"pairs by distance ({_count(empirical.pairs.min())} to {_count(empirical.pairs.max())} per point)",
        zorder=4,
    )
    ticks = [step * ten for ten in (1, 10, 100, 1_000, 10_000) for step in (1, 2, 5) if low <= step * ten <= high]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("geographic distance, metres")
    axes.set_ylabel("semivariance of image features")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, markerscale=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)
    axes.set_title(_title(fitted, note), loc="left", fontsize=11)
    for path in paths:
        # Equal figures give identical bytes.
        with atomic_file(path) as beside, matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "none"}):
            kind = os.path.splitext(path)[1].removeprefix(".")
            figure.savefig(beside, dpi=130, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _areas(pairs: Any) -> Any:
    size = np.log(np.maximum(pairs, 1).astype(np.float64))
    spread = float(np.ptp(size))
    return _SMALLEST + (_LARGEST - _SMALLEST) * (
        (size - size.min()) / spread if spread > 0 else 0.5 * np.ones(len(size))
    )


def _levels(axes: Any, fitted: FittedSemivariogram, right: float) -> None:
    levels = [("sill", fitted.sill)]
    if fitted.structured:
        levels.append(("nugget", fitted.nugget))
    for name, level in levels:
        axes.axhline(level, color=_LEVEL, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
        place = {"ha": "left", "x": 0.012} if name == "sill" else {"ha": "right", "x": 0.988}
        axes.text(
            place["x"],
            level,
            f"{name} {level:.2f}",
            transform=axes.get_yaxis_transform(),
            ha=place["ha"],
            va="bottom",
            color=_LEVEL,
            fontsize=9,
            bbox=_PAPER,
            zorder=2,
        )


def _lengths(axes: Any, fitted: FittedSemivariogram, top: float) -> None:
    length = fitted.correlation_length_m
    marks = [(length, f"correlation falls to 1/e\nat {metres(length)}", "right", _LENGTH, 2.0)]
    marks.append(
        (fitted.practical_range_m, f"practical range\n{metres(fitted.practical_range_m)}", "left", _LEVEL, 1.2)
    )
    for at, text, side, colour, width in marks:
        axes.plot([at, at], [0.0, float(fitted.gamma(at))], color=colour, linewidth=width, zorder=2)
        axes.annotate(
            text,
            (at, 0.05 * top),
            xytext=(-6 if side == "right" else 6, 0),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color=colour,
            fontsize=9,
            bbox=_PAPER,
            zorder=2,
        )


def _count(pairs: Any) -> str:
    if pairs < 10_000:
        return f"{pairs:,}"
    return f"{pairs / 1e6:.1f} M" if pairs >= 1_000_000 else f"{pairs / 1e3:.0f} k"


def _title(fitted: FittedSemivariogram, note: str) -> str:
    finding = (
        f"Image features: spatial correlation falls to 1/e at {metres(fitted.correlation_length_m)}"
        if fitted.structured
        else "Image features: no spatial correlation detected"
    )
    return f"{finding}\n{note or fitted.statement}"
