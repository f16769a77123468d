package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// mostAttributes bounds what git may say: it sends some hundred bytes, and what a server asked of it.
const mostAttributes = 256 << 10

// gitAnswer is what the helper tells git, for --json.
type gitAnswer struct {
	Answered bool   `json:"answered"`
	Protocol string `json:"protocol,omitempty"`
	Host     string `json:"host,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Expires  int64  `json:"password_expiry_utc,omitempty"`
}

// helperGit is a credential helper of git (gitcredentials(7), git-credential(1)): git runs it with get, store or erase and tells by lines of key=value, to an empty one,
// where it wants to sign in. Whoever answers nothing leaves it to the next helper.
func (s *shell) helperGit() *cobra.Command {
	var name string
	var take signInFlags
	cmd := s.remote("git ACTION", "Answer git, as its credential helper, with a credential that is bound to the host", words("ACTION"), func(cmd *cobra.Command, args []string) error {
		switch args[0] {
		case "get":
			return s.gitGet(cmd, name, take)
		case "store", "erase":
			if _, err := readAttributes(s.in); err != nil { // to the end, so that git is not cut off
				return err
			}
			if args[0] == "erase" {
				s.note("signalbox: git was refused with what it signed in with, and asks that it be forgotten. Nothing was changed in the vault; if that came from there and is out of date: signalbox cred rotate CREDENTIAL")
			}
		}
		// git asks that what a helper does not know be ignored in silence.
		return s.show(gitAnswer{}, func() {})
	})
	cmd.Flags().StringVar(&name, "credential", "", "the credential to answer with, by name or id, at the hosts that it is bound to")
	take.register(cmd)
	return cmd
}

func (s *shell) gitGet(cmd *cobra.Command, name string, take signInFlags) error {
	if name == "" {
		return usage("say with --credential which one git may be handed")
	}
	wants, err := readAttributes(s.in)
	if err != nil {
		return err
	}
	at, err := newOrigin(wants["protocol"], wants["host"])
	if err != nil {
		return err
	}
	at.username = wants["username"]
	if path, told := wants["path"]; told {
		at.path = &path
	}
	c, _, err := s.client(cmd)
	if err != nil {
		return err
	}
	cred, err := getCredential(cmd.Context(), c, name)
	if err != nil {
		return err
	}
	answer := gitAnswer{Protocol: at.scheme, Host: at.host, Username: take.name(cred)}
	why := unbound(cred, at)
	if why == "" {
		why = unfit(cred, time.Now())
	}
	if why == "" && at.username != "" && answer.Username != "" && answer.Username != at.username {
		why = fmt.Sprintf("the credential %q is that of another user name than was asked for", cred.Name)
	}
	if why != "" {
		s.note("signalbox: no answer for %s: %s.", at, why)
		return s.show(gitAnswer{}, func() {})
	}
	if answer.Username == "" { // what git has already, or asks the person for
		answer.Username = at.username
	}
	field, err := take.secretField(cred)
	if err != nil {
		return err
	}
	value, err := s.handOverTo(cmd.Context(), c, cred, field, "git", at)
	if err != nil {
		return err
	}
	answer.Answered, answer.Password = true, value.Reveal()
	if end := endOf(cred); end != nil {
		answer.Expires = end.Unix()
	}
	lines, err := answer.lines()
	if err != nil {
		return fmt.Errorf("the credential %q cannot be handed to git: %w", cred.Name, err)
	}
	if s.json {
		return s.writeJSON(s.out, answer)
	}
	_, err = s.out.WriteString(lines)
	return err
}

// errLineBreak tells nothing of the value.
var errLineBreak = errors.New("its user name or its secret has a line break or a NUL in it, which git's protocol cannot carry")

// lines are the answer as git reads it.
func (a gitAnswer) lines() (string, error) {
	out := ""
	add := func(key, value string) {
		if value != "" {
			out += key + "=" + value + "\n"
		}
	}
	if strings.ContainsAny(a.Username+a.Password, "\n\r\x00") {
		return "", errLineBreak
	}
	add("username", a.Username)
	add("password", a.Password)
	if a.Expires != 0 {
		add("password_expiry_utc", strconv.FormatInt(a.Expires, 10))
	}
	return out, nil
}

// readAttributes reads what git tells, to an empty line or the end. Keys that nobody knows are kept and not looked at, of several values the last counts.
func readAttributes(in io.Reader) (map[string]string, error) {
	out := map[string]string{}
	lines := bufio.NewReader(io.LimitReader(in, mostAttributes+1))
	read := 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read standard input: %w", withoutText(err))
		}
		if read += len(line); read > mostAttributes {
			return nil, usage("standard input holds over 256 KiB; that is not what git asks")
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return out, nil
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(line, "\r\x00") {
			return nil, usage("standard input is not what git asks: lines of key=value, without a carriage return or a NUL, to an empty one")
		}
		out[key] = value
		if err != nil { // the end, without a line break
			return out, nil
		}
	}
}

// withoutText is an error of reading without the name of what was read.
func withoutText(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
