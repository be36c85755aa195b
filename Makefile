# The one entry point. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo up test lint fmt clean

MESH ?= meshes/clinic/mesh.yaml
CONSILIUM := target/debug/consilium

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is needed and build the models; does nothing when nothing is to do.
	@scripts/setup

build: setup
	@cargo build --locked -p consilium-cli

demo: build ## Start the clinic mesh in one process, ask it its demo questions, check who answered.
	@$(CONSILIUM) demo $(MESH)

up: build ## Start a mesh in one process and keep it running (MESH=path/to/mesh.yaml).
	@$(CONSILIUM) up $(MESH)

test: setup ## Run every test there is.
	@scripts/test

lint: setup ## Formatting, clippy, buf and ruff; warnings are errors.
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd proto && npx --no-install buf lint
	@.venv/bin/ruff check models

fmt: ## Format the Rust code.
	@cargo fmt --all

clean: ## Remove everything that was built or installed into this folder.
	@rm -rf target .venv .tools models/build proto/node_modules
