# make test   sets up what is missing (QEMU, kernel: no root needed) and runs every test, real QEMU included
# make check  the static part: format, vet, staticcheck, what must not sleep (nosleepvet), builds elsewhere, go.mod fresh
# make race   the lock-free parts and the tables under the race detector (needs a C compiler)
# make debug  the pool's debug builds: holders, poison, circles, and calls stopped in the middle
# make mutate each invalidation, flush and ordering step of the driver, the tables and the domains left out in turn: a test has to notice
# make soak   10^9 calls of the pool
# make storm  a minute each of random maps, unmaps and DMA, on the model and on QEMU's unit
# make bench  the benchmarks, peers in the same run
# make overhead  what the probes for tracers cost: with and without them, turn by turn; and what being traced costs (root)

GO ?= go

.PHONY: all check test race debug mutate soak storm setup bench overhead fuzz

all: check test

# Rungs named here fail when they are missing instead of being skipped.
test: export GOMMU_REQUIRE ?= qtest,vm
test: setup
	$(GO) test -count=1 -timeout 10m ./...

setup:
	$(GO) run ./cmd/gommu setup

check:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt -w wants to change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags noprobes ./internal/probe ./iommu/... ./respool
	$(GO) tool staticcheck ./...
	$(GO) vet -vettool=$$($(GO) tool -n nosleepvet) ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) mod verify

race:
	$(GO) test -race -count=1 -timeout 10m ./respool/... ./pagetable/... ./pci/... ./vfio/... ./iommu/... ./internal/probe

debug:
	$(GO) vet -tags debug ./respool/...
	$(GO) test -tags debug -count=1 -timeout 10m ./respool/...

mutate:
	$(GO) vet -tags mutate ./iommu ./iommu/vtd ./pagetable
	$(GO) test -tags mutate -count=1 -timeout 10m -run Mutation ./iommu ./iommu/vtd ./pagetable

soak:
	$(GO) test -count=1 -run Soak -timeout 60m ./respool -soak 1e9

storm: export GOMMU_REQUIRE ?= qtest
storm: setup
	$(GO) test -count=1 -run Storm -timeout 30m ./qemu-tests/rung -args -storm 60s

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./respool/... ./pagetable/... ./iommu/...

# The two programs take turns, so that what else the machine does hits both.
ROUNDS ?= 100
overhead:
	@dir=$$(mktemp -d) && trap 'rm -rf $$dir' EXIT && \
	$(GO) test -c -o $$dir/probes.test ./iommu && $(GO) test -c -tags noprobes -o $$dir/noprobes.test ./iommu && cd iommu && \
	for round in $$(seq $(ROUNDS)); do for p in noprobes probes; do \
		$$dir/$$p.test -test.run '^$$' -test.bench '^BenchmarkPremapped$$/^map$$|^BenchmarkMapUnmap$$/^(batched|strict|ring)$$/^1$$' -test.benchtime 50ms >> $$dir/$$p || exit 1; \
	done; done && \
	$(GO) tool benchstat $$dir/noprobes $$dir/probes && \
	$$dir/probes.test -test.run '^$$' -test.bench '^BenchmarkTraced$$'

FUZZTIME ?= 30s
fuzz:
	@for target in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$target/*_test.go | sed 's/func //'); do \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$target || exit 1; \
		done; \
	done
