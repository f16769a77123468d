#!/usr/bin/env bash
# scripts/soak.sh runs the long tests at full size (SIGNALBOX_SOAK=1) on both databases: process kills (also in the midst of a change of the data key of 100,000 credentials), audit mutations, streams, guesses of keys and passwords, refreshes, crashes in their middle.
# It takes up to three hours on two cores. Arguments go to `go test`. Without any, the rooms first run under the race detector on SQLite, which is too slow for scripts/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go
need gcc gcc libc6-dev # the race detector links C

(($#)) || SIGNALBOX_TEST_ENGINES=sqlite raced "${CONCURRENT_ROOMS[@]/#/./internal/}"
export SIGNALBOX_SOAK=1
scripts/postgres.sh go test -count=1 -timeout 170m -run 'Kill|Mutation|Streams|Guesses|RefreshedExactlyOnce|CrashAtEachStep|HostileProviders' "$@" ./internal/...
say "The soak tests passed in $(elapsed "$SECONDS")."
