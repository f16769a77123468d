//go:build openbsd || netbsd

package app

import "errors"

// freeSpace is not known here: the system counts in a way of its own.
func freeSpace(string) (uint64, error) { return 0, errors.ErrUnsupported }
