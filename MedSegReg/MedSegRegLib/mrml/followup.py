"""Visits that were compared -> nodes of the scene, in one undo step: last stop of follow-up's walk in Slicer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import slicer

from ..image import Image
from ..transform import Affine, Transform
from .color_tables import color_table
from .followup_links import PLACE, link
from .guards import require_node
from .provenance import write_provenance
from .quality_nodes import jacobian_node
from .studies import place_beside
from .tables import write_table
from .transforms import write_transform
from .undo import one_undo_step
from .volumes import node_from_image

COLORS = "MedSegReg change of intensity"
SHADES = {  # standard deviations -> colour: darker is blue, what noise gives by itself black, brighter red
    -8.0: (0.6, 0.85, 1.0),
    -3.0: (0.1, 0.35, 0.75),
    0.0: (0.0, 0.0, 0.0),
    3.0: (0.75, 0.15, 0.1),
    8.0: (1.0, 0.8, 0.6),
}
NUMBER = "number"
ENDS = (", least (ml)", ", most (ml)")

Columns = Mapping[str, Sequence[str] | Sequence[float]]


@dataclass(frozen=True, eq=False)
class Maps:
    """What is known of two successive visits; see ``workflows.followup_compare.Interval``.

    Attributes:
        transform, inverse: earlier to later visit RAS, and back.
        change: of intensity, in standard deviations, on the mid-way grid.
        jacobian: local volume change, later / earlier, on the same.
        table: of structures and lesions, heading -> cells.
        places_ras: of each row, in the mid-way space.
    """

    transform: Transform
    inverse: Transform
    change: Image
    jacobian: Image
    table: Columns
    places_ras: Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class FollowUpNodes:
    """What was added: of each visit its transform and its volume in the mid-way space; of each interval the others.

    ``volumes`` is the table of all structures at all visits, ``chart`` its plot; None where nothing was drawn. The
    tables know what belongs to them, see :mod:`.followup_links`.
    """

    to_midway: tuple[Any, ...]
    midway: tuple[Any, ...]
    transforms: tuple[Any, ...]
    inverses: tuple[Any, ...]
    changes: tuple[Any, ...]
    jacobians: tuple[Any, ...]
    tables: tuple[Any, ...]
    volumes: Any
    chart: Any
    report: Any


def write_followup(
    visits: Sequence[Any],
    to_visit: Sequence[np.ndarray],
    midway: Sequence[Image],
    maps: Sequence[Maps],
    volumes: Columns,
    provenance: Mapping[str, Any] | None = None,
    report: str = "",
) -> FollowUpNodes:
    """Add all that was found to the scene of the visits' volumes, beside the last one; they stay as they are.

    Args:
        visits: volume nodes, oldest first.
        to_visit: 4x4 matrices, mid-way RAS to visit RAS: a volume placed under its node lies in the mid-way space.
        midway: the visits resampled into it.
        maps: of each pair of successive visits.
        volumes: a row a visit: see ``workflows.followup_report.volume_columns``.
        provenance: facts for the nodes' attributes.
        report: a page in HTML, kept as a text node.

    Raises:
        NodeError: a visit has left the scene.
    """
    for node in visits:
        require_node(node, "vtkMRMLScalarVolumeNode")
    scene, names = visits[-1].GetScene(), [node.GetName() for node in visits]
    with one_undo_step(scene):
        placed = [
            write_transform(Transform((Affine(matrix),)), scene, f"{name} to mid-way")
            for name, matrix in zip(names, to_visit, strict=True)
        ]
        resampled = [
            node_from_image(image, scene, f"{name} mid-way") for name, image in zip(names, midway, strict=True)
        ]
        for node, visit in zip(resampled, visits, strict=True):
            _show_like(node, visit)
        pairs = [_write_maps(one, scene, *pair) for one, pair in zip(maps, pairwise(names), strict=True)]
        table = chart = page = None
        made = [*placed, *resampled, *(node for pair in pairs for node in pair)]
        if len(volumes) > 2:
            table, chart = _write_volumes(volumes, scene, f"Volumes of {names[0]} to {names[-1]}")
            made += [table, chart]
        if report:
            page = _write_text(report, scene, f"Report of {names[0]} to {names[-1]}")
            made.append(page)
        for pair, seen in zip(pairs, pairwise(resampled), strict=True):
            link(pair[4], earlier=seen[0], later=seen[1], change=pair[2], jacobian=pair[3], chart=chart, report=page)
        for node in made:
            node.UndoEnabledOn()
            place_beside(node, visits[-1])
            write_provenance(node, provenance or {})
    transforms, inverses, changes, jacobians, tables = zip(*pairs, strict=True)
    return FollowUpNodes(
        tuple(placed), tuple(resampled), transforms, inverses, changes, jacobians, tables, table, chart, page
    )


def _write_maps(maps: Maps, scene: Any, earlier: str, later: str) -> tuple[Any, Any, Any, Any, Any]:
    pair = f"{earlier} to {later}"
    places = {heading: [place[axis] for place in maps.places_ras] for axis, heading in enumerate(PLACE)}
    return (
        write_transform(maps.transform, scene, f"{later} to {earlier}"),
        write_transform(maps.inverse, scene, f"{pair} (inverse)"),
        _change_node(maps.change, scene, f"{pair} change"),
        jacobian_node(maps.jacobian, scene, f"{pair} volume change"),
        write_table(scene, f"{pair} changes", {**maps.table, **places}),
    )


def _change_node(change: Image, scene: Any, name: str) -> Any:
    """A volume in diverging colours, which are the same in all scenes."""
    node = node_from_image(change, scene, name)
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(color_table(scene, COLORS, SHADES).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(min(SHADES), max(SHADES))
    return node


def _show_like(node: Any, original: Any) -> None:
    display, like = node.GetDisplayNode(), original.GetDisplayNode()
    if like is not None:
        display.AutoWindowLevelOff()
        display.SetWindowLevel(like.GetWindow(), like.GetLevel())
        display.SetAndObserveColorNodeID(like.GetColorNodeID())


def _write_text(text: str, scene: Any, name: str) -> Any:
    node = slicer.vtkMRMLTextNode()
    node.SetName(name)
    node.UndoEnabledOn()
    node.SetText(text)
    return scene.AddNode(node)


def _write_volumes(volumes: Columns, scene: Any, name: str) -> tuple[Any, Any]:
    """The table, and a chart with a line a structure between two dashed ones, the ends of its error bar."""
    table = write_table(scene, name, volumes)
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName(f"{name}: chart")
    chart.UndoEnabledOn()
    scene.AddNode(chart)
    chart.SetTitle(name)
    chart.SetXAxisTitle("visit")
    chart.SetYAxisTitle("volume (ml)")
    structures = [heading.removesuffix(ENDS[1]) for heading in volumes if heading.endswith(ENDS[1])]
    for structure in structures:
        middle = _line(scene, table, f"{structure} (ml)", structure, None)
        chart.AddAndObservePlotSeriesNodeID(middle.GetID())
        for end in ENDS:
            chart.AddAndObservePlotSeriesNodeID(_line(scene, table, structure + end, structure + end, middle).GetID())
    return table, chart


def _line(scene: Any, table: Any, column: str, name: str, beside: Any) -> Any:
    """A line with points, or a dashed one in the colour of another."""
    series = slicer.vtkMRMLPlotSeriesNode()
    series.SetName(name)
    series.UndoEnabledOn()
    scene.AddNode(series)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(series.PlotTypeScatter)
    series.SetXColumnName(NUMBER)
    series.SetYColumnName(column)
    series.SetLabelColumnName("visit")
    if beside is None:
        series.SetUniqueColor()
    else:
        series.SetColor(beside.GetColor())
        series.SetLineStyle(series.LineStyleDash)
        series.SetMarkerStyle(series.MarkerStyleNone)
    return series
