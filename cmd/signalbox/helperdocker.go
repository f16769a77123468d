package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
)

// What Docker's programs look for, word for word (docker-credential-helpers, credentials/error.go).
const (
	dockerNotFound = "credentials not found in native keychain"
	dockerNoServer = "no credentials server URL"
)

// mostDockerInput bounds what Docker may say: a URL, or with store a JSON object.
const mostDockerInput = 64 << 10

// dockerLogin is what Docker is handed, in its own names.
type dockerLogin struct {
	ServerURL string
	Username  string
	Secret    string
}

// dockerRefusal is an answer of the protocol that is no login: Docker reads it from standard output, and the exit code is 1.
type dockerRefusal struct{ text string }

// Error is the text that Docker reads.
func (r dockerRefusal) Error() string { return r.text }

// helperDocker is a credential helper of Docker (docker-credential-helpers): it is run as docker-credential-NAME with get, list, store, erase or version. What it asks comes on
// standard input, and every answer, errors too, goes to standard output.
func (s *shell) helperDocker() *cobra.Command {
	var names []string
	var take signInFlags
	cmd := s.remote("docker ACTION", "Answer Docker, as its credential helper, with a credential that is bound to the registry", words("ACTION"), func(cmd *cobra.Command, args []string) error {
		if len(names) == 0 {
			return usage("say with --credential which one Docker may be handed")
		}
		err := s.dockerAct(cmd, args[0], names, take)
		var wrong *usageError
		if err == nil || errors.As(err, &wrong) {
			return err
		}
		s.say("%s", s.told(err).Detail)
		return errVerdict
	})
	cmd.Flags().StringArrayVar(&names, "credential", nil, "a credential to answer with, by name or id, at the hosts that it is bound to (may be given several times)")
	take.register(cmd)
	return cmd
}

func (s *shell) dockerAct(cmd *cobra.Command, action string, names []string, take signInFlags) error {
	switch action {
	case "get":
		server, err := s.dockerServer()
		if err != nil {
			return err
		}
		login, err := s.dockerGet(cmd, server, names, take)
		if err != nil {
			return err
		}
		return s.dockerJSON(login)
	case "list":
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		return s.dockerList(cmd.Context(), c, names, take)
	case "store", "erase":
		if _, err := io.Copy(io.Discard, io.LimitReader(s.in, mostDockerInput)); err != nil { // to the end, so that Docker is not cut off
			return fmt.Errorf("read standard input: %w", withoutText(err))
		}
		return dockerRefusal{"Signalbox changes no credential for docker login or logout; nothing was done. Store it with: signalbox cred add"}
	case "version":
		s.say("signalbox helper docker %s", app.Version())
		return nil
	}
	return usage("Docker's credential helpers know get, list, store, erase and version, not %q", action)
}

// dockerJSON writes an answer in one line: the programs that read it take the first value, and --json changes nothing about it.
func (s *shell) dockerJSON(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// dockerServer reads the server that Docker asks for.
func (s *shell) dockerServer() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(s.in, mostDockerInput)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read standard input: %w", withoutText(err))
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", dockerRefusal{dockerNoServer}
	}
	return line, nil
}

// dockerOrigin is where that server is. Docker names registries by their host alone, the Hub by a URL.
func dockerOrigin(server string) (origin, error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return origin{}, dockerRefusal{"That is no address of a registry: a host with its port at most, or an https URL."}
	}
	at, err := newOrigin(u.Scheme, u.Host)
	if err != nil {
		return origin{}, dockerRefusal{"That is no address of a registry: a host with its port at most, or an https URL."}
	}
	at.path = &u.Path
	return at, nil
}

func (s *shell) dockerGet(cmd *cobra.Command, server string, names []string, take signInFlags) (dockerLogin, error) {
	at, err := dockerOrigin(server)
	if err != nil {
		return dockerLogin{}, err
	}
	c, _, err := s.client(cmd)
	if err != nil {
		return dockerLogin{}, err
	}
	for _, name := range names {
		cred, err := getCredential(cmd.Context(), c, name)
		if err != nil {
			return dockerLogin{}, err
		}
		why := unbound(cred, at)
		if why == "" {
			why = unfit(cred, time.Now())
		}
		if why != "" {
			s.note("signalbox: no answer for %s: %s.", at, why)
			continue
		}
		username := take.name(cred)
		if username == "" {
			return dockerLogin{}, dockerRefusal{fmt.Sprintf("The credential %q has no user name, and a registry wants one: signalbox cred edit %s --username NAME", cred.Name, cred.ID)}
		}
		field, err := take.secretField(cred)
		if err != nil {
			return dockerLogin{}, dockerRefusal{err.Error()}
		}
		value, err := s.handOverTo(cmd.Context(), c, cred, field, "docker", at)
		return dockerLogin{server, username, value.Reveal()}, err
	}
	return dockerLogin{}, dockerRefusal{dockerNotFound}
}

// dockerList tells where the credentials may go, and as whom; nothing is revealed for it.
func (s *shell) dockerList(ctx context.Context, c *client.Client, names []string, take signInFlags) error {
	out := map[string]string{}
	for _, name := range names {
		cred, err := getCredential(ctx, c, name)
		if err != nil {
			return err
		}
		username := take.name(cred)
		if username == "" || unfit(cred, time.Now()) != "" {
			continue
		}
		for _, where := range slices.Backward(boundPlaces(cred)) {
			if _, taken := out[where]; !taken { // as with get, the first that is named answers
				out[where] = username
			}
		}
	}
	return s.dockerJSON(out)
}
