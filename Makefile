# make train [CONFIG=configs/image/x.py] [WORKDIR=runs/x]   sets up everything and trains
# make test                                           sets up everything and runs the tests
# make test-all                                       and those that take long and show little more
# make notebooks [NOTEBOOKS=notebooks/x.ipynb]         runs the notebooks and keeps their outputs

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/image/quickstart.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
# With EXTRA=cuda13 or EXTRA=tpu, JAX for that accelerator.
EXTRA ?=
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
# What is installed, by what it was installed with.
RUN = $(VENV)/.run$(EXTRA)
TEST = $(VENV)/.test

.PHONY: train test test-all notebooks lint format clean

train: $(RUN)
	$(VENV)/bin/python -m vq_jax.train --config $(CONFIG) --workdir $(WORKDIR)
ifeq ($(CONFIG),configs/image/quickstart.py)
	$(VENV)/bin/python -m vq_jax.train --config configs/image/quickstart_prior.py --workdir $(WORKDIR)_prior \
	  --config.tokenizer.workdir=$(WORKDIR)
	$(VENV)/bin/python -m vq_jax.sample --workdir $(WORKDIR)_prior --num 144 --output $(WORKDIR)_prior/samples.png
	$(VENV)/bin/python -m vq_jax.report $(WORKDIR) $(WORKDIR)_prior --output $(WORKDIR)_prior/report.html
else
	$(VENV)/bin/python -m vq_jax.report $(WORKDIR) --output $(WORKDIR)/report.html
endif

# Stealing leaves the tests of a file, which share what was trained for them, with one process.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: $(TEST) lint
	$(PYTEST) -m "not slow"

test-all: $(TEST) lint
	$(PYTEST)

notebooks: $(TEST)
	$(VENV)/bin/python notebooks/execute.py $(NOTEBOOKS)

lint: $(TEST)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

format: $(TEST)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or newer is needed; name one by make PYTHON=python3.11'; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUN): requirements.txt constraints.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet -r requirements.txt -c constraints.txt
	$(if $(EXTRA),$(VENV)/bin/pip install --quiet "jax[$(EXTRA)]" -c constraints.txt)
	$(VENV)/bin/pip install --quiet --no-deps -e .
	@touch $@

$(TEST): requirements-test.txt $(RUN)
	$(VENV)/bin/pip install --quiet -r requirements-test.txt -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info
