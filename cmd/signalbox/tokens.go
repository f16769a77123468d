package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

// tokenFlags say where tokens come from that somebody has already.
type tokenFlags struct {
	file, expires string
}

func (f *tokenFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "tokens-file", "", `with --type oauth: JSON file with access_token, refresh_token and expires_at or expires_in ("-" is standard input); asked for without`)
	cmd.Flags().StringVar(&f.expires, "token-expires", "", "with --type oauth: when the access token expires, a span such as 8h or a time")
}

// tokens is what a provider answers, as programs keep it.
type tokens struct {
	Access    string     `json:"access_token"`
	Refresh   string     `json:"refresh_token"`
	ExpiresAt *time.Time `json:"expires_at"`
	ExpiresIn int64      `json:"expires_in"`
	Scope     string     `json:"scope"`
}

// into reads the tokens into a draft.
func (f *tokenFlags) into(ctx context.Context, s *shell, d *client.CredentialDraft) error {
	var t tokens
	if f.file != "" {
		if err := f.read(s, &t); err != nil {
			return err
		}
	} else {
		access, err := s.ask(ctx, "Access token", "--tokens-file -")
		if err != nil {
			return err
		}
		refresh, err := s.prompt(ctx, "Refresh token, or nothing", "--tokens-file -")
		if err != nil {
			return err
		}
		t.Access, t.Refresh = strings.TrimSpace(access.Reveal()), strings.TrimSpace(refresh.Reveal())
	}
	if t.Access == "" {
		return usage("there is no access_token")
	}
	d.Secrets = map[string]string{"access_token": t.Access}
	if t.Refresh != "" {
		d.Secrets["refresh_token"] = t.Refresh
	}
	d.OAuth = &client.OAuth{ExpiresAt: t.ExpiresAt, Scopes: strings.Fields(t.Scope)}
	if t.ExpiresIn > 0 && t.ExpiresAt == nil {
		ends := time.Now().Add(time.Duration(t.ExpiresIn) * time.Second)
		d.OAuth.ExpiresAt = &ends
	}
	if f.expires != "" {
		ends, err := parseExpiry(f.expires)
		if err != nil {
			return err
		}
		d.OAuth.ExpiresAt = ends
	}
	return nil
}

func (f *tokenFlags) read(s *shell, t *tokens) error {
	var v secret.Value
	var err error
	if f.file == "-" {
		v, err = s.readStdin("--tokens-file -")
	} else {
		v, err = secret.ReadFile(f.file)
	}
	if err != nil {
		return fmt.Errorf("read the tokens: %w", err)
	}
	if json.NewDecoder(bytes.NewReader(v.Bytes())).Decode(t) != nil { // the cause would quote
		return usage("--tokens-file needs a JSON object such as a token endpoint answers with: access_token, refresh_token, expires_in or expires_at")
	}
	return nil
}
