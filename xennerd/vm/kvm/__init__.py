# SPDX-License-Identifier: GPL-2.0-or-later
"""/dev/kvm: the virtual machine and its vCPUs."""
