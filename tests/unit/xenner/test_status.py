# SPDX-License-Identifier: GPL-2.0-or-later
"""How a backend's counters are shown."""

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from xenner.backend.prometheus import to_prometheus
from xenner.backend.status import Counters, Form, to_table

FORM = Form("blkbackd", "vbd", ("reads", "read_latency"), gauges=("depth",))
COUNTERS: Counters = {
    "backend/vbd/7/51712": {
        "reads": 8,
        "depth": 1,
        "read_us": 77,
        "read_latency": [0, 1, 2, 5],
    },
    "backend/vbd/10/768": {"reads": 0, "read_latency": [0, 0, 0, 0]},
    # Not connected yet.
    "backend/vbd/11/768": {},
}
PROMETHEUS = """\
# HELP blkbackd_depth depth of each vbd, \
as blkbackd counts it.
# TYPE blkbackd_depth gauge
blkbackd_depth{domid="7",devid="51712"} 1
# HELP blkbackd_read_latency_seconds read_latency of each vbd, \
as blkbackd counts it.
# TYPE blkbackd_read_latency_seconds histogram
blkbackd_read_latency_seconds_bucket{domid="10",devid="768",le="0.000001"} 0
blkbackd_read_latency_seconds_bucket{domid="10",devid="768",le="0.000002"} 0
blkbackd_read_latency_seconds_bucket{domid="10",devid="768",le="0.000004"} 0
blkbackd_read_latency_seconds_bucket{domid="10",devid="768",le="+Inf"} 0
blkbackd_read_latency_seconds_count{domid="10",devid="768"} 0
blkbackd_read_latency_seconds_sum{domid="10",devid="768"} 0.000000
blkbackd_read_latency_seconds_bucket{domid="7",devid="51712",le="0.000001"} 0
blkbackd_read_latency_seconds_bucket{domid="7",devid="51712",le="0.000002"} 1
blkbackd_read_latency_seconds_bucket{domid="7",devid="51712",le="0.000004"} 3
blkbackd_read_latency_seconds_bucket{domid="7",devid="51712",le="+Inf"} 8
blkbackd_read_latency_seconds_count{domid="7",devid="51712"} 8
blkbackd_read_latency_seconds_sum{domid="7",devid="51712"} 0.000077
# HELP blkbackd_read_us_total read_us of each vbd, \
as blkbackd counts it.
# TYPE blkbackd_read_us_total counter
blkbackd_read_us_total{domid="7",devid="51712"} 77
# HELP blkbackd_reads_total reads of each vbd, \
as blkbackd counts it.
# TYPE blkbackd_reads_total counter
blkbackd_reads_total{domid="10",devid="768"} 0
blkbackd_reads_total{domid="7",devid="51712"} 8"""
TABLE = """\
vbd                  reads  read_latency
vbd10.768                0           0/0
vbd11.768                0             0
vbd7.51712               8           8/8"""


def metrics(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def test_counters() -> None:
    assert metrics(to_prometheus(COUNTERS, FORM)) == metrics(PROMETHEUS)
    assert to_table(COUNTERS, FORM) == TABLE


def test_of_nothing() -> None:
    assert to_prometheus({}, FORM) == ""
    assert to_table({}, FORM) == TABLE.splitlines()[0]
