# Two commands from a bare clone: `make demo`, then `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/digits

WORKERS ?= 2
# more of pytest's options, such as --durations=20
TESTS ?=
PYTEST = $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: demo test test-rest test-all lint
demo: $(VENV)/.installed
	$(VENV)/bin/dietjax train experiments/digits_vgg.py --workdir $(RUN)

# something of every room, in minutes
test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

# what `make test` leaves out: whole runs, many processes and devices, the authors' figures of deep networks
test-rest: $(VENV)/.installed-dev
	$(PYTEST) -m slow

# both, as plain `pytest` runs them
test-all: $(VENV)/.installed-dev
	$(PYTEST)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports && $(VENV)/bin/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dietjax needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
