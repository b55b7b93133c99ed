# One command per job; `make help` lists them. Everything lives in .venv and build/, nothing outside this folder
# but what the tests need on Debian: redis-server to compare with, Java with Maven for Kafka, Docker for test-compose.

VENV := .venv
PY := $(VENV)/bin/python
LOG ?= quorum:./data
PORT ?= 6379
PYTEST_ARGS ?=
BENCH_ARGS ?=
FIRST ?= 1
SEEDS ?= 100
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(PY) -m pip --disable-pip-version-check -q
LOCK := $(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help serve build pure check test test-compiled test-pure test-compose campaign fuzz simulate chaos lint format types \
	bench bench-check bench-nodes docs lock redis kafka prometheus clients docker clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

serve: build ## start the server: LOG=quorum:./data PORT=6379
	@exec $(VENV)/bin/eventdb serve --log "$(LOG)" --port "$(PORT)"

build: $(VENV)/.run ## compile the hot rooms in place when a C compiler is there (EVENTDB_COMPILE=auto|0|1)
	@$(PY) setup.py -q build_ext --inplace

pure: ## remove every compiled module from the tree
	@find eventdb backends replay -name '*.so' -delete
	@rm -f build/compiled.sha256

test: $(VENV)/.dev redis kafka prometheus build ## run all tests, on the compiled build when it can be made
	$(PY) -m pytest $(PYTEST_ARGS)

test-compiled: export EVENTDB_COMPILE = 1
test-compiled: $(VENV)/.dev redis kafka prometheus ## run all tests on the compiled build, or fail
	@$(MAKE) build
	EVENTDB_BUILD=compiled $(PY) -m pytest $(PYTEST_ARGS)

test-pure: $(VENV)/.dev redis kafka prometheus pure ## run all tests on the pure Python build
	EVENTDB_BUILD=pure $(PY) -m pytest $(PYTEST_ARGS)

# Beside compiled modules it runs in a copy without them: what is simulated is the Python that they were made from.
simulate: $(VENV)/.dev ## nodes on a virtual clock: SEEDS=1000 worlds, SEED=7 one again, BACKEND=files|kafka
	@rm -rf build/pure && mkdir -p build/pure && cp -RP eventdb backends replay tests pyproject.toml setup.py build/pure/
	@find build/pure -name '*.so' -delete
	@cd build/pure && PYTHONHASHSEED=0 PYTHONPATH=. $(CURDIR)/$(PY) -m tests.simulation \
		$(if $(SEED),--seed $(SEED),--first $(FIRST) --seeds $(SEEDS)) \
		$(if $(BACKEND),--backend $(BACKEND)) $(if $(MUTATION),--mutation $(MUTATION))

chaos: export EVENTDB_CHAOS_SECONDS ?= 600
chaos: $(VENV)/.dev kafka build ## real nodes and clients through faults for ten minutes a backend (EVENTDB_CHAOS_SECONDS)
	$(PY) -m pytest -s tests/chaos/test_chaos.py $(PYTEST_ARGS)

fuzz: export EVENTDB_FUZZ_SECONDS ?= 300
fuzz: $(VENV)/.dev redis ## connections at random beside a real Redis, and hostile bytes to all that reads any, for five minutes each (EVENTDB_FUZZ_SECONDS)
	$(PY) -m pytest -s tests/server/test_fuzz.py $(PYTEST_ARGS)
	$(PY) -m pytest -s --timeout=0 tests/history/test_appendonly.py -k mutated $(PYTEST_ARGS)
	$(PY) -m pytest -s --timeout=0 tests/security/test_fuzzing.py $(PYTEST_ARGS)
	$(PY) -m pytest -s --timeout=0 tests/security/test_side_doors.py -k arguments $(PYTEST_ARGS)

campaign: export EVENTDB_PLAYERS ?= 1000000
campaign: export EVENTDB_RQ_JOBS ?= 400
campaign: export EVENTDB_CAMPAIGN ?= 1-40
campaign: export EVENTDB_EXAMPLES ?= 1000
campaign: $(VENV)/.dev redis build ## what `make test` runs in small, in large: the leaderboard, RQ, seeded faults, random commands
	$(PY) -m pytest --timeout=3600 tests/applications/test_leaderboard.py tests/applications/test_rq.py tests/backends/test_quorum_campaign.py \
		tests/commands/test_differential_*.py $(PYTEST_ARGS)

# Images, and a Compose that had to be built, are kept in ~/.cache/eventdb/compose (EVENTDB_COMPOSE_CACHE).
test-compose: $(VENV)/.dev docker kafka ## build the image and run compose.yaml for real; root starts an engine when none answers
	EVENTDB_TEST_COMPOSE=1 $(PY) -m pytest -s tests/compose $(PYTEST_ARGS)

# In three processes, so that two cores are busy while a test waits; lint and types run beside them and report last.
# What starts a server, or takes long, is left to `make test`, and so are most of the examples that Hypothesis makes.
# Bytecode is kept whatever the environment says: without it each process compiles all sources, and rewrites all
# assertions, again. One process does so for all when there is none.
check: export EVENTDB_EXAMPLES ?= 20
check: export PYTHONDONTWRITEBYTECODE =
check: export PYTHONPYCACHEPREFIX ?= $(CURDIR)/build/pycache
check: QUICK = -q -m "not slow and not redis and not kafka and not server" --ignore tests/compose --ignore tests/chaos \
	--ignore tests/applications --ignore tests/simulation --ignore tests/cli --ignore tests/project/test_packaging.py
check: $(VENV)/.dev ## lint, types and the tests that need no server and little time
	@mkdir -p build
	@{ $(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy; } \
		>build/check.txt 2>&1 & checks=$$!; \
		[ -d "$$PYTHONPYCACHEPREFIX" ] || $(PY) -m pytest $(QUICK) --collect-only >/dev/null 2>&1; \
		$(PY) -m pytest $(QUICK) -n 3 --dist worksteal $(PYTEST_ARGS); tests=$$?; \
		wait $$checks; checked=$$?; cat build/check.txt; exit $$((tests ? tests : checked))

lint: $(VENV)/.dev ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.dev ## let ruff repair what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.dev ## mypy: strict, and every function of the tests annotated
	$(VENV)/bin/mypy

bench: $(VENV)/.dev redis build ## compare with a real redis-server: BENCH_ARGS="--quick --only set"
	$(PY) -m benchmarks.run $(BENCH_ARGS)

bench-check: $(VENV)/.dev redis build ## has a row of the last table fallen by a tenth?
	$(PY) -m benchmarks.check $(BENCH_ARGS)

bench-nodes: $(VENV)/.dev redis kafka build ## failovers, replicas, lag: BENCH_ARGS="--stage files --failovers 20"
	$(PY) -m benchmarks.nodes $(BENCH_ARGS)

docs: $(VENV)/.dev ## write the pages of docs/ that follow from the code
	@$(PY) -m docs.generate

lock: $(VENV)/.dev ## pin the dependencies anew: requirements/*.txt
	$(LOCK) --upgrade --extra cli --extra crypto --extra kafka --extra kms --extra metrics --extra otel --extra s3 --extra top -o requirements/run.txt pyproject.toml requirements/build.in
	$(LOCK) --upgrade -o requirements/dev.txt requirements/dev.in
	$(LOCK) --upgrade -o requirements/programs.txt requirements/programs.in

clean: pure ## remove what was built or cached; data/ stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

redis:
	@command -v redis-server >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing redis-server, which the tests compare with"; \
			apt-get -q update >/dev/null && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
				apt-get -q install -y --no-install-recommends redis-server >/dev/null; \
		else \
			echo "redis-server is not installed: tests that compare with it are skipped"; \
		fi; }

kafka: ## fetch Apache Kafka's broker (43 MB of jars) for the tests, and Java, Maven and openssl on Debian
	@for tool in java:openjdk-17-jre-headless mvn:maven openssl:openssl; do \
		command -v $${tool%%:*} >/dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing $${tool##*:}, which the Kafka tests need"; \
			apt-get -q update >/dev/null && DEBIAN_FRONTEND=noninteractive \
				apt-get -q install -y --no-install-recommends $${tool##*:} >/dev/null; \
		else \
			echo "$${tool%%:*} is not installed: tests that need a Kafka broker are skipped"; \
		fi; \
	done
	@ls build/kafka/kafka_2.13-*.jar >/dev/null 2>&1 || ! command -v mvn >/dev/null || \
		mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/kafka || \
		echo "Maven could not fetch Kafka's jars: tests that need a broker are skipped"

# Only the package's two programs are wanted: it is unpacked, not installed, so nothing starts and no root is needed.
prometheus: ## fetch Prometheus and promtool (19 MB) for the tests of the alert rules, on Debian
	@command -v promtool >/dev/null || ls build/prometheus/usr/bin/promtool >/dev/null 2>&1 || { \
		if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
			echo "fetching prometheus, which the tests of the alert rules need"; \
			mkdir -p build/prometheus && cd build/prometheus && \
			{ [ "$$(id -u)" != 0 ] || apt-get -q update >/dev/null; } && \
			apt-get -q -o APT::Sandbox::User=root download prometheus >/dev/null && \
			dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb; \
		else false; fi; } || echo "prometheus is not here: tests that need it are skipped"

# Each is built where its tool chain is there; a test of one that is not says so and is skipped.
clients: $(PY) ## build programs with other languages' clients (build/clients) for tests/applications/
	@mkdir -p build/clients
	@command -v npm >/dev/null && { cmp -s tests/applications/clients/package.json build/clients/package.json || { \
		cp tests/applications/clients/package.json build/clients/ && \
		npm install --prefix build/clients --silent --no-audit --no-fund; }; } || echo "the programs for Node are not built"
	@command -v javac >/dev/null && command -v mvn >/dev/null && { \
		[ build/clients/Clients.class -nt tests/applications/clients/Clients.java ] || { \
		mvn -q -B -f tests/applications/clients/pom.xml dependency:copy-dependencies \
			-DoutputDirectory=$(CURDIR)/build/clients/lib && \
		javac -cp 'build/clients/lib/*' -d build/clients tests/applications/clients/Clients.java; }; } || \
		echo "lettuce and jedis are not built"
	@cmp -s requirements/programs.txt build/clients/python.txt || { rm -rf build/clients/python && \
		$(PIP) install --no-deps --require-hashes --target build/clients/python -r requirements/programs.txt && \
		cp requirements/programs.txt build/clients/python.txt; }
	@command -v go >/dev/null && (cd tests/applications/clients && go build -o $(CURDIR)/build/clients/go-redis .) || \
		echo "go-redis is not built"

docker:
	@docker info >/dev/null 2>&1 || { command -v dockerd && command -v debootstrap; } >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing docker.io and debootstrap, for the compose tests"; \
			apt-get -q update >/dev/null && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
				apt-get -q install -y --no-install-recommends docker.io debootstrap iptables >/dev/null; \
		fi; }

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=/path/to/it)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

# An editable install: the tree is what runs. It is always made pure; `build` adds the compiled modules.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(PY)
	$(PIP) install --require-hashes -r requirements/run.txt
	EVENTDB_COMPILE=0 $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
