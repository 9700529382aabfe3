# `make` builds everything and says what to open; `make test` checks everything. Targets are listed in CONTRIBUTING.md.
# Needs git, make and Python 3.11 or later; nothing else is assumed to be installed.

PYTHON ?= python3
PROFILE ?= smoke
PY := .venv/bin/python
READY := .venv/.ready
CHAPTER ?= $(patsubst book/%.ipynb,%,$(sort $(shell find book -name '*.ipynb' -not -path '*/.*')))
SITE := jupyter-book build -W -n --keep-going --all --quiet
export OMP_NUM_THREADS ?= 1
export PYTHONHASHSEED ?= 0

.DEFAULT_GOAL := all
.PHONY: all install demo site chapters refresh readme site-from-runs linkcheck pdf browser test lint pairs unit notebooks site-checks clean

all: demo site
	@echo "Open _build/html/index.html in a browser. Next: make test, or .venv/bin/affectcore --help"

# Set-up, once; again when a pin changes.
install: $(READY)

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	.venv/bin/affectcore demo

# The site, from the notebooks as committed.
site: $(READY)
	@rm -rf _build/html
	.venv/bin/$(SITE) .

# Every chapter by papermill into runs/PROFILE, one process each: make -j2 chapters PROFILE=standard
chapters: $(addprefix run/,$(CHAPTER))

run/%: $(READY)
	@$(PY) -m affectcore.chapters run --profile $(PROFILE) $*

# The site from those runs instead, in _build/from-runs/_build/html.
site-from-runs: $(READY)
	$(PY) -m affectcore.chapters stage --runs runs/$(PROFILE) _build/from-runs
	.venv/bin/$(SITE) _build/from-runs

# Execute the texts and update the committed notebooks: make -j2 refresh, or make refresh CHAPTER=foundations/data
refresh: $(addprefix refresh/,$(CHAPTER))

refresh/%: $(READY)
	@$(PY) -m affectcore.chapters refresh $*

# The README's picture and table of verdicts, from the committed ledger.
readme: $(READY)
	$(PY) -m affectcore.figures.readme

linkcheck: $(READY)
	.venv/bin/$(SITE) . --builder linkcheck

# The whole book as one file, printed from the site by headless Chromium.
pdf: site
	$(PY) book/_ext/printed.py _build/html _build/affectcore.pdf

# Every page of the site in headless Chromium; pictures of all lie in _build/browser afterwards.
browser: site
	.venv/bin/pytest tests/site/test_browser.py -q

# Checks, in the order of what fails fastest, one after the other even under -j.
test: $(READY)
	@$(MAKE) --no-print-directory -j1 lint pairs unit notebooks site site-checks
	@echo "All checks passed."

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

pairs: $(READY)
	$(PY) -m affectcore.chapters pairs

unit: $(READY)
	.venv/bin/pytest tests -q -n 2 -m "not slow" --ignore=tests/site

notebooks: $(READY)
	.venv/bin/pytest book -q -n 2 --nbval

site-checks: site
	.venv/bin/pytest tests/site -q -m "not slow"

clean:
	rm -rf _build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
