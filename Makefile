# demo   install spikeloop and train Yin-Yang: in software, moved to the twin of a chip, with the twin in the loop
# test   install and pass every test
# lint   style, layers and types      docs    pages of the public names
# bench  speed, in minutes            bench-all   speed in full, beside the peers and as plots, and the accuracies: hours
PYTHON ?= python3
EPOCHS ?= 60
TWIN_EPOCHS ?= 40
CHIP ?= 7
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# torch's threads sleep while they wait: spinning, they cost a busy machine several times the work itself
export OMP_WAIT_POLICY ?= PASSIVE
# data sets that lie beside the checkout need no download
ifneq ($(wildcard ../shared/data),)
export SPIKELOOP_DATA ?= $(realpath ../shared/data)
endif

bin := .venv/bin
brian2 := .venv-brian2
pytest = SPIKELOOP_BRIAN2_PYTHON=$(CURDIR)/$(brian2)/bin/python $(bin)/python -m pytest
sources := pyproject.toml CMakeLists.txt constraints.txt $(shell find cpp src -type f -not -path "cpp/tests/*" -not -name '*.so' -not -path '*__pycache__*')

.PHONY: demo test lint bench bench-all docs clean

demo: .venv/cli
	rm -rf runs/demo runs/demo-twin
	$(bin)/spikeloop train yin-yang --epochs $(EPOCHS) --folder runs/demo
	$(bin)/spikeloop evaluate runs/demo --substrate twin --chip $(CHIP)
	$(bin)/spikeloop train yin-yang --substrate twin --chip $(CHIP) --epochs $(TWIN_EPOCHS) --folder runs/demo-twin

test: .venv/dev $(brian2)/ready
	$(pytest) --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(PYTEST)
	$(pytest) -m alone $(PYTEST)

lint: export PATH := $(CURDIR)/$(bin):$(PATH)
lint: .venv/dev
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	pyright
	pyright --ignoreexternal --verifytypes spikeloop

bench: .venv/dev
	$(bin)/python benchmarks/speed.py

bench-all: .venv/dev
	$(bin)/python benchmarks/speed.py --all
	$(bin)/python benchmarks/speed.py --laws
	$(bin)/python benchmarks/speed.py --learning
	$(bin)/python benchmarks/speed.py --peers
	$(bin)/python benchmarks/accuracy.py

docs: .venv/dev
	$(bin)/pdoc --output-directory build/docs spikeloop $(addprefix spikeloop.,ann checkpoint conformance data loss plot training)

clean:
	rm -rf .venv .venv-brian2 build

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The tools come first, so that no build is isolated: each goes on from the object files of the last one.
.venv/tools: .venv/bin/python pyproject.toml constraints.txt
	$(bin)/python -m pip install --quiet cmake ninja nanobind scikit-build-core
	touch $@

.venv/cli: .venv/tools $(sources)
	$(bin)/python -m pip install --quiet --no-build-isolation '.[cli]'
	touch $@

.venv/dev: .venv/tools $(sources)
	$(bin)/python -m pip install --quiet --no-build-isolation '.[cli,dev]'
	touch $@ .venv/cli

# Brian2 2.9 needs an older NumPy than ours.
$(brian2)/ready:
	$(PYTHON) -m venv $(brian2)
	PIP_CONSTRAINT= $(brian2)/bin/python -m pip install --quiet 'brian2==2.9.*' 'numpy==1.26.*' 'setuptools<81'
	$(brian2)/bin/python -c 'import brian2'
	touch $@
