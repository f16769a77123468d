package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// startPostgres starts a PostgreSQL with the durability of a real one (fsync on) in dir, and returns the URL of a fresh database.
func startPostgres(dir string) (url string, stop func(), err error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(bins) == 0 {
		return "", nil, errors.New("PostgreSQL is not installed; install it, name one with -postgres, or measure with -engines sqlite")
	}
	slices.Sort(bins)
	bin := filepath.Dir(bins[len(bins)-1])
	data := filepath.Join(dir, "postgres")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", nil, err
	}
	var as *syscall.SysProcAttr
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return "", nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := errors.Join(os.Chown(data, uid, gid), os.Chmod(dir, 0o755)); err != nil {
			return "", nil, err
		}
	}
	run := func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.SysProcAttr, cmd.Dir = as, "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	if err := run("initdb", "-A", "trust", "-U", "postgres", "-D", data); err != nil {
		return "", nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, err
	}
	if err := run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(data, "log"), "-o", "-p "+port+" -h 127.0.0.1 -k ''", "start"); err != nil {
		return "", nil, err
	}
	stop = func() { _ = run("pg_ctl", "-D", data, "-m", "immediate", "stop") }
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%s/postgres?sslmode=disable", port), stop, nil
}
