# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend's counters as Prometheus has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from xenner.backend.status import Counters, Form, Value
from xenner.prometheus import to_text

_LABELS = ("domid", "devid")


def to_prometheus(counters: Counters, form: Form) -> str:
    """Without its last newline."""
    names = sorted({name for row in counters.values() for name in row})
    found = [_metric(counters, form, name) for name in names]
    return to_text(found).removesuffix("\n")


def _metric(counters: Counters, form: Form, name: str) -> Metric:
    full = f"{form.daemon}_{name}"
    text = f"{name} of each {form.kind}, as {form.daemon} counts it."
    rows = [
        (path.split("/")[-2:], row)
        for path, row in sorted(counters.items())
        if name in row
    ]
    if any(not isinstance(row[name], int) for _labels, row in rows):
        histogram = HistogramMetricFamily(
            f"{full}_seconds", text, labels=_LABELS
        )
        for labels, row in rows:
            histogram.add_metric(
                labels, list(_buckets(row[name])), _total_s(row, name)
            )
        return histogram
    if name in form.gauges:
        gauge = GaugeMetricFamily(full, text, labels=_LABELS)
        for labels, row in rows:
            gauge.add_metric(labels, _number(row[name]))
        return gauge
    counter = CounterMetricFamily(full, text, labels=_LABELS)
    for labels, row in rows:
        counter.add_metric(labels, _number(row[name]))
    return counter


def _number(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _buckets(value: Value) -> Iterator[tuple[str, float]]:
    """Of a histogram of microseconds: bounds in seconds, and how many are
    below each."""
    assert isinstance(value, Sequence)
    bounds = [f"{(1 << i) / 1e6:.6f}" for i in range(len(value) - 1)]
    return zip([*bounds, "+Inf"], accumulate(value), strict=True)


def _total_s(row: Mapping[str, Value], name: str) -> float:
    return _number(row.get(name.replace("_latency", "_us"), 0)) / 1e6
