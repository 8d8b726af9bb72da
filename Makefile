# Every target that runs something sets up .venv first: once, and again when what it holds changes.
PYTHON ?= python3.11
TORCH := torch==2.13.0
UV := uv==0.13.9
STAMP := .venv/.installed
CORRIGENDA := .venv/bin/corrigenda
# Threads that spin while they wait slow torch down many times over wherever it shares its cores.
export OMP_WAIT_POLICY := PASSIVE
# Each of hundreds of processes would compile what it imports again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test chaos up down status lint bench pins browser

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(STAMP)  ## from twelve corrections to a new version; REVIEW=me to approve it yourself, CORRECTIONS=file for yours
	$(CORRIGENDA) demo $(if $(REVIEW),--review "$(REVIEW)") $(if $(CORRECTIONS),--corrections "$(CORRECTIONS)")

test: $(STAMP) browser  ## all tests, on real services and the real model; TESTS=path for some
	.venv/bin/python -m pytest $(or $(TESTS),--numprocesses 2 --dist loadfile --no-loadscope-reorder)

chaos: $(STAMP)  ## kill refreshes, reviews and promotions 200 times, and put each right; CHAOS_KILLS, CHAOS_SEED
	.venv/bin/python -m pytest -q tests/flows/chaos.py

up: $(STAMP)  ## start the local stack
	$(CORRIGENDA) up

down: $(STAMP)  ## stop the local stack
	$(CORRIGENDA) down

status: $(STAMP)  ## say how each part of the local stack is
	$(CORRIGENDA) status

lint: $(STAMP)  ## style, format, types, import contracts and the AWS template
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/cfn-lint infra/aws/*.yaml

bench: $(STAMP)  ## measure against the goals in about an hour, and show all kept results; BENCH=names for some
	.venv/bin/python -m benchmarks $(BENCH)

pins: $(STAMP)  ## write infra/pins.txt anew from what is installed
	.venv/bin/python -m infra.pins

$(STAMP): pyproject.toml infra/pins.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet $(TORCH) $(UV)
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --compile-bytecode --requirement infra/pins.txt
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	touch $@

# The browser test skips itself where there is no chromium.
browser:
	@command -v chromium >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium for the browser test"; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null || \
		echo "chromium can't be installed: the browser test will be skipped"; \
	fi
