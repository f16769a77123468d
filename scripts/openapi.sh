#!/usr/bin/env bash
# scripts/openapi.sh lints docs/reference/openapi.json with Redocly, in the version that tools/npm pins. docs/reference/redocly.yaml says by
# which rules; a warning is an error. It tells nobody about it: no telemetry, no look for updates.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

home=$(scripts/npm.sh)
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true REDOCLY_SUPPRESS_NOTIFICATIONS=true
log=$(mktemp)
trap 'rm -f "$log"' EXIT
node "$home/node_modules/@redocly/cli/bin/cli.js" lint --config docs/reference/redocly.yaml docs/reference/openapi.json >"$log" 2>&1 ||
  { cat "$log" && die "the OpenAPI document has flaws; mend them in internal/api, then: make generate"; }
grep -q 'Your API description is valid' "$log" || { cat "$log" && die "Redocly did not say that the document is valid"; }
