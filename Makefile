# Two commands on a fresh machine: `make demo` and `make test`. CONTRIBUTING.md has the rest.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo-output
STUDIES ?= studies
PORT ?= 8000

.PHONY: label help setup demo test check format bench clean map map-test map-lock

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

.venv/app.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/dev.ready: .venv/app.ready
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

setup: .venv/dev.ready  ## everything that developing needs, in .venv

demo: .venv/app.ready  ## a phantom study through the whole application
	$(BIN)/fracture-map demo $(OUT)

test: .venv/dev.ready .venv-label/ready  ## the tests; installs the validators and Orthanc where it is root on Debian
	@sh tests/install-services.sh
	$(BIN)/python -m pytest

check: .venv/dev.ready  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev.ready  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: .venv/dev.ready  ## time a 512x512x400 study against the SDK's stock operators
	$(BIN)/python tests/benchmarks/bench_study.py --out runs/bench

map: .venv/app.ready  ## the MAP image, by docker or buildah (TORCH=cpu: without CUDA)
	PYTHON=$(BIN)/python sh docker/map/build.sh

map-test: .venv/dev.ready map  ## build the image and run it as a hospital does
	FRACTURE_MAP_IMAGE=$$(cat build/map/image) $(BIN)/python -m pytest tests/map/test_image.py

map-lock: .venv/app.ready  ## write the image's locks anew, after a change of the dependencies
	$(BIN)/python docker/map/lock.py

.venv-label/ready: pyproject.toml label_app/requirements-no-deps.txt
	$(PYTHON) -m venv .venv-label
	.venv-label/bin/pip install --quiet --editable ".[label]"
	.venv-label/bin/pip install --quiet --no-deps --requirement label_app/requirements-no-deps.txt
	@touch $@

label: .venv-label/ready  ## the MONAI Label server (STUDIES=folder or http://.../dicom-web, PORT=8000)
	.venv-label/bin/cspine-label serve --studies $(STUDIES) --port $(PORT) $(LABEL_OPTIONS)

clean:  ## remove what the targets above made
	rm -rf .venv .venv-label demo-output runs build dist
