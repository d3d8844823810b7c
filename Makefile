# `make help` lists what this file can do. Needs Python 3.11 or newer, make, and the network for the first call.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The address of an index of PyTorch's CPU wheels, which spares 4 GB of CUDA; PyTorch's installation page names one. Its
# two wheels are taken at the locked versions; their hashes are not in the lock.
TORCH_INDEX ?=

# One run of the analysis: make report DATA=path PROFILE=quick RUN=name ARGS="--from 05"
DATA ?=
PROFILE ?= demo
RUN ?= $(PROFILE)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup report quick test test-browser lint unit smoke lab bench fuzz kills doctor docs slides figures reference predictor lock audit-deps clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "facelib needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url "$(TORCH_INDEX)" $$(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock))
	awk '/^[a-z]/ {cuda = /^(nvidia-|cuda-|triton=)/} !cuda || "$(TORCH_INDEX)" == ""' requirements.lock > $(VENV)/requirements.lock
	$(PIP) --require-hashes -r $(VENV)/requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.installed  ## install the locked packages into .venv (about 6 GB: the stock torch wheels carry CUDA)

report: setup  ## run the analysis into runs/RUN: synthetic faces, or DATA=path PROFILE=quick|full RUN=name
	$(BIN)/facelib run $(if $(DATA),--data "$(DATA)") --profile $(PROFILE) --run $(RUN) $(ARGS)

# One process a core, one thread a process; a file's tests share its fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

quick: setup lint  ## lint and the fast tests
	$(PYTEST) -m "not slow" tests facelib --ignore tests/notebooks

test: setup lint  ## lint, all tests, and every notebook in a small run
	$(MAKE) --jobs 2 unit smoke

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: setup
	$(PYTEST) tests facelib --ignore tests/notebooks

# nbval executes the sources in order, in one run folder, which learns a fourth drawn attribute.
SMOKE := OMP_NUM_THREADS=1 FACELIB_RUN=smoke $(BIN)/python
smoke: setup
	rm -rf runs/smoke
	$(SMOKE) -c 'from facelib import runs; runs.start_run(profile="smoke", overrides={"attributes": "age gender ethnicity expression"})'
	$(SMOKE) -m pytest -o addopts= --nbval-lax --nbval-current-env notebooks
	FACELIB_RUN=smoke $(PYTEST) --dist load tests/notebooks

# Reuses the run of an earlier call and renders its report again.
test-browser: setup  ## check every page of a small run's report in headless Chromium, and with axe-core where npm has it
	-npm install --no-save --silent axe-core
	$(BIN)/facelib run --profile smoke --run browser
	FACELIB_RUN=browser $(BIN)/python -m pytest -o addopts=-q -rs tests/rendered tests/robustness/test_report_in_browser.py

lab: setup  ## open the notebooks in JupyterLab
	FACELIB_RUN=$(RUN) FACELIB_PROFILE=$(PROFILE) $(BIN)/jupyter lab notebooks

bench: setup  ## measure the speed of decoding, pair search, embedding, training and LIME on this machine
	$(BIN)/python -m benchmarks.decode $(if $(DATA),"$(DATA)")
	$(BIN)/python -m benchmarks.pair_search $(if $(DATA),"$(DATA)")
	$(BIN)/python -m benchmarks.embedding
	$(BIN)/python -m benchmarks.training_step $(if $(DATA),"$(DATA)")
	$(BIN)/python -m benchmarks.lime_speed

fuzz: setup  ## read thousands of damaged pictures: none lost, none slow, nothing opened outside the data folder
	$(BIN)/python -m benchmarks.fuzz_images

kills: setup  ## kill and resume runs; results must equal an uninterrupted run
	$(BIN)/python -m benchmarks.kills

doctor: setup  ## say what is missing or slow on this machine
	@$(BIN)/facelib doctor

docs: setup  ## the pages of docs/ and reports/ as a site with the published report: build/docs/index.html
	$(BIN)/python -m studies.docs_site

slides: setup  ## typeset presentation.pdf from RUN's results and figures
	$(BIN)/facelib slides --run $(RUN)

# The README's figures: drawn faces, and plots of RUN, which show no single real face.
FIGURES := 04_two_stage_errors.svg 06_age_bias.svg 06_gender_by_age.svg 08_mean_maps.png
figures: setup  ## make figures/ and presentation.pdf from RUN, for the README
	$(BIN)/python -m facelib.plots.showcase figures/synthetic_faces.png
	cp $(FIGURES:%=runs/$(RUN)/figures/%) figures/
	$(BIN)/facelib slides --run $(RUN)

# Refused before anything is installed.
.PHONY: data-given more-given
more-given:
	@test -n "$(MORE)" || { echo "name both data sets: make predictor DATA=path/to/UTKFace MORE=path/to/fairface"; exit 2; }
data-given:
	@test -n "$(DATA)" || { echo "name the photographs: make reference DATA=path/to/UTKFace"; exit 2; }

# Draws the reference's test split, on which no earlier version was scored as a whole; apart from the seed of the training.
SPLIT_SEED := 25
reference: data-given setup  ## run and publish the reference on DATA: reports/utkface, README's table, figures/, presentation.pdf
	$(BIN)/facelib run --data "$(DATA)" --profile full --run utkface -p split_seed $(SPLIT_SEED) $(ARGS)
	$(BIN)/python -m facelib.publication.publish utkface
	$(MAKE) figures RUN=utkface
	$(BIN)/python -m studies.docs_tables

# Tested on the reference's test faces and on those of MORE. It is to predict photographs: its stages learn little, and
# its errors are neither clustered nor explained.
predictor: more-given data-given setup  ## after `reference`: train the joint network of `facelib predict` on DATA and MORE, and publish it: reports/faces
	$(BIN)/facelib run --data "$(DATA)" --data "$(MORE)" --profile full --run faces -p recipe face_joint -p split_of utkface \
	  -p split_seed $(SPLIT_SEED) -p stage_epochs 1 -p views 1 --to 06 $(ARGS)
	$(BIN)/python -m studies.cross_data faces --test utkface
	$(BIN)/python -m facelib.publication.publish utkface
	$(BIN)/python -m facelib.publication.publish faces --predictor
	$(BIN)/python -m studies.docs_tables

lock:  ## update requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --extra cluster --extra faces --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-header --upgrade --quiet -o requirements.lock

audit-deps: setup  ## look up known vulnerabilities of the locked packages (needs a database)
	$(BIN)/python -m benchmarks.vulnerabilities

clean:  ## remove caches, synthetic faces and the smoke run (other runs stay)
	rm -rf data/cache runs/smoke .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
