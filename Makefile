# SPDX-License-Identifier: GPL-2.0-or-later
# The front door. What it does stands in tools/, demo/, bench/, soak/ and tests/.

PYTHON = .venv/bin/python
WHERE = machine

help:
	@cat tools/targets.txt

setup:
	@tools/setup

demo: setup
	@$(PYTHON) -m demo

check: setup
	@tools/check

test: setup
	@tools/check -q tests/style tests/unit tests/native

coverage: setup
	@$(PYTHON) -m tests.environments.coverage

bench: setup
	@$(PYTHON) -m bench $(BENCH)

soak: setup
	@$(PYTHON) -m soak $(PART) $(MINUTES)

lab: setup
	@$(PYTHON) -m lab shell --where $(WHERE)

# CMD is one word for the lab, whatever stands in it.
lab-run: export LAB_CMD = $(value CMD)
lab-run: setup
	@$(PYTHON) -m lab run --where $(WHERE) -- "$$LAB_CMD"

install:
	@tools/install

deb:
	@tools/deb

.PHONY: help setup demo check test coverage bench soak lab lab-run install deb
