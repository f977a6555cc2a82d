# SPDX-License-Identifier: GPL-2.0-or-later
"""A script of the operator's own, run as Xen's toolstack runs it
(libxl_linux.c). Blocks until it ends."""

import os
import subprocess
from tempfile import TemporaryFile

from netbackd.config import VifConfig
from xenner.errors import HostError

_LIMIT_S = 40.0  # libxl's


def run_script(config: VifConfig, path: str, command: str) -> None:
    """`command` is "online" or "offline"; the script writes hotplug-status
    itself. HostError: it failed, or did not end."""
    environment = {
        **os.environ,
        "script": config.script,
        "XENBUS_TYPE": "vif",
        "XENBUS_PATH": path,
        "XENBUS_BASE_PATH": "backend",
        "netdev": config.netdev,
        "vif": config.name,
    }
    try:
        # A file: what the script leaves running may keep it open.
        with TemporaryFile("w+", errors="replace") as errors:
            status = subprocess.run(
                [config.script, command, "type_if=vif"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=_LIMIT_S,
            ).returncode
            errors.seek(0)
            said = errors.read().strip().splitlines()
    except OSError as error:
        raise HostError(f"{config.script}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(
            f"{config.script} {command} did not end in {_LIMIT_S:.0f} s"
        ) from error
    if status != 0:
        why = said[-1] if said else f"status {status}"
        raise HostError(f"{config.script} {command}: {why}")
