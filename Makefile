# make train and make test need only Python 3.11 to 3.14 (with venv) and make.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test clean

train: $(VENV)/.train
	$(RUN) -m launch.train --config=configs/vae.py --workdir=runs/vae

test: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile

$(VENV)/.train: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Segen needs Python 3.11, 3.12, 3.13 or 3.14; found none on PATH"; exit 2; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info
