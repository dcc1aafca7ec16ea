"""What an evaluation looks like: a table for the terminal and a self-contained page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from category_pose_ros.evaluation.summary import Metrics, Summary

_COLUMNS: dict[str, tuple[str, str]] = {  # metric: heading, format
    "objects": ("objects", "d"),
    "found": ("found", "d"),
    "precision": ("precision", ".1%"),
    "false_alarms_per_image": ("alarms/image", ".2f"),
    "acc_pi_6": ("acc 30°", ".1%"),
    "acc_pi_18": ("acc 10°", ".1%"),
    "median_rotation_error_deg": ("rot °", ".1f"),
    "median_translation_error_m": ("trans m", ".3f"),
    "median_distance_error": ("dist", ".1%"),
    "median_size_error": ("size", ".1%"),
    "median_add_m": ("ADD m", ".3f"),
    "deg5_cm5": ("5°5cm", ".1%"),
    "deg10_cm10": ("10°10cm", ".1%"),
    "iou50": ("IoU50", ".1%"),
    "ap_rotation_60": ("AP 60°", ".1%"),
    "ap_translation_15": ("AP 15cm", ".1%"),
    "map_pi3_5": ("mAP π/3,5", ".1%"),
    "seconds_per_image": ("s/image", ".3f"),
}
Comparisons = Mapping[str, Mapping[str, Metrics]]
"""The overall numbers of other runs over the same images, by kind ("by_damage", "by_setting") and label."""

_COMPARISON_TITLES = {"by_damage": "Damaged depth", "by_setting": "Other settings"}
LEGEND = (
    "objects that were not found count as wrong in acc; rot, trans, dist, size and ADD are medians over found objects; "
    "the other columns from 5°5cm on are average precisions, AP 60° and AP 15cm means over 0 to 60° and 0 to 15 cm"
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
    groups = {"overall": summary["overall"], **summary["by_category"]}
    groups |= {level: numbers for level, numbers in summary["by_occlusion"].items() if numbers["objects"]}
    return group_rows(groups)


def group_rows(groups: Mapping[str, Metrics]) -> list[list[str]]:
    """Heading, then one row per named group."""
    heading = ["", *(title for title, _ in _COLUMNS.values())]
    return [heading, *([name, *_cells(numbers)] for name, numbers in groups.items())]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table of texts in aligned columns, one line per row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def table_text(summary: Summary) -> str:
    """The table in aligned columns, one line per row."""
    return aligned(table_rows(summary))


def write_metrics(path: Path, summary: Summary, compared: Comparisons | None = None) -> None:
    """metrics.json; what could not be measured is null. Comparisons are there where they were made."""
    content = {**summary, **{name: dict(groups) for name, groups in (compared or {}).items()}}
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_page(
    path: Path,
    title: str,
    summary: Summary,
    plots: Sequence[Picture],
    overlays: Sequence[Picture],
    compared: Comparisons | None = None,
) -> None:
    """report.html: tables, plots and overlays in one file that needs no other."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("category_pose_ros.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = {"": table_rows(summary)}
    tables |= {_COMPARISON_TITLES[name]: group_rows(groups) for name, groups in (compared or {}).items()}
    page = environment.get_template("report.html").render(
        title=title, legend=LEGEND, tables=tables, plots=plots, overlays=overlays
    )
    path.write_text(page, encoding="utf-8")


def _cells(numbers: Metrics) -> list[str]:
    values = dict(numbers)
    return ["-" if values[key] is None else format(values[key], spec) for key, (_, spec) in _COLUMNS.items()]
