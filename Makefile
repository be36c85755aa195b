# The one entry point. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-observability build cli demo up test conformance faults bench lint fmt clean

MESH ?= meshes/clinic/mesh.yaml
FAULT ?=
CLIENT ?=
BENCH ?= registry inference
CONSILIUM := target/debug/consilium

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is needed and build the models; does nothing when nothing is to do.
	@scripts/setup

setup-observability: ## Build what looks at a mesh from outside in its tests: Prometheus with promtool, and Jaeger.
	@scripts/setup prometheus jaeger

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

test: setup ## Run every test there is.
	@scripts/test

# Both steps build the whole workspace, although the second one needs a part of it: cargo chooses the features of shared
# dependencies by what is built together, and a smaller choice would compile half of them again.
faults: setup ## Kill, stop and starve real processes under load, and print what callers noticed (FAULT=part of a name).
	@cargo test --workspace --locked --no-run
	@cargo test --workspace --locked --test faults -- $(FAULT)

conformance: setup ## Our clients and other people's against meshes of real processes: cases × clients (CLIENT=part of a name).
	@cargo test --workspace --locked --no-run
	@cargo test --workspace --locked --test conformance -- $(CLIENT)

bench: setup ## Measure, in release builds: a router with a thousand instances; the way of tensors through it (BENCH=registry or inference).
	@cargo build --workspace --locked --release --bins $(addprefix --bench ,$(BENCH))
	@for bench in $(BENCH); do cargo bench --workspace --locked --bench $$bench; done

lint: setup ## Formatting, clippy, buf, and what each client's language has; warnings are errors.
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd proto && npx --no-install buf lint && npx --no-install buf breaking --against released.binpb
	@scripts/generate --check
	@.venv/bin/ruff check models tests/conformance
	@scripts/lint-clients

fmt: ## Format the Rust code.
	@cargo fmt --all

clean: ## Remove everything that was built or installed into this folder.
	@rm -rf target .venv .tools models/build proto/node_modules clients/{node,web}/{node_modules,dist,build} clients/java/target
