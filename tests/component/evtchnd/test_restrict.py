# SPDX-License-Identifier: GPL-2.0-or-later
"""xentoolcore_restrict_all(): what a device model gives up is gone."""

import os
import subprocess
import sys

from tests.support.evtchnd import LIMIT_S, TOP, Client, Daemon

RIGHTS = {
    # Domain 1 is not there, and may be asked for.
    "port 1": "ESRCH",
    "port 2": "EACCES",
    "unbound": "EACCES",
    "virq": "EACCES",
    "page 1": "ok",
    "page 2": "EPERM",
    "grant": "ENOTTY",
    "copy": "ENOTTY",
    "call": "ENOTTY",
    "restrict": "EACCES",
}


def test_all_but_one_domain_is_given_up(daemon: Daemon) -> None:
    for domid in (1, 2):
        path = daemon.runtime_dir / f"vmcore.{domid}"
        path.touch()
        os.truncate(path, 16 << 20)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.component.evtchnd.restricted"],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=daemon.environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == f"0 {RIGHTS}\n"
        # Nor does another evtchnd give it back.
        daemon.stop()
        daemon.start()
        Client(daemon.path).close()
        said, _ = process.communicate("again\n", LIMIT_S)
    assert said == f"{RIGHTS}\n0\n"
    assert process.returncode == 0
