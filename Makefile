# SPDX-License-Identifier: GPL-2.0-or-later
# The front door. What it does stands in tools/, demo/, bench/ and tests/.

PYTHON = .venv/bin/python

help:
	@cat tools/targets.txt

setup:
	@tools/setup

demo: setup
	@$(PYTHON) -m demo

check: setup
	@tools/check

bench: setup
	@$(PYTHON) -m bench $(BENCH)

install:
	@tools/install

.PHONY: help setup demo check bench install
