# The one entry point. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-observability setup-deploy build cli demo up test conformance faults telemetry image chart k8s bench lint fmt clean

MESH ?= meshes/clinic/mesh.yaml
FAULT ?=
CLIENT ?=
TRIAL ?=
BENCH ?= registry inference telemetry gate
CONSILIUM := target/debug/consilium

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is needed and build the models; does nothing when nothing is to do.
	@scripts/setup

setup-observability: setup ## Build what looks at a mesh from outside in its tests: Prometheus with promtool, Jaeger, the linter of dashboards.
	@scripts/setup prometheus jaeger dashboard-linter telemetry-python sloth

setup-deploy: setup ## Install what images and chart are made and tested with: CycloneDX, Helm 4, Kubernetes' schemas, and Helm 3 where there is Go.
	@scripts/setup image runc helm helm3

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

test: setup-observability setup-deploy ## Run every test there is.
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

image: ## Build the images without a container engine, from Debian's packages: archives in target/image.
	@scripts/setup python protoc onnxruntime models image
	@cargo build --release --locked -p consilium-router -p consilium-expert -p consilium-cli
	@.tools/image/bin/python deploy/image/build.py

chart: build ## Lint, render, validate and unit-test the Helm chart with real Helms.
	@scripts/setup helm helm3
	@.tools/helm/bin/python -m pytest -q tests/chart

# With KUBECONFIG set it is that cluster, which has to be able to pull the images; otherwise a node of our own.
k8s: image ## Install the chart on a real Kubernetes node, brought up here, and change and break things under load.
	@scripts/setup helm4 etcd load grpcurl python-client $(if $(KUBECONFIG),,containers kubernetes coredns)
	@.venv/bin/python -m pytest tests/k8s

bench: setup ## Measure, in release builds: a router with a thousand instances; the way of tensors through it; what being watched costs; the gate (BENCH=registry, inference, telemetry or gate).
	@cargo build --workspace --locked --release --bins $(addprefix --bench ,$(BENCH))
	@for bench in $(BENCH); do cargo bench --workspace --locked --bench $$bench; done

lint: setup-observability setup-deploy ## Formatting, clippy, buf, dashboards, and what each client's language has; warnings are errors.
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd proto && npx --no-install buf lint && npx --no-install buf breaking --against released.binpb
	@scripts/generate --check
	@.venv/bin/ruff check models tests/conformance tests/telemetry tests/image tests/chart tests/k8s deploy helm
	@scripts/lint-dashboards
	@scripts/lint-clients

fmt: ## Format the Rust code.
	@cargo fmt --all

clean: ## Remove everything that was built or installed into this folder.
	@[ ! -e target/k8s ] || python3 tests/k8s/node.py down
	@rm -rf target .venv .tools models/build proto/node_modules clients/{node,web}/{node_modules,dist,build} clients/java/target
