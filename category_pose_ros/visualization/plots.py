"""Plots as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from category_pose_ros.visualization.palette import category_colour

_OVERALL_COLOUR = "#1c2430"


def plot_average_precision(
    title: str, unit: str, thresholds: npt.NDArray[np.float64], curves: Mapping[str, npt.NDArray[np.float64]]
) -> bytes:
    """Average precision against the error that is allowed, one curve per category.

    Args:
        title: of the plot.
        unit: label of the x axis.
        thresholds: (N,) of the error, from 0.
        curves: (N,) by name; the one called "overall" is drawn in front.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        _draw(axes, name, thresholds, curve)
    axes.set(title=title, xlabel=unit, ylabel="average precision", xlim=(0, thresholds[-1]), ylim=(0, 1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(figure)


def plot_trade_off(runs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Accuracy against time, a colour per run.

    Args:
        runs: by label "seconds_per_image", "acc_pi_6" and "acc_pi_18".

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(7.6, 4.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for number, (label, run) in enumerate(runs.items()):
        seconds, colour = run["seconds_per_image"], f"C{number}"
        axes.plot(seconds, run["acc_pi_6"], "o", color=colour, markersize=6, clip_on=False, label=label)
        axes.plot(seconds, run["acc_pi_18"], "s", color=colour, markersize=6, clip_on=False)
    for title, marker in (("within 30°", "o"), ("within 10°", "s")):
        axes.plot([], [], marker, color="none", markeredgecolor=_OVERALL_COLOUR, label=title)
    axes.set(xlabel="seconds per image", ylabel="share of all objects", xscale="log", ylim=(0, 1))
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    # Beside the axes: names at points that are close together would cover each other.
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return _png(figure)


def plot_training(rows: Sequence[Mapping[str, str]]) -> bytes:
    """The losses of a training run against the images seen, as running means.

    Args:
        rows: of the run's log.csv.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(7.2, 4.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    images = np.array([float(row["images"]) for row in rows])
    window = max(len(rows) // 40, 1)
    for name in ("object", "clutter", "centre", "diagonal", "axes", "shape"):
        losses = np.array([float(row[name]) for row in rows])
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.semilogy(images[window - 1 :], smooth, label=name)
    axes.set(title="training losses", xlabel="images", ylabel="loss (running mean)")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def plot_refinement(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """What refinement gains and takes, a row of panels per setting that was varied.

    Args:
        curves: by the setting's name its values as "value", and what was reached there by the name of
            the quantity; the same quantities for all settings.

    Returns:
        A PNG file.
    """
    quantities = [name for name in next(iter(curves.values())) if name != "value"]
    figure = Figure(figsize=(3.2 * len(quantities), 2.6 * len(curves)), dpi=110, layout="constrained")
    panels = figure.subplots(len(curves), len(quantities), squeeze=False, sharey="col")
    for row, (setting, reached) in zip(panels, curves.items(), strict=True):
        for axes, quantity in zip(row, quantities, strict=True):
            axes.plot(reached["value"], reached[quantity], color=_OVERALL_COLOUR, marker="o", markersize=4)
            axes.set(xlabel=setting, ylabel=quantity, xscale="log")
            axes.set_xticks(reached["value"], [f"{value:g}" for value in reached["value"]])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _draw(axes: Axes, name: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
    is_overall = name == "overall"
    colour = _OVERALL_COLOUR if is_overall else tuple(channel / 255 for channel in category_colour(name))
    width, order = (2.4, 3) if is_overall else (1.6, 2)
    axes.plot(x, y, label=name, color=colour, linewidth=width, zorder=order)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
