package main

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// browse opens an address in the person's browser and reports whether there is one: what BROWSER names (commands between colons, %s for the
// address), else what the desktop opens addresses with.
func (s *shell) browse(address string) bool {
	for _, words := range s.browsers() {
		path, err := exec.LookPath(words[0])
		if err != nil {
			continue
		}
		given := false
		args := make([]string, 0, len(words))
		for _, word := range words[1:] {
			given = given || strings.Contains(word, "%s")
			args = append(args, strings.ReplaceAll(word, "%s", address))
		}
		if !given {
			args = append(args, address)
		}
		cmd := exec.Command(path, args...)
		for name, value := range s.env {
			if !strings.HasPrefix(name, "SIGNALBOX_") { // no token of ours is its business
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		slices.Sort(cmd.Env)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C here is not for it
		if cmd.Start() == nil {
			_ = cmd.Process.Release() // it may outlive us
			return true
		}
	}
	return false
}

func (s *shell) browsers() (list [][]string) {
	for one := range strings.SplitSeq(s.env["BROWSER"], ":") {
		if words := strings.Fields(one); len(words) > 0 {
			list = append(list, words)
		}
	}
	switch {
	case runtime.GOOS == "darwin":
		list = append(list, []string{"open"})
	case s.env["DISPLAY"] != "" || s.env["WAYLAND_DISPLAY"] != "": // without them xdg-open starts a browser in the terminal
		list = append(list, []string{"xdg-open"})
	}
	return list
}
