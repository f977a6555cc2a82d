# SPDX-License-Identifier: GPL-2.0-or-later
"""For all floors: their order, what they may not skip, Debian's kernel."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
_FLOORS = ("style", "unit", "native", "component", "kvm", "system")
_KERNEL = TOP / "build/debian/vmlinuz"

# For this process and those it starts; what the caller said counts more.
if _KERNEL.exists():
    os.environ.setdefault("XENNER_DEBIAN_KERNEL", str(_KERNEL))


def _floor(item: pytest.Item) -> int:
    directory = item.path.relative_to(TOP / "tests").parts[0]
    return _FLOORS.index(directory) if directory in _FLOORS else len(_FLOORS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast floors first; within one, the files' own order."""
    items.sort(key=_floor)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """XENNER_REQUIRE=kvm,root: a skip that begins "kvm:" is a failure."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        required = os.environ.get("XENNER_REQUIRE", "").split(",")
        if ":" in reason and reason.split(":")[0] in required:
            report.outcome = "failed"
            report.longrepr = f"required by XENNER_REQUIRE: {reason}"
    return report


@pytest.fixture(scope="session")
def usable_kvm() -> None:
    """Skip, with the reason, where there is no /dev/kvm to open."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        pytest.skip(f"kvm: /dev/kvm: {error.strerror}")


@pytest.fixture(scope="session")
def debian_kernel() -> Path:
    """Debian's vmlinuz, as tools/setup takes it from the archive."""
    name = os.environ.get("XENNER_DEBIAN_KERNEL")
    if not name:
        pytest.skip("kernel: tools/setup was not run: no build/debian/vmlinuz")
    return Path(name)
