// Package internal holds the house test: the rules of docs/design/house.md that a compiler does not know, checked on every package of
// the module. It has no code of its own and nothing imports it.
//
// Promise: a package on the wrong floor, a second home of SQL, of the environment or of dialling, an unlisted way out for a secret, or a
// file that has outgrown its room fails `go test ./internal` with the offending file, line and import.
//
// Limits: calls are recognised by what the type checker says they mean, so a call through an interface, reflection or a third-party
// module that dials by itself is not seen. Test files are held to the import rules alone.
//
// Invariants: every exception stands in a table with its reason; a rule without a proof that it catches something fails.
package internal
