//go:build !failpoints

package app

// failpoint is nothing in every binary but those that the crash tests build for themselves (-tags failpoints): what is delivered cannot be held up
// at a step of a refresh or of a containment, whatever its environment says.
func failpoint[P ~string]() func(P) error { return nil }
