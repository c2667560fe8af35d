# make demo and make test set everything up by themselves; the rest assumes nothing either.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell $(p) -c "import sys; sys.exit(not (3,11) <= sys.version_info < (3,13))" 2>/dev/null && echo $(p))))
BIN := .venv/bin

# Byte code is worth seconds a process here; both tools phone home by default.
unexport PYTHONDONTWRITEBYTECODE
export BENTOML_DO_NOT_TRACK = True
export DVC_NO_ANALYTICS = true
# Threads that wait must sleep: spinning ones take the cores from whoever works.
export OMP_WAIT_POLICY = PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test check photos bento bento-gpu gpu-check bench-evaluator bench-serving bench-startup bench-int8 gate-simulation soak-evaluator soak-promotion soak-overload soak-fuzz soak-crash env format docs proto clean
help:
	@echo "make demo             nothing -> a promoted model answering Embed, Classify and Search"
	@echo "make test             the whole test suite"
	@echo "make check            ruff, mypy, import-linter"
	@echo "make photos           the pipeline on real photos (VITRINE_DATA, default ../shared/data)"
	@echo "make bento            package the production version as a bento; bento-gpu for NVIDIA machines"
	@echo "make gpu-check        the GPU's tests, and engines measured on it: benchmarks/gpu.md"
	@echo
	@echo "make bench-evaluator  the evaluator beside its peers: benchmarks/evaluator.md"
	@echo "make bench-serving    serving beside the bare engine and its peers: benchmarks/serving.md"
	@echo "make bench-startup    from the command to ready: benchmarks/startup.md"
	@echo "make bench-int8       int8 beside float32: benchmarks/int8.md (PHOTOS=data/NAME BUNDLES='bundles/CELL ...')"
	@echo "make gate-simulation  how often the promotion gates are right: benchmarks/gates.md"
	@echo "make soak-evaluator   200,000 x 512 evaluated, interrupted and resumed: benchmarks/evaluator-large.md"
	@echo "make soak-promotion   100 promotions and rollbacks under load, each answer checked: benchmarks/promotion.md"
	@echo "make soak-overload    ten minutes at five times the capacity: benchmarks/overload.md"
	@echo "make soak-fuzz        20,000 mutated photos and messages: benchmarks/fuzz.md"
	@echo "make soak-crash       300 kills in the middle of commands, everything checked after each: benchmarks/crash.md"
	@echo
	@echo "make env              the environment alone, in .venv"
	@echo "make format           ruff, with what it can mend"
	@echo "make docs             write docs/cli.md, docs/zoo.md and profiles/study.yaml anew"
	@echo "make proto            generate the code of proto/ anew; refuses what would break callers"
	@echo "make clean            remove environments, datasets, results and the registry"

env: .venv/ready
.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Vitrine needs Python 3.11 or 3.12; install one, or say which: make demo PYTHON=/path/to/python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null  # a virtual environment made by uv has no pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@echo "installing into .venv (a minute or two the first time)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable ".[cpu,dev]"
	@$(BIN)/python -c "import torchvision" 2>/dev/null || { echo "torch and torchvision do not fit together (their builds differ); delete .venv and run make again, or see docs/install.md"; exit 1; }
	@touch $@

demo: env
	@$(BIN)/python examples/demo.py

# Tests that start processes or listen on sockets run alone; the others use the cores there are.
SOLITARY := tests/services tests/e2e tests/crash
test: env
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(addprefix --ignore=,$(SOLITARY))
	@$(BIN)/python -m pytest $(SOLITARY)

check: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: env
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

VITRINE_DATA ?= ../shared/data
photos: env
	@test -d "$(VITRINE_DATA)" || { echo "no photos at $(VITRINE_DATA); say where they are: make photos VITRINE_DATA=/path"; exit 2; }
	@ln -sfn "$(abspath $(VITRINE_DATA))" sources
	@$(BIN)/vitrine pipeline profile photos
	@$(BIN)/dvc repro

proto: env
	@$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --mypy_out=. proto/vitrine/v1/*.proto
	@$(BIN)/python -m tests.proto_guard accept

docs: env
	@$(BIN)/python -m vitrine.cli.reference > docs/cli.md
	@$(BIN)/python -m vitrine.zoo_page > docs/zoo.md
	@$(BIN)/python -m training.study > profiles/study.yaml

bento: env
	@$(BIN)/bentoml build

bento-gpu: env
	@$(BIN)/bentoml build -f bentofile.gpu.yaml

# The peers have an environment of their own: they pin what we do not.
bench-evaluator: env
	@test -x .venv-bench/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --constraints constraints.txt --editable ".[cpu,dev,bench]"
	@.venv-bench/bin/python benchmarks/evaluator.py > benchmarks/evaluator.md.new && mv benchmarks/evaluator.md.new benchmarks/evaluator.md

# Server on one core, client on the other; the peers' environments (about 5 GB) are made by the first run.
bench-serving: env
	@$(BIN)/python benchmarks/serving/run.py > benchmarks/serving.md.new && mv benchmarks/serving.md.new benchmarks/serving.md

soak-evaluator: env
	@$(BIN)/python benchmarks/evaluator_large.py > benchmarks/evaluator-large.md.new && mv benchmarks/evaluator-large.md.new benchmarks/evaluator-large.md

gate-simulation: env
	@$(BIN)/python benchmarks/gate_simulation.py > benchmarks/gates.md.new && mv benchmarks/gates.md.new benchmarks/gates.md

# Ten minutes at five times the capacity; then SIGTERM under load.
soak-overload: env
	@$(BIN)/python benchmarks/soak_overload.py > benchmarks/overload.md.new && mv benchmarks/overload.md.new benchmarks/overload.md

soak-fuzz: env
	@$(BIN)/python benchmarks/soak_fuzz.py > benchmarks/fuzz.md.new && mv benchmarks/fuzz.md.new benchmarks/fuzz.md

# 300 SIGKILLs over six installations; about ten minutes on two quiet cores.
soak-crash: env
	@$(BIN)/python -m benchmarks.soak_crash > benchmarks/crash.md.new && mv benchmarks/crash.md.new benchmarks/crash.md

bench-startup: env
	@$(BIN)/python benchmarks/startup.py > benchmarks/startup.md.new && mv benchmarks/startup.md.new benchmarks/startup.md

# Over a copy of what `make demo` left; about 20 minutes on a quiet machine.
soak-promotion: env
	@$(BIN)/python -m benchmarks.soak_promotion > benchmarks/promotion.md.new && mv benchmarks/promotion.md.new benchmarks/promotion.md

bench-int8: env
	@test -n "$(PHOTOS)" || { echo "say which imported photos calibrate and ask: make bench-int8 PHOTOS=data/grocery-store BUNDLES=bundles/CELL"; exit 2; }
	@$(BIN)/python benchmarks/int8.py --photos $(PHOTOS) $(BUNDLES) > benchmarks/int8.md.new && mv benchmarks/int8.md.new benchmarks/int8.md

# Needs an NVIDIA GPU and its driver, and TensorRT from NVIDIA's index: see docs/install.md.
gpu-check: env
	@$(BIN)/python -m pytest -n0 tests/gpu tests/contracts/test_backends.py
	@$(BIN)/python benchmarks/gpu.py > benchmarks/gpu.md.new && mv benchmarks/gpu.md.new benchmarks/gpu.md

clean:
	rm -rf .venv .venv-bench .venv-peers .vitrine data work bundles report
