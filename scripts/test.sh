#!/usr/bin/env bash
# scripts/test.sh is the whole gate: it passes in a fresh clone or names the stage that failed. It installs what is missing and skips
# nothing. It runs without standard input and needs the network only for packages and modules that are not there yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
source scripts/postgres.sh

STAGE_LOGS=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-test.XXXXXX")
STAGE_FAILED=
MEMORY=

finish() {
  postgres_stop
  [[ -z $MEMORY ]] || rm -rf "$MEMORY"
  [[ -n $STAGE_FAILED ]] || rm -rf "$STAGE_LOGS"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tools() {
  need_go
  need gcc gcc libc6-dev # the race detector links C
  need git git # the generated files are compared with what git tracks
  need openssl openssl # certificates and keys that we did not make
  need rsyslogd rsyslog rsyslog-gnutls # a syslog server that we did not write
  need ssh-keygen openssh-client
  need mariadbd mariadb-server-core # a database to sign in at; this package starts no service
  need mariadb mariadb-client-core
  need ip iproute2 # networks of its own for an instance, so that its cable can be pulled out
  if ((EUID != 0)); then
    say "   not root: the story of a network that is cut (TestANetworkIsCut) is left out"
    export SIGNALBOX_TEST_NAMESPACES=off
  fi
  need haproxy haproxy # a load balancer before a fleet; nothing is served by its own service
  need curl curl # the commands of the README
  need chromium chromium # passkeys, in a real browser
  need_node # the TypeScript SDK, a client that we did not write, and the linter of the OpenAPI document
  say "   $(go version), $(gcc -dumpfullversion -dumpversion | sed 's/^/gcc /'), node $(node --version)"
}

staticcheck() { go tool -modfile=tools/go.mod staticcheck ./...; }

# An OAuth server for the tests is a module of its own, which ./... does not reach.
fosite() { (cd tools/fosite && go vet ./... && go build -o "$STAGE_LOGS/fosite-server" .); }

house() { go test -count=1 -timeout 5m ./internal; }

# The longest come first, so that no long one is left over at the end while a processor idles.
tests() { go test -count=1 -timeout 30m ./internal/signalboxtest ./internal/api ./cmd/signalbox ./...; }

# The store under the race detector on both engines; the rooms on PostgreSQL, where their transactions overlap. Rooms do not know the engine, and
# the detector follows every step of SQLite too, which is Go here, for three times as long; scripts/soak.sh has them on SQLite.
race() {
  raced ./internal/store
  SIGNALBOX_TEST_ENGINES=postgres raced "${CONCURRENT_ROOMS[@]/#/./internal/}"
}

say "== tools"
tools
MEMORY=$(memory_home)
if [[ -n $MEMORY ]]; then
  say "   tests keep their files in memory, in $MEMORY"
  export GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}} TMPDIR=$MEMORY # what is built stays on the disk: it is large
fi
postgres_start

stage gofmt check_format
stage vet go vet ./...
stage staticcheck staticcheck
stage fosite fosite
stage house house
stage verify scripts/generate.sh --check
stage openapi scripts/openapi.sh
stage tests tests
stage race race

say "All stages passed in $(elapsed "$SECONDS")."
