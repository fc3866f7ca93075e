# Every target sets up what it needs: on a fresh machine, `make run` or `make test` is the first command.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := $(VENV)/.model
KERNELS := $(VENV)/.kernels
SOURCES := services gateway worker cache_service benchmarks tokenmill_client tests deploy setup.py
ONCE ?=
PYTEST_ARGS ?=
CLIENTS := openai anthropic langchain triton aiperf guidellm

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast flow check fmt lint types layers protos protos-baseline compose-test metrics-check gpu-check bench bench-peers bench-report clean page-vendor page-test client-node-test nginx-test clients schemathesis

help: ## show this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(INSTALLED) $(MODEL) $(KERNELS) ## make .venv, install, fetch the default model, compile the kernels

run: setup ## start the cluster, ask one question, serve until Ctrl-C (ONCE=1: stop after the answer)
	@$(BIN)/tokenmill demo $(if $(ONCE),--once)

test: setup ## the whole suite: unit, conformance, flow with real processes
	$(BIN)/pytest $(PYTEST_ARGS)

test-fast: $(INSTALLED) ## tests that need neither weights nor processes
	$(BIN)/pytest -m "not flow and not model" $(PYTEST_ARGS)

flow: setup ## tests with real processes only
	$(BIN)/pytest -m flow $(PYTEST_ARGS)

check: lint types layers ## format, ruff, buf, pyright, import-linter

fmt: $(INSTALLED) ## format everything
	$(BIN)/ruff format $(SOURCES) && $(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/buf format -w

lint: $(INSTALLED)
	$(BIN)/ruff format --check $(SOURCES) && $(BIN)/ruff check $(SOURCES)
	$(BIN)/buf lint && $(BIN)/buf format -d --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb

types: $(INSTALLED)
	$(BIN)/pyright

layers: $(INSTALLED)
	$(BIN)/lint-imports

protos: $(INSTALLED) ## generate the stubs again
	$(BIN)/python setup.py --quiet egg_info

protos-baseline: $(INSTALLED) ## after a release: what later protos must stay compatible with
	$(BIN)/buf build --exclude-source-info -o protos/baseline.binpb

compose-test: $(INSTALLED) ## bring up docker-compose.yml with two workers, ask, tear down
	$(BIN)/python deploy/compose_test.py

# Each client has an environment of its own: their pins conflict with ours and each other's.
clients: setup $(CLIENTS:%=.clients/%/.installed) ## clients that others wrote, each against a cluster with API keys
	$(BIN)/python tests/clients/run.py $(CLIENTS)

client-%: setup .clients/%/.installed ## one of them: make client-openai
	$(BIN)/python tests/clients/run.py $*

schemathesis: client-schemathesis ## requests made up from /openapi.json: no server error, no answer that it does not describe

.PRECIOUS: .clients/%/.installed
.clients/%/.installed: tests/clients/%.txt
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

page-vendor: ## fetch the page's libraries again, as its lock file names them (needs npm)
	cd gateway/page && npm ci --ignore-scripts
	cd gateway/page && cp node_modules/htm/preact/standalone.module.js vendor/preact-htm.mjs \
	  && cp node_modules/marked/lib/marked.esm.js vendor/marked.mjs \
	  && cp node_modules/uplot/dist/uPlot.esm.js vendor/uplot.mjs \
	  && cp node_modules/uplot/dist/uPlot.min.css vendor/uplot.css \
	  && cp node_modules/dompurify/dist/purify.es.mjs vendor/purify.mjs \
	  && sed -i '/sourceMappingURL/d' vendor/*.mjs && rm -rf node_modules

page-test: setup ## drive the page in Chromium, also with a key and its quota, on clusters of its own (needs npm and chromium)
	cd tests/page && npm ci --ignore-scripts --no-audit
	$(BIN)/python tests/page/run.py

client-node-test: setup ## ask a cluster of its own over gRPC from Node, with stubs made from protos/ (needs npm)
	cd tests/node && npm ci --ignore-scripts --no-audit
	$(BIN)/python tests/node/run.py

metrics-check: setup ## a real Prometheus on a cluster under load: no empty panel, no wrong rule (needs prometheus, promtool)
	$(BIN)/python deploy/metrics_check.py

nginx-test: setup ## restart two gateways behind nginx in turn, under load: no request may fail (needs nginx)
	$(BIN)/python deploy/nginx_test.py

gpu-check: setup ## conformance and benchmarks on a machine with an NVIDIA GPU
	$(BIN)/python -m benchmarks.gpu_check

bench: setup ## cost of the stack against the bare engine, as JSON
	$(BIN)/tokenmill bench overhead --json

bench-peers: setup ## other engines beside us in one run: installs them, writes docs/benchmarks/peers.*
	$(BIN)/tokenmill bench peers --out docs/benchmarks

bench-report: setup ## what the document claims beside what is measured: goes on where it stopped (half an hour)
	$(BIN)/tokenmill bench report

clean: ## remove what setup made (not the model cache)
	rm -rf $(VENV) protos/gen build *.egg-info .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt setup.py $(wildcard protos/tokenmill/v1/*.proto)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "installing into $(VENV) (torch is large: this takes minutes the first time)"
	@$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0 grpcio-tools setuptools wheel
	@$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[local,dev]'
	@touch $@

$(MODEL): $(INSTALLED)
	@$(BIN)/python -m worker.models.prepare
	@touch $@

# Without a compiler it works too, by torch's operations: slower, not wrong.
$(KERNELS): $(INSTALLED) worker/kernels/build.py $(wildcard worker/kernels/native/*)
	@$(BIN)/python -m worker.kernels.build || true
	@touch $@
