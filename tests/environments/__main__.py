# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/check: run the tests in their environments and say what ran where."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tests.environments.programs import make_all
from tests.environments.rerun import run_with_lost
from tests.environments.rules import Environment, kvm_refusal
from tests.environments.runs import Job, host_job, lab_job, run_job
from tests.environments.summary import Ran, render

_EPILOG = """\
Other arguments go to pytest. Without any argument everything runs in all
environments and a table follows; with arguments for pytest, but no --where,
pytest runs on the host alone. XENNER_REQUIRE=kvm,root,... says which skips are
failures; the default is all that the environment has.
"""


def _environments(text: str) -> list[Environment]:
    try:
        return [Environment(name) for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text}: an environment is one of {', '.join(Environment)}"
        ) from error


def parse(
    arguments: Sequence[str],
) -> tuple[list[Environment] | None, list[str]]:
    """The environments that were named, if any, and what is pytest's.

    argparse's SystemExit, status 2, when an environment is none.
    """
    parser = argparse.ArgumentParser(
        prog="tools/check",
        usage="tools/check [--where ENVIRONMENT,...] [PYTEST-ARGUMENT...]",
        description="Run the checks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--where",
        metavar="ENVIRONMENT,...",
        type=_environments,
        help="host, container, machine; default: all of them, in this order",
    )
    ours, theirs = parser.parse_known_args(arguments)
    return ours.where, theirs


def required_here(*, has_kvm: bool) -> str:
    """XENNER_REQUIRE for the host: what it has, no test may skip for."""
    given = os.environ.get("XENNER_REQUIRE")
    if given is not None:
        return given
    # What tools/setup installs, unpacks and builds.
    names = ["kernel", "tools", "build", "packages", "xenstore-utils", "pyxs"]
    if has_kvm:
        names.append("kvm")
    if os.geteuid() == 0:
        names.append("root")
    return ",".join(names)


def _job(
    environment: Environment, arguments: Sequence[str], *, has_kvm: bool
) -> Job:
    if environment is Environment.HOST:
        return host_job(arguments, required=required_here(has_kvm=has_kvm))
    return lab_job(
        environment,
        arguments,
        host_kvm=has_kvm,
        required=os.environ.get("XENNER_REQUIRE"),
    )


def _run(
    environment: Environment, arguments: Sequence[str], *, has_kvm: bool
) -> Ran:
    print(f"\n== {environment} ==", flush=True)
    if environment is not Environment.HOST:
        try:
            make_all()
        except subprocess.CalledProcessError as error:
            # The compiler has said why.
            return Ran(environment=environment, problem=str(error))

    def run(again: Sequence[str]) -> Ran:
        # A test's name is enough; what else was asked for chose it.
        job = _job(environment, again or arguments, has_kvm=has_kvm)
        return run_job(job, sys.stdout.buffer)

    return run_with_lost(run)


def main() -> int:
    """0 if all is good, 1 if not, 130 when interrupted."""
    where, arguments = parse(sys.argv[1:])
    has_kvm = not kvm_refusal()
    if where is None and arguments:
        job = host_job(arguments, required=required_here(has_kvm=has_kvm))
        os.environ.update(job.variables)
        os.execv(job.command[0], list(job.command))
    runs: list[Ran] = []
    try:
        for environment in where or Environment:
            runs.append(_run(environment, arguments, has_kvm=has_kvm))
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    finally:
        if runs:
            print(f"\n{render(runs)}", flush=True)
    ran_something = any(ran.results for ran in runs)
    return 0 if ran_something and all(ran.is_good for ran in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
