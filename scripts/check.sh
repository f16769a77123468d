#!/usr/bin/env bash
# scripts/check.sh is the quick gate: format, vet, the house and the short tests on SQLite alone. Both databases, the race detector,
# staticcheck and the generated files are scripts/test.sh's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go
need openssl openssl # certificates and keys that we did not make
need rsyslogd rsyslog rsyslog-gnutls # a syslog server that we did not write
need ssh-keygen openssh-client
need mariadbd mariadb-server-core # a database to sign in at; this package starts no service
need mariadb mariadb-client-core

STAGE_LOGS=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-check.XXXXXX")
STAGE_FAILED=
trap '[[ -n $STAGE_FAILED ]] || rm -rf "$STAGE_LOGS"' EXIT

# The suites that run on each engine (internal/store/storetest) read this.
export SIGNALBOX_TEST_ENGINES=sqlite

house() { go test -count=1 -timeout 2m ./internal; }
tests() {
  local packages
  packages=$(go list ./... | grep -vx 'signalbox.dev/signalbox/internal')
  # shellcheck disable=SC2086 # one argument for each package
  go test -short -timeout 5m $packages
}

stage gofmt check_format
stage vet go vet ./...
stage house house
stage tests tests

say "All quick stages passed on SQLite in $(elapsed "$SECONDS"); 'make test' has the rest."
