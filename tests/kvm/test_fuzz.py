# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzzers of soak/ with fixed seeds, as long as a test may take."""

from pathlib import Path

import pytest

from soak import hypercalls, userfuzz
from tests.environments import programs
from tests.environments.rules import current_environment, limit_s

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("usable_kvm")]


def test_user_space_cannot_end_its_guest(debian_kernel: Path) -> None:
    rounds = 26 if current_environment() == "host" else 13
    ended = userfuzz.run_fuzz(
        *("seed=2", f"rounds={rounds}"),
        f"at={programs.emu_address('ring0_call_insn'):#x}",
        most_s=limit_s(240),
    )
    outcome, attempts = userfuzz.judge(ended)
    assert outcome == "ok", "\n".join([*ended.lines, ended.messages])
    assert attempts > 0


@pytest.mark.parametrize("mode", hypercalls.MODES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_kernel_ends_itself_at_worst(mode: str, seed: int) -> None:
    programs.guests()
    flavour = hypercalls.FLAVOURS[seed % 2]
    ended = hypercalls.run_seed(seed, mode, flavour, calls=1500)
    assert not hypercalls.judge(ended, mode), ended
