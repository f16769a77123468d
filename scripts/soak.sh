#!/usr/bin/env bash
# scripts/soak.sh runs the long tests at full size (SIGNALBOX_SOAK=1) on both databases: process kills, audit mutations, streams, guesses of keys and passwords, refreshes, crashes in their middle.
# It takes up to three hours on two cores. Arguments go to `go test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go

export SIGNALBOX_SOAK=1
scripts/postgres.sh go test -count=1 -timeout 170m -run 'Kill|Mutation|Streams|Guesses|RefreshedExactlyOnce|CrashAtEachStep|HostileProviders' "$@" ./internal/...
say "The soak tests passed in $(elapsed "$SECONDS")."
