# Two commands from a bare clone: `make demo`, then `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/digits

.PHONY: demo test lint
demo: $(VENV)/.installed
	$(VENV)/bin/dietjax train experiments/digits_vgg.py --workdir $(RUN)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

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
