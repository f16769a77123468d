//go:build !failpoints

package app

import "signalbox.dev/signalbox/internal/oauth"

// failpoint is nothing in every binary but those that the crash tests build for themselves (-tags failpoints): what is delivered cannot be held up
// at a step of a refresh, whatever its environment says.
func failpoint() func(oauth.Point) error { return nil }
