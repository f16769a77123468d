package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settle is for how long a stopped command is watched before this one stops as well: whoever was stopped together with it is continued together with it.
const settle = 50 * time.Millisecond

// signals are those that came since a command was to be run. They end that command, never this one.
type signals struct {
	come, pipe chan os.Signal
}

// listen begins to take signals. SIGHUP that whoever started us wants ignored (nohup) stays ignored, here and in the command.
func listen() *signals {
	s := &signals{come: make(chan os.Signal, 16), pipe: make(chan os.Signal, 1)}
	signal.Notify(s.pipe, syscall.SIGPIPE) // nobody reads it: a word to a standard error that is gone must not end us and leave the key
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(s.come, sig)
		}
	}
	return s
}

func (s *signals) stop() {
	signal.Stop(s.come)
	signal.Stop(s.pipe)
}

// before takes a signal that came before there was a command and that would have ended it.
func (s *signals) before() (number int, came bool) {
	for {
		select {
		case sig := <-s.come:
			switch sig {
			case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
				return int(sig.(syscall.Signal)), true
			}
		default:
			return 0, false
		}
	}
}

// attend hands signals on to a process until it has ended, and returns how it did, as a shell would: its exit code, or 128 and the number of the signal.
func (s *signals) attend(child *os.Process) int {
	done, handed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(handed)
		for {
			select {
			case sig := <-s.come:
				hand(child, sig)
			case <-done:
				return
			}
		}
	}()
	status, ok := await(child)
	close(done)
	<-handed
	switch {
	case !ok: // nobody can tell how it ended
		return 1
	case status.Signaled():
		return bySignal + int(status.Signal())
	}
	return status.ExitStatus()
}

// hand passes a signal on. What is typed at a terminal (Ctrl-C, Ctrl-\) reaches every process in the foreground there, the command among them: handing it on
// would make two of one, which some programs take for "at once".
func hand(child *os.Process, sig os.Signal) {
	if (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && inForeground() {
		return
	}
	_ = child.Signal(sig) // it may have ended just now
}

// inForeground reports whether what is typed at the terminal reaches this process, and its signals this process and the command alike.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// await waits for the end of a process. Where that stops by itself alone (Ctrl-Z in a program that reads keys as they are), this one stops with it, so that the
// shell is there again; and continues with it.
func await(child *os.Process) (syscall.WaitStatus, bool) {
	for {
		status, ok := wait(child.Pid)
		if !ok || !status.Stopped() {
			return status, ok
		}
		if !inForeground() {
			continue // nobody's job here: whoever stopped it continues it
		}
		time.Sleep(settle)
		var now syscall.WaitStatus
		if got, err := syscall.Wait4(child.Pid, &now, syscall.WNOHANG|syscall.WUNTRACED|syscall.WCONTINUED, nil); err == nil && got == child.Pid {
			if now.Exited() || now.Signaled() {
				return now, true
			}
			if now.Continued() {
				continue
			}
		}
		rest()
		_ = child.Signal(syscall.SIGCONT) // whoever continued us may not have continued it
	}
}

// rest stops this process until somebody continues it. A stop takes effect a moment after it was asked for, so that it waits for the signal that ends it.
func rest() {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGCONT)
	defer signal.Stop(again)
	if syscall.Kill(os.Getpid(), syscall.SIGSTOP) == nil {
		<-again
	}
}

// wait is wait4 for the end or a stop, begun again where a signal interrupts it.
func wait(pid int) (status syscall.WaitStatus, ok bool) {
	for {
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		if !errors.Is(err, syscall.EINTR) {
			return status, err == nil
		}
	}
}
