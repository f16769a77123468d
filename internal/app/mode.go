package app

import (
	"errors"

	"signalbox.dev/signalbox/internal/fault"
)

// Mode says which half of Signalbox an instance serves. Health is served in every mode, and any instance may do the chores of the fleet:
// who sequences the audit log is decided by election, so that a fleet of proxies alone does not leave it lying.
type Mode string

// The modes.
const (
	// ModeFull serves everything.
	ModeFull Mode = "full"
	// ModeProxy lends: /v1 and /use, and nothing that manages.
	ModeProxy Mode = "proxy"
	// ModeAPI manages: /api and the pages, and lends nothing.
	ModeAPI Mode = "api"
)

// lends reports whether the instance lends credentials.
func (m Mode) lends() bool { return m != ModeAPI }

// manages reports whether the instance serves the REST API and the pages.
func (m Mode) manages() bool { return m != ModeProxy }

// noLending is the answer of /v1 and /use where nothing is lent, nil where it is.
func (m Mode) noLending() error {
	if m.lends() {
		return nil
	}
	return fault.New(fault.NotFound, "not_served_here",
		"This instance of Signalbox runs with --mode api and lends nothing. Send requests under /v1 and /use to an instance that runs with --mode proxy or full; the base URL that signalbox connect printed may name the wrong one.")
}

// noManaging is the answer of /api and the pages where they are not served, nil where they are.
func (m Mode) noManaging() error {
	if m.manages() {
		return nil
	}
	return fault.New(fault.NotFound, "not_served_here",
		"This instance of Signalbox runs with --mode proxy and serves nothing but /v1, /use and the health checks. Ask an instance that runs with --mode api or full; SIGNALBOX_URL may name the wrong one.")
}

var errProxyFirst = errors.New("this database is not set up yet, and an instance with --mode proxy cannot set it up; run signalbox init, or start an instance with --mode api or full first")
