# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest as a process of its own, selecting and recording; labs that are
none, with all that can go wrong in one."""

import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from tests.environments.rules import Environment
from tests.environments.runs import TOP, Job, lab_job, run_job

PYTEST = [sys.executable, "-m", "pytest", "-q"]
# A small file of the fastest floor, and what the environments differ in.
SAMPLE = "tests/unit/xennerd/test_jsonstream.py"
WHOLE = [SAMPLE, "tests/component/vm", "tests/kvm", "tests/system"]


def collected(environment: str, *options: str) -> set[str]:
    done = subprocess.run(
        [*PYTEST, "--collect-only", *WHOLE, *options],
        cwd=TOP,
        env={**os.environ, "XENNER_PLACE": environment, "XENNER_REQUIRE": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return {line for line in done.stdout.splitlines() if "::" in line}


def floors(tests: set[str]) -> set[str]:
    return {test.split("/")[1] for test in tests}


@pytest.fixture(scope="module")
def with_kvm() -> list[set[str]]:
    """What each environment has where the host has a KVM."""
    return [
        collected(environment, "--host-kvm=yes") for environment in Environment
    ]


def test_each_environment_gets_its_tests(with_kvm: list[set[str]]) -> None:
    host, container, machine = with_kvm
    assert floors(host) == {"unit", "component", "kvm"}
    assert floors(container) == {"system"}
    assert floors(machine) == {"kvm", "system"}
    assert machine - host - container
    assert len(machine - container) < len(host)


def test_without_kvm_its_tests_run_in_the_machine(
    with_kvm: list[set[str]],
) -> None:
    """All of them, and nowhere else."""
    host, container, machine = (
        collected(environment, "--host-kvm=no") for environment in Environment
    )
    whole, *_ = with_kvm
    assert floors(host) == {"unit", "component"}
    assert whole - host <= machine
    assert not host & machine
    assert not [test for test in container if "guest" in test]


def job(
    tmp_path: Path,
    *command: str,
    environment: Environment = Environment.MACHINE,
) -> Job:
    return Job(
        environment=environment, command=command, record=tmp_path / "out/record"
    )


def test_a_lab_is_asked_for_what_it_has(tmp_path: Path) -> None:
    command = lab_job(
        Environment.MACHINE, ["-k", "events"], host_kvm=True
    ).command
    assert command[-1].endswith("-k events tests/kvm tests/system")
    named = ["tests/kvm/test_guests.py::test_guest", "-x"]
    command = lab_job(Environment.CONTAINER, named, host_kvm=False).command
    assert command[-1].endswith(f"--host-kvm=no {' '.join(named)}")


def test_output_is_streamed_and_the_record_read(tmp_path: Path) -> None:
    output = BytesIO()
    record = f"--record={tmp_path}/out/record"
    ran = run_job(job(tmp_path, *PYTEST, record, SAMPLE), output)
    assert ran.problem == ""
    assert ran.is_good
    assert ran.results
    assert {result.floor for result in ran.results} == {"unit"}
    assert b" passed" in output.getvalue()


def test_failures_come_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_no():\n    assert False\n")
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\n")
    plugin = [
        *(f"--record={tmp_path}/out/record", f"--rootdir={tmp_path}"),
        *("-p", "tests.conftest", f"--confcutdir={tmp_path}"),
        *("-c", str(config), "-p", "no:cacheprovider"),
    ]
    ran = run_job(job(tmp_path, *PYTEST, *plugin, str(tmp_path)), BytesIO())
    assert [result.outcome for result in ran.results] == ["failed"]
    assert ran.problem == ""


def test_a_lab_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    says = "echo 'lab: no space on device' >&2; exit 125"
    ran = run_job(job(tmp_path, "sh", "-c", says), BytesIO())
    assert not ran.is_good
    assert "status 125" in ran.problem
    assert "lab: no space on device" in ran.problem


def test_who_is_left_behind_holds_nobody_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ran = run_job(job(tmp_path, "sh", "-c", f"cat {fifo} & exit 5"), BytesIO())
    assert "status 5" in ran.problem
    fifo.write_bytes(b"")  # and now cat(1) ends


def test_what_an_earlier_run_left_is_not_believed(tmp_path: Path) -> None:
    started = job(tmp_path, "false")
    started.record.parent.mkdir()
    started.record.write_text('{"status": 0}\n')
    assert not run_job(started, BytesIO()).is_good


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ('{"status": 0}', 1),  # the environment itself failed afterwards
        ('{"status": 3}', 3),  # an internal error of pytest's
        ('{"status": 2}', 2),  # interrupted
    ],
)
def test_ends_that_are_no_ends(
    tmp_path: Path, record: str, status: int
) -> None:
    text = f"echo '{record}' >{tmp_path}/out/record; exit {status}"
    ran = run_job(job(tmp_path, "sh", "-c", text), BytesIO())
    assert ran.problem


def test_an_environment_that_stands_still_is_started_once_more(
    tmp_path: Path,
) -> None:
    record = f"echo '{{\"status\": 0}}' >{tmp_path}/out/record"
    first = (
        f"[ -e {tmp_path}/was ] || {{ touch {tmp_path}/was; exec sleep 60; }}"
    )
    still = job(tmp_path, "sh", "-c", f"echo on; {first}; {record}")
    output = BytesIO()
    assert run_job(replace(still, silence_s=0.5), output).problem == ""
    assert b"stands still" in output.getvalue()
    assert output.getvalue().count(b"on\n") == 2


def test_an_environment_that_stands_still_twice_has_failed(
    tmp_path: Path,
) -> None:
    still = job(tmp_path, "sleep", "60")
    ran = run_job(replace(still, silence_s=0.5), BytesIO())
    assert not ran.is_good
    assert "twice" in ran.problem


def test_no_lab_command_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_job(job(tmp_path, str(tmp_path / "none")), BytesIO())
