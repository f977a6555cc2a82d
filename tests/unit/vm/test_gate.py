# SPDX-License-Identifier: GPL-2.0-or-later
"""Where vCPUs' threads wait."""

from xennerd.vm.kvm.vcpu import Gate


def test_numbers_of_no_vcpu_are_not_kept() -> None:
    gate = Gate(is_open=True)
    for nr in range(1000):
        gate.start(nr << 20 | 2)
    assert gate.started == {0, 2}
    assert gate.pass_through(2)
