# Two commands matter: `make demo` and `make test`. The rest serves them.

CARGO ?= cargo
export DROVER_IMAGE_CACHE ?= /var/cache/drover-local
export DROVER_KUBERNETES_CACHE ?= /var/cache/drover-kubernetes
# Debian's Go does not fetch a newer one of itself unless it is told to.
export GOTOOLCHAIN ?= auto

# The steps of a test share this machine, its kernel and the build: never two at once.
.NOTPARALLEL:
.PHONY: help demo demo-down demo-kubernetes demo-kubernetes-down test test-unit test-contract test-kubernetes-tools test-e2e bench build image machine-image kubernetes setup crds lint

help:
	@echo 'make demo        a MySQL replica set on machines of this box, from nothing, to look at and to break'
	@echo 'make demo-down   ends a demo that was left running (make demo DETACH=1) or that crashed'
	@echo 'make demo-kubernetes   the same in Kubernetes: a cluster of one node on this box, for kubectl; demo-kubernetes-down ends it'
	@echo 'make test        every test'
	@echo 'make bench       the benchmarks; the latest figures are kept in tests/RESULTS.md'
	@echo 'make image       the operator'\''s container image, with docker, podman or buildah; ARGS="--tag ... --archive ..."'
	@echo 'make crds        writes what is generated: custom resource definitions in crds/, the chart'\''s copies and schema'

setup:
	@tests/setup.sh

build: setup
	$(CARGO) build --workspace --locked

# The file system that drover-local boots machines from.
machine-image: setup
	@tests/local/image/build.sh $(DROVER_IMAGE_CACHE) >/dev/null

# The programs of a real Kubernetes, for the tests: built once, or taken from KUBEBUILDER_ASSETS.
kubernetes:
	@tests/setup.sh --kubernetes
	@tests/kubernetes/tools/build.sh --cluster $(DROVER_KUBERNETES_CACHE) >/dev/null

# It says what it needs before it installs anything.
demo:
	@tests/demo/run.sh

demo-down:
	@tests/demo/down.sh

demo-kubernetes:
	@tests/demo/kubernetes.sh

demo-kubernetes-down:
	@tests/demo/down.sh kubernetes

# One stage after the other, each with its time. What one needs of an earlier one is there by then.
test:
	@set -e; for stage in build machine-image kubernetes test-kubernetes-tools test-unit test-contract test-e2e; do \
	  begun=$$(date +%s); echo "=== make $$stage"; $(MAKE) --no-print-directory $$stage; \
	  echo "=== make $$stage took $$(($$(date +%s) - begun)) s"; \
	done

# Everything that needs no machines beyond what a test makes for itself.
test-unit: setup machine-image
	$(CARGO) test --workspace --locked --exclude drover-e2e

# What KUBEBUILDER_ASSETS does to where the programs come from.
test-kubernetes-tools: kubernetes
	@tests/kubernetes/assets.sh $(DROVER_KUBERNETES_CACHE)

# boto3 and the AWS command line against drover-local's endpoint, and against moto.
test-contract: build
	tests/contract/run.sh

# The binaries on real machines, a few scenarios side by side.
test-e2e: build machine-image kubernetes
	tests/e2e/run.sh

# What charts/drover runs; operator/image/build.sh says what ARGS may be.
image:
	$(CARGO) build --release --locked -p drover-cli
	operator/image/build.sh $(ARGS)

bench: setup kubernetes
	tests/bench.sh

crds:
	UPDATE_CRDS=1 $(CARGO) test --locked -p drover-api --test crd --test chart

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
