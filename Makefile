# Each target is one line: the work is in the scripts and in go itself.
.PHONY: build test lint bench docs tour dist vm

build:
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

test:
	./test.sh

lint:
	test -z "$$(gofmt -l .)" && go vet ./... && go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

bench:
	go run ./bench

docs:
	go test ./internal/docgen -count=1 -update

# A Debian package and a tarball for each architecture, into dist/.
dist:
	go run ./internal/dist

tour:
	go run ./cmd/kakuri tour

# The tests on other kernels. KERNEL=6.1|6.12|new, ARCH=amd64|arm64, SYSTEMD=1, SELINUX=1, PKGS='./launch ./oci', RUN=regexp, POWER=only|no;
# SUITE=../runc CASES='cgroups update' FILTER='cgroup v2' runs the tests of runc there.
vm:
	go run ./internal/vm $(if $(KERNEL),-kernel $(KERNEL)) $(if $(ARCH),-arch $(ARCH)) $(if $(SYSTEMD),-systemd) $(if $(SELINUX),-selinux) $(if $(QUICK),-quick) $(if $(PKGS),-pkgs '$(PKGS)') $(if $(RUN),-run '$(RUN)') $(if $(POWER),-power $(POWER)) $(if $(SUITE),-suite '$(SUITE)' -cases '$(CASES)' -filter '$(FILTER)')
