package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/probe"
)

func (s *shell) credTest() *cobra.Command {
	var ask client.TestRequest
	cmd := s.remote("test CREDENTIAL", "Try a credential where it is used", words("CREDENTIAL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		id, err := credentialID(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		got, err := c.TestCredential(cmd.Context(), id, ask)
		if err != nil {
			return err
		}
		status, took := "", ""
		if got.Status != 0 {
			status = strconv.Itoa(got.Status)
		}
		if got.Target != "" {
			took = strconv.FormatInt(got.Milliseconds, 10) + " ms"
		}
		if err := s.show(map[string]any{"test": got}, func() {
			s.facts("outcome", got.Outcome, "asked", got.Target, "status", status, "host key", got.HostKey, "took", took, "meaning", got.Detail)
		}); err != nil {
			return err
		}
		if got.Outcome != string(probe.OK) {
			return errVerdict
		}
		return nil
	})
	flags := cmd.Flags()
	flags.StringVar(&ask.Path, "path", "", "HTTP: a path below the base URL that needs the credential")
	flags.StringVar(&ask.Auth, "auth", "", "HTTP: how the secret is sent: "+strings.Join(probe.Auths(), ", "))
	flags.StringVar(&ask.Header, "header", "", "HTTP, with --auth header: the header's name")
	flags.StringVar(&ask.HostKey, "host-key", "", "SSH: the SHA256: fingerprint that the server must show")
	flags.BoolVar(&ask.Offline, "offline", false, "look at what is stored and connect to nobody")
	return cmd
}
