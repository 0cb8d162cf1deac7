# Every target installs what it needs first. On a fresh machine: `make finetune`, `make test`.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python -m nanochat_core
# Editable, so that the commands `nanochat` and `nanochat-studio` run the code of this folder.
PIP    := $(VENV)/bin/python -m pip install --disable-pip-version-check --editable

DATA   ?= data/example_data.jsonl
TAG    ?= finetuned
NPROC  ?= 8
ARGS   ?=
PYTEST ?=

# nanochat-d32 where it has been downloaded, else the shipped practice model.
MODELS := $(or $(NANOCHAT_STUDIO_HOME),.)/models
D32    := $(wildcard $(MODELS)/pretrained/chatsft_checkpoints/d32/meta_*.json)
TUNED   = $(wildcard $(MODELS)/finetuned/$(TAG)/meta_*.json)
MODEL  ?= $(if $(D32),d32,starter)
SHOTS  ?= models/screenshots
BENCH  ?= training optimizer chat tokenizing evaluation growth load_memory data_tab rows app
# mine_data.jsonl is asked about with mine_questions.jsonl where there is one.
QUESTIONS ?= $(if $(filter %_data.jsonl,$(DATA)),$(wildcard $(DATA:_data.jsonl=_questions.jsonl)))
SETTINGS = --data_path "$(DATA)" --model_tag $(MODEL) --output_tag $(TAG) \
           $(if $(QUESTIONS),--questions_path "$(QUESTIONS)") $(ARGS)

.PHONY: emulator help install download finetune finetune-multi chat app chat-web test check lint format types layers sanitize test-browser chromium screenshots bench gpu-check starter notebook notebooks clean

help:
	@echo "make install                               install what is needed, once; every target below does it first"
	@echo "make app                                   open the app: edit data, train, compare, chat"
	@echo "make finetune [DATA=my.jsonl] [TAG=name]   train on conversations; make finetune-multi NPROC=8 on several GPUs"
	@echo "make chat [TAG=name]                       talk to the trained model"
	@echo "make download                              fetch nanochat-d32 (7.3 GB)"
	@echo "make check                                 style, types, layers and the quick tests, in about a minute"
	@echo "make test                                  run all checks; make test-browser only the app's in a real browser"
	@echo "make notebook                              open the walkthroughs in Jupyter"
	@echo "make screenshots [SHOTS=folder]            pictures of every tab"
	@echo "make gpu-check                             on a GPU: every memory mode right, within its plan, and how fast"
	@echo "make bench [BENCH=training]                measure speed and memory beside other programs"

install: $(VENV)/.installed

download: install
	$(RUN) download

finetune: install
	@$(if $(filter starter,$(MODEL)),echo "Base model: the shipped starter (5M parameters, practice only); make download fetches nanochat-d32.",:)
	$(RUN) finetune $(SETTINGS)

finetune-multi: install
	@$(if $(filter starter,$(MODEL)),echo "Base model: the shipped starter (5M parameters, practice only); make download fetches nanochat-d32.",:)
	$(RUN) finetune --nproc $(NPROC) $(SETTINGS)

chat: install
	@$(if $(TUNED),:,echo "There is no run '$(TAG)' yet: this is the model before finetuning.")
	$(RUN) chat $(if $(TUNED),--model finetuned/$(TAG))

app: install
	$(VENV)/bin/python app.py

chat-web: install
	$(VENV)/bin/python app.py --tab chat

# The browser comes first: where it cannot be installed, that is said before anything else is waited for.
test: chromium emulator lint types layers
	$(VENV)/bin/python -m pytest -n 2 --ignore=tests/e2e $(PYTEST)
	$(VENV)/bin/python -m pytest tests/e2e

# What to run before each commit, in about a minute: all but the tests that start processes or a browser.
check: lint types layers
	$(VENV)/bin/python -m pytest -q -n 2 -m "not processes" --ignore=tests/e2e $(PYTEST)

# Style, by the rules in pyproject.toml; `make format` changes what it can.
lint: $(VENV)/.installed-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-tests
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.installed-tests
	$(VENV)/bin/mypy

# Which package may import which.
layers: $(VENV)/.installed-tests
	$(VENV)/bin/lint-imports --no-logo

# The compiled code under gcc's sanitizers of addresses and undefined behaviour; two minutes.
sanitize: $(VENV)/.installed-tests
	$(VENV)/bin/python -m tests.support.sanitized

# The app in a real browser, one test after the other.
test-browser: chromium
	$(VENV)/bin/python -m pytest tests/e2e $(PYTEST)

# The browser tests' browser, where there is none yet.
chromium: $(VENV)/.installed-tests
	@$(VENV)/bin/python -m tests.e2e.browser

# The compiler and the emulator with which AArch64's kernels are tested, where there are none yet.
emulator: $(VENV)/.installed-tests
	@$(VENV)/bin/python -m tests.support.emulator

# Every tab, wide and narrow, light and dark, empty, busy and failed, to be looked at.
screenshots: chromium
	$(VENV)/bin/python -m tests.e2e.screenshots $(SHOTS)

# Jupyter is only wanted here, so it is installed here.
notebook: $(VENV)/.installed-notebook
	$(VENV)/bin/jupyter lab notebooks

# Runs the walkthroughs and stores what they show; after any change to their code.
notebooks: $(VENV)/.installed-tests
	$(VENV)/bin/python -m notebooks.execute

# Side by side with transformers and TRL, on one thread; about half an hour. Each is also a command of its own.
bench: chromium
	@for name in $(BENCH); do echo; echo "== $$name"; OMP_NUM_THREADS=1 $(VENV)/bin/python -m benchmarks.$$name || exit 1; done

# For a bare machine with a CUDA card, by the Python that has torch; nothing is installed. Under 8 minutes.
gpu-check:
	$(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON)) -m benchmarks.gpu_check $(ARGS)

# Rebuilds the practice model from nothing: an hour or two on two cores.
starter: $(VENV)/.installed-tests
	$(VENV)/bin/python -m starter.build

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nanochat studio needs Python 3.11 to 3.13; $(PYTHON) is %d.%d. Use: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(VENV)/bin/python
	@echo "Installing what nanochat studio needs into $(VENV)/, which takes a few minutes the first time: PyTorch, by far the"
	@echo "largest (200 MB for CPUs; about 3 GB with CUDA, which pip takes on Linux), and about 200 MB of others (gradio,"
	@echo "pandas, pyarrow, matplotlib, ...). On disk that is 1.5 GB, with CUDA about 7 GB."
	$(PIP) .
	@touch $@

$(VENV)/.installed-tests: pyproject.toml $(VENV)/.installed
	@echo "Installing what the tests need besides: pytest, playwright, transformers, lm-eval and others, about 230 MB, 700 MB on disk."
	$(PIP) ".[test]"
	@touch $@

$(VENV)/.installed-notebook: pyproject.toml $(VENV)/.installed
	@echo "Installing Jupyter, about 50 MB."
	$(PIP) ".[notebook]"
	@touch $@
