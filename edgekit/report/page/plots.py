"""Vega-Lite specifications of the plots.

What strangers wrote stands in rows, as values, and in domains of scales: never in a title or in the name of a field,
of which Vega-Lite makes expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.page.parts import Axis

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""A name, which is not fetched."""
Row = Mapping[str, Any]
MOST_COLORS = 20
_PER_ROW = 18
"""Pixels of one bar."""


def _plot(rows: Sequence[Row], about: str, **spec: Any) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "description": about,
        "width": "container",
        "background": None,
        "config": {"legend": {"symbolLimit": 0}},
        "data": {"name": "rows", "values": list(rows)},
        **spec,
    }


def _number(field: str, title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    scale = {"nice": False, "padding": 16, **({"type": "log"} if log else {"zero": False})}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def _name(field: str, title: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "title": title, **more}


def scatter(rows: Sequence[Row], about: str, axes: Sequence[Axis], tooltip: Mapping[str, str]) -> dict[str, Any]:
    """Points over the first two ``axes``, whose area is the third; those on the front are filled.

    ``rows`` have ``device``, ``front`` (yes or no) and the fields of the axes; ``tooltip``: field -> title.
    """
    across, up, area = axes[:3]
    return _plot(
        rows,
        about,
        height=380,
        mark={"type": "point", "strokeWidth": 1.5, "tooltip": True},
        encoding={
            "x": _number(across.field, across.title, log=across.scale == "log"),
            "y": _number(up.field, up.title, log=up.scale == "log"),
            "size": {"field": area.field, "type": "quantitative", "title": area.title, "scale": {"range": [30, 600]}},
            "color": _name("device", "device", scale=_all(rows, "device")),
            "shape": _name("runtime", "runtime", scale=_all(rows, "runtime")),
            "fillOpacity": {"condition": {"test": {"field": "front", "equal": "yes"}, "value": 0.75}, "value": 0},
            "fill": _name("device", "device", scale=_all(rows, "device"), legend=None),
            "tooltip": [{"field": field, "title": title} for field, title in tooltip.items()],
        },
    )


def _all(rows: Sequence[Row], field: str) -> dict[str, Any]:
    """The scale that keeps its colours or shapes when rows are filtered away."""
    return {"domain": list(dict.fromkeys(row[field] for row in rows))}


def _legend(rows: Sequence[Row], field: str) -> dict[str, Any] | None:
    """Above the plot; none for so many that their colours are alike."""
    few = len({row[field] for row in rows}) <= MOST_COLORS
    return {"orient": "top", "columns": 2, "labelLimit": 400} if few else None


def histogram(rows: Sequence[Row], about: str) -> dict[str, Any]:
    """Steps of ``share`` between ``low`` and ``high`` milliseconds for each ``cell``."""
    return _plot(
        rows,
        about,
        height=260,
        mark={"type": "bar", "opacity": 0.55, "tooltip": True},
        encoding={
            "x": _number("low", "latency, ms", log=True, bin={"binned": True}),
            "x2": {"field": "high"},
            "y": {"field": "share", "type": "quantitative", "title": "share of the runs", "stack": None},
            "color": _name("cell", "", legend=_legend(rows, "cell")),
        },
    )


def series(rows: Sequence[Row], about: str) -> dict[str, Any]:
    """For each ``cell`` the median over time (seconds), and the span from ``low`` to ``high`` (milliseconds)."""
    color = _name("cell", "", legend=_legend(rows, "cell"))
    across = {"field": "at_s", "type": "quantitative", "title": "time in the model, s"}
    up = _number("p50", "latency, ms", log=True)
    return _plot(
        rows,
        about,
        height=260,
        encoding={"x": across, "color": color},
        layer=[
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"y": {**up, "field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "strokeWidth": 1.5, "tooltip": True}, "encoding": {"y": up}},
        ],
    )


def bars(rows: Sequence[Row], about: str, title: str, *, group: str = "", log: bool = False) -> dict[str, Any]:
    """A bar of ``value`` for each ``name``, in the order of the rows; ``title``: of the values. With ``group``, a
    title, there is one for each ``group`` of the rows."""
    names = {row["name"] for row in rows}
    groups = len({row.get("group") for row in rows})
    encoding: dict[str, Any] = {
        "y": _name("name", "", sort=None, axis={"labelLimit": 320}),
        "x": {
            "field": "value", "type": "quantitative", "title": title,
            "scale": {"type": "symlog"} if log else {}, "axis": {"orient": "top"},
        },
        "tooltip": [{"field": "name", "title": "name"}, {"field": "value", "title": title}],
    }  # fmt: skip
    if group:
        encoding["color"] = _name("group", group, legend=_legend(rows, "group"))
        encoding["yOffset"] = {"field": "group"}
        encoding["tooltip"].append({"field": "group", "title": group})
    height = max(len(names) * (6 + _PER_ROW * (max(groups, 1) if group else 1)), 60)
    return _plot(rows, about, height=height, mark={"type": "bar"}, encoding=encoding)


def matrix(rows: Sequence[Row], about: str) -> dict[str, Any]:
    """Squares of ``share``, with ``shown`` in them, for what is right (``actual``) and what was said (``said``)."""
    axis = {"labelLimit": 140}
    return _plot(
        rows,
        about,
        height=max(24 * len({row["actual"] for row in rows}), 120),
        encoding={
            "y": _name("actual", "right answer", sort=None, axis=axis),
            "x": _name("said", "answer of the model", sort=None, axis={**axis, "labelAngle": -40}),
        },
        layer=[
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {
                    "color": {
                        "field": "share", "type": "quantitative", "title": "share of the class",
                        "scale": {"scheme": "blues", "domain": [0, 1]},
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {
                    "text": {"field": "shown"},
                    "color": {"condition": {"test": {"field": "share", "gt": 0.5}, "value": "#fff"}, "value": "#111"},
                },
            },
        ],
    )  # fmt: skip


def curves(rows: Sequence[Row], about: str, across: str, up: str) -> dict[str, Any]:
    """Lines of ``y`` over ``x``, both 0..1, for each ``name``."""
    unit = {"domain": [0, 1]}
    return _plot(
        rows,
        about,
        height=300,
        mark={"type": "line", "tooltip": True, "interpolate": "step-after"},
        encoding={
            "x": {"field": "x", "type": "quantitative", "title": across, "scale": unit},
            "y": {"field": "y", "type": "quantitative", "title": up, "scale": unit},
            "color": _name("name", ""),
        },
    )


def over_dates(rows: Sequence[Row], about: str) -> dict[str, Any]:
    """``value`` of each ``course`` by ``date``, with its interval from ``low`` to ``high``; runs with a ``regression``
    are marked."""
    up = _number("value", "value")
    interval = {"y": {**up, "field": "low"}, "y2": {"field": "high"}}
    tooltip = [{"field": name} for name in ("course", "date", "shown", "document", "sha256", "regression")]
    return _plot(
        rows,
        about,
        height=320,
        encoding={
            "x": {"field": "date", "type": "temporal", "title": "date"},
            "color": _name("course", "", legend={"orient": "top", "columns": 1, "labelLimit": 600}),
        },
        layer=[
            {"mark": {"type": "rule", "opacity": 0.4}, "encoding": interval},
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {"y": up}},
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {
                    "y": up,
                    "shape": {"condition": {"test": {"field": "regression", "equal": "slower"}, "value": "triangle-up"},
                              "value": "circle"},
                    "tooltip": tooltip,
                },
            },
        ],
    )  # fmt: skip
