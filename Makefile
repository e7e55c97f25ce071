# Two commands do all set-up: `make demo` and `make test`. Only Python 3.11 to 3.14 and make are needed.

PYTHON ?= python3
VENV ?= .venv
ROUNDS ?= 5
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test check lint types contracts docs model reference long evidence bench clean

demo: $(VENV)/.runnable
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long and not model" --ignore tests/docs

check: lint types contracts docs model

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python
	cd $(VENV) && PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" pyright --verifytypes pluperfect --ignoreexternal

contracts: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m pytest tests/docs

reference: $(STAMP)
	$(BIN)/python docs/make_reference.py

model: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "model and not long"

long: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long -rP --durations=0 --durations-min=5

evidence: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long -rP --durations=0 --durations-min=5 --evidence=docs/evidence.md

bench: $(STAMP)
	PYTHON=$(PYTHON) benchmarks/peers/install.sh .peers pluperfect dbos eventsourcing prefect
	$(BIN)/python benchmarks/bench.py --peers .peers --rounds $(ROUNDS) --out benchmarks/results
	$(BIN)/python benchmarks/bench.py --growth --rounds $(ROUNDS) --out benchmarks/results

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 14); \
		sys.exit(0 if ok else "Python 3.11, 3.12, 3.13 or 3.14 is needed, and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12 test" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runnable: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(STAMP): $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.runnable

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
