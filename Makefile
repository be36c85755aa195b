# The one entry point. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-observability build cli demo up test conformance faults telemetry bench lint fmt clean

MESH ?= meshes/clinic/mesh.yaml
FAULT ?=
CLIENT ?=
TRIAL ?=
BENCH ?= registry inference telemetry
CONSILIUM := target/debug/consilium

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is needed and build the models; does nothing when nothing is to do.
	@scripts/setup

setup-observability: setup ## Build what looks at a mesh from outside in its tests: Prometheus with promtool, Jaeger, the linter of dashboards.
	@scripts/setup prometheus jaeger dashboard-linter telemetry-python sloth

build: cli ## Build the command line tool and the programs of a mesh.
	@cargo build --locked -p consilium-router -p consilium-expert

# With what it needs and no more: the tests' tools can wait.
cli:
	@scripts/setup python protoc onnxruntime models
	@cargo build --locked -p consilium-cli

demo: cli ## Start the clinic mesh in one process, ask it its demo questions, check who answered.
	@$(CONSILIUM) demo $(MESH)

up: cli ## Start a mesh in one process and keep it running (MESH=path/to/mesh.yaml).
	@$(CONSILIUM) up $(MESH)

test: setup-observability ## Run every test there is.
	@scripts/test

# Both steps build the whole workspace, although the second one needs a part of it: cargo chooses the features of shared
# dependencies by what is built together, and a smaller choice would compile half of them again.
faults: setup ## Kill, stop and starve real processes under load, and print what callers noticed (FAULT=part of a name).
	@cargo test --workspace --locked --no-run
	@cargo test --workspace --locked --test faults -- $(FAULT)

conformance: setup ## Our clients and other people's against meshes of real processes: cases × clients (CLIENT=part of a name).
	@cargo test --workspace --locked --no-run
	@cargo test --workspace --locked --test conformance -- $(CLIENT)

telemetry: setup-observability ## Traces, metrics, rules and dashboards against a real Prometheus and Jaeger (TRIAL=part of a name).
	@cargo test --workspace --locked --no-run
	@cargo test --workspace --locked --test telemetry -- $(TRIAL)

bench: setup ## Measure, in release builds: a router with a thousand instances; the way of tensors through it; what being watched costs (BENCH=registry, inference or telemetry).
	@cargo build --workspace --locked --release --bins $(addprefix --bench ,$(BENCH))
	@for bench in $(BENCH); do cargo bench --workspace --locked --bench $$bench; done

lint: setup-observability ## Formatting, clippy, buf, dashboards, and what each client's language has; warnings are errors.
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd proto && npx --no-install buf lint && npx --no-install buf breaking --against released.binpb
	@scripts/generate --check
	@.venv/bin/ruff check models tests/conformance tests/telemetry deploy
	@scripts/lint-dashboards
	@scripts/lint-clients

fmt: ## Format the Rust code.
	@cargo fmt --all

clean: ## Remove everything that was built or installed into this folder.
	@rm -rf target .venv .tools models/build proto/node_modules clients/{node,web}/{node_modules,dist,build} clients/java/target
