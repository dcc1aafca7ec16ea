"""What an evaluation looks like: a table for the terminal and a self-contained page."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from category_pose_ros.evaluation.summary import Metrics, Summary

_COLUMNS: dict[str, tuple[str, str]] = {  # metric: heading, format
    "objects": ("objects", "d"),
    "found": ("found", "d"),
    "precision": ("precision", ".1%"),
    "acc_pi_6": ("acc 30°", ".1%"),
    "acc_pi_18": ("acc 10°", ".1%"),
    "median_rotation_error_deg": ("rot °", ".1f"),
    "median_translation_error_m": ("trans m", ".3f"),
    "median_distance_error": ("dist", ".1%"),
    "median_add_m": ("ADD m", ".3f"),
    "deg5_cm5": ("5°5cm", ".1%"),
    "deg10_cm10": ("10°10cm", ".1%"),
    "iou50": ("IoU50", ".1%"),
    "map_pi3_5": ("mAP π/3,5", ".1%"),
    "seconds_per_image": ("s/image", ".3f"),
}
LEGEND = (
    "objects that were not found count as wrong in acc; rot, trans, dist and ADD are medians over found objects; "
    "the other columns from 5°5cm on are average precisions"
)


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption, for the page."""

    caption: str
    png: bytes

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def table_rows(summary: Summary) -> list[list[str]]:
    """Heading, overall, one row per category, one per level of occlusion that has objects."""
    groups = [("overall", summary["overall"]), *summary["by_category"].items()]
    groups += [(level, numbers) for level, numbers in summary["by_occlusion"].items() if numbers["objects"]]
    heading = ["", *(title for title, _ in _COLUMNS.values())]
    return [heading, *([name, *_cells(numbers)] for name, numbers in groups)]


def table_text(summary: Summary) -> str:
    """The table in aligned columns, one line per row."""
    rows = table_rows(summary)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def write_metrics(path: Path, summary: Summary) -> None:
    """metrics.json; what could not be measured is null."""
    path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_page(path: Path, title: str, summary: Summary, plots: Sequence[Picture], overlays: Sequence[Picture]) -> None:
    """report.html: table, plots and overlays in one file that needs no other."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("category_pose_ros.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    heading, *rows = table_rows(summary)
    page = environment.get_template("report.html").render(
        title=title, legend=LEGEND, heading=heading, rows=rows, plots=plots, overlays=overlays
    )
    path.write_text(page, encoding="utf-8")


def _cells(numbers: Metrics) -> list[str]:
    values = dict(numbers)
    return ["-" if values[key] is None else format(values[key], spec) for key, (_, spec) in _COLUMNS.items()]
