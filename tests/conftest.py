# SPDX-License-Identifier: GPL-2.0-or-later
"""For all floors: their order and environments, what they may not skip, the
record of what ran, Debian's kernel."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.environments.record import open_recorder
from tests.environments.rules import (
    FLOORS,
    Environment,
    current_environment,
    environments_of,
    floor_of,
    kvm_refusal,
)

TOP = Path(__file__).resolve().parent.parent
_KERNEL = TOP / "build/debian/vmlinuz"

# For this process and those it starts; what the caller said counts more.
if _KERNEL.exists():
    os.environ.setdefault("XENNER_DEBIAN_KERNEL", str(_KERNEL))


# How long an example takes is the machine's affair, not the test's.
settings.register_profile("xenner", deadline=None)
settings.load_profile("xenner")


def _required() -> list[str]:
    return os.environ.get("XENNER_REQUIRE", "").split(",")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tools/check."""
    group = parser.getgroup("xenner")
    group.addoption("--record", metavar="FILE", help="write what ran to FILE")
    group.addoption(
        "--host-kvm",
        choices=("yes", "no"),
        help="can the host use /dev/kvm? (default: found out on the host, "
        "yes elsewhere)",
    )


def _host_kvm(config: pytest.Config) -> bool:
    given = config.getoption("--host-kvm")
    if given is not None:
        return bool(given == "yes")
    # Where it is required, its tests are to fail and not to go elsewhere.
    return (
        current_environment() is not Environment.HOST
        or not kvm_refusal()
        or "kvm" in _required()
    )


def pytest_configure(config: pytest.Config) -> None:
    """The record is written by one process, not by pytest-xdist's workers."""
    path = config.getoption("--record")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(open_recorder(Path(path)))


def pytest_report_header(config: pytest.Config) -> str:
    """Which tests to expect."""
    header = f"environment: {current_environment()}"
    if not _host_kvm(config):
        header += ", no usable /dev/kvm on the host: its tests run in the lab"
    return header


def _floor(item: pytest.Item) -> str | None:
    directory = TOP / "tests"
    if not item.path.is_relative_to(directory):
        return None
    return floor_of(item.path.relative_to(directory))


def _runs_here(item: pytest.Item, *, host_kvm: bool) -> bool:
    floor = _floor(item)
    if floor is None:
        return True
    needs_kvm = (
        floor == "kvm"
        or item.get_closest_marker("kvm") is not None
        or "usable_kvm" in getattr(item, "fixturenames", ())
    )
    try:
        environments = environments_of(
            floor,
            marks=[mark.args for mark in item.iter_markers("environments")],
            needs_kvm=needs_kvm,
            host_kvm=host_kvm,
        )
    except ValueError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error
    return current_environment() in environments


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """The fast floors first, within one the files' own order; what belongs
    elsewhere is not selected."""
    order = {floor: i for i, floor in enumerate(FLOORS)}
    items.sort(key=lambda item: order.get(_floor(item) or "", len(order)))
    host_kvm = _host_kvm(config)
    kept = [item for item in items if _runs_here(item, host_kvm=host_kvm)]
    elsewhere = set(items) - set(kept)
    if elsewhere:
        config.hook.pytest_deselected(
            items=[item for item in items if item in elsewhere]
        )
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """XENNER_REQUIRE=kvm,root: a skip that begins "kvm:" is a failure."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if ":" in reason and reason.split(":")[0] in _required():
            report.outcome = "failed"
            report.longrepr = f"required by XENNER_REQUIRE: {reason}"
    return report


@pytest.fixture(scope="session")
def usable_kvm() -> None:
    """Skip, with the reason, where there is no /dev/kvm to open."""
    if refusal := kvm_refusal():
        pytest.skip(f"kvm: {refusal}")


@pytest.fixture(scope="session")
def debian_kernel() -> Path:
    """Debian's vmlinuz, as tools/setup takes it from the archive."""
    name = os.environ.get("XENNER_DEBIAN_KERNEL")
    if not name:
        pytest.skip("kernel: tools/setup was not run: no build/debian/vmlinuz")
    return Path(name)
