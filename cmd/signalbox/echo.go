package main

import "golang.org/x/sys/unix"

// echoOff switches the echo of a terminal off and nothing else: Ctrl-C goes on to interrupt.
func echoOff(fd int) error {
	t, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, setTermios, t)
}
