package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

const (
	byLogin = "signalbox login"
	// personTime is how long a person may take to sign in and agree.
	personTime = 15 * time.Minute
	// lastCalls bounds the calls that put things in order at the end.
	lastCalls = 10 * time.Second
)

func (s *shell) loginCommand() *cobra.Command {
	var noBrowser bool
	cmd := s.remote("login", "Sign in with the browser", words(), func(cmd *cobra.Command, _ []string) error { return s.signIn(cmd, noBrowser) })
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "open no browser; print the address, and ask for the code that its page shows")
	// What every other command calls --url is --server here as well.
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "url" {
			name = "server"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

// signIn begins at the server's page, and keeps what its code is worth.
func (s *shell) signIn(cmd *cobra.Command, noBrowser bool) error {
	cfg, err := s.config(cmd)
	if err != nil {
		return err
	}
	file, ok := s.loginFile()
	if !ok {
		return usage("there is no home directory to keep the sign-in in; set HOME or XDG_CONFIG_HOME")
	}
	if cfg.Origin("url") == "default" {
		if saved, err := file.read(); err == nil && saved != nil { // again where it was
			cfg.URL = saved.server
		}
	}
	server := serverOf(cfg.URL)
	s.warnPlain(server)
	ctx, cancel := context.WithTimeout(cmd.Context(), personTime)
	defer cancel()
	c := client.New(server, "", client.WithUserAgent(agent()))
	if _, err := c.Version(ctx); err != nil { // before anybody is sent there
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
			return err
		}
	}
	verifier := randomWord()
	tokens, err := s.fetchTokens(ctx, c, server, verifier, noBrowser)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("nobody agreed in time; run signalbox login again")
	} else if err != nil {
		return err
	}
	if err := s.keepLogin(cmd.Context(), file, loginOf(server, tokens)); err != nil {
		s.endLogin(cmd.Context(), server, tokens.RefreshToken)
		return err
	}
	who, err := client.New(server, tokens.AccessToken, client.WithUserAgent(agent())).WhoAmI(cmd.Context())
	if err != nil {
		return err
	}
	if !cfg.Token.IsZero() {
		s.note("%s is set and goes before this sign-in.", cfg.Origin("token"))
	}
	return s.show(shownLogin{who, server, byLogin}, func() {
		s.say("Signed in at %s as %s (%s), until %s if it lies unused.", server, who.Name, who.Role, momentOf(who.ExpiresAt))
	})
}

// fetchTokens asks the person to agree and exchanges the code.
func (s *shell) fetchTokens(ctx context.Context, c *client.Client, server string, verifier string, noBrowser bool) (client.Login, error) {
	sum := sha256.Sum256([]byte(verifier))
	page := server + "/cli?challenge=" + base64.RawURLEncoding.EncodeToString(sum[:])
	if !noBrowser && len(s.browsers()) > 0 {
		b, err := listenForCode(randomWord())
		if err != nil {
			return client.Login{}, err
		}
		address := page + "&port=" + strconv.Itoa(b.port) + "&state=" + url.QueryEscape(b.state)
		if s.browse(address) {
			s.note("The browser shows a page at %s: sign in there and agree. If it does not, open this address in a browser on this computer:\n%s", server, address)
			answer, err := b.wait(ctx)
			if err != nil {
				b.close(ctx, false, "")
				return client.Login{}, err
			}
			got, err := s.exchange(ctx, c, answer, verifier)
			b.close(ctx, true, map[bool]string{true: pageDone, false: pageFailed}[err == nil])
			return got, err
		}
		b.close(ctx, false, "")
	}
	s.note("Open this address in a browser, sign in there and agree; then paste the code that it shows:\n%s", page)
	code, err := s.pastedCode(ctx)
	if err != nil {
		return client.Login{}, err
	}
	return s.exchange(ctx, c, loginAnswer{code: code}, verifier)
}

func (s *shell) exchange(ctx context.Context, c *client.Client, answer loginAnswer, verifier string) (client.Login, error) {
	if answer.refused {
		return client.Login{}, fault.New(fault.Forbidden, "forbidden", "The sign-in was cancelled in the browser. Nothing was changed here.")
	}
	return c.ExchangeLoginCode(ctx, answer.code.Reveal(), verifier)
}

// pastedCode reads a code from the terminal, without echo, or from a pipe.
func (s *shell) pastedCode(ctx context.Context) (secret.Value, error) {
	if term.IsTerminal(int(s.in.Fd())) {
		code, err := s.ask(ctx, "Code", "")
		return secret.FromString(strings.TrimSpace(code.Reveal())), err
	}
	return s.readStdin("signalbox login --no-browser")
}

// randomWord is 256 random bits in letters that mean the same everywhere.
func randomWord() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// keepLogin stores a sign-in in place of the one before, which ends.
func (s *shell) keepLogin(ctx context.Context, file loginFile, next savedLogin) error {
	unlock, err := file.lock(ctx)
	if err != nil {
		return err
	}
	before, _ := file.read() // whatever it is, it is replaced
	err = file.write(next)
	unlock()
	if err == nil && before != nil {
		s.endLogin(ctx, before.server, before.refresh.Reveal())
		s.forgetKeys(ctx, before.session)
	}
	return err
}

// endLogin ends a sign-in that nobody needs any more, as well as that can be done.
func (s *shell) endLogin(ctx context.Context, server, refresh string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCalls)
	defer cancel()
	err := client.New(server, "", client.WithUserAgent(agent())).RevokeLogin(ctx, refresh)
	if err != nil && !over(err) {
		s.note("The earlier sign-in at %s could not be ended there. It ends when it was not used for 30 days; end it sooner under %s/account.", server, server)
	}
}

// over reports whether a session had ended before it was to be.
func over(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Status == http.StatusUnauthorized
}

func (s *shell) logoutCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "logout", Short: "End the sign-in of signalbox login", Args: words(), RunE: func(cmd *cobra.Command, _ []string) error {
		file, ok := s.loginFile()
		if !ok {
			return usage("there is no home directory in which a sign-in could be; set HOME or XDG_CONFIG_HOME")
		}
		server, session, err := s.logout(cmd.Context(), file)
		if err != nil {
			return err
		}
		s.forgetKeys(cmd.Context(), session)
		return s.show(map[string]any{"signed_out": server != "", "server": server}, func() {
			if server == "" {
				s.say("Nobody was signed in with signalbox login.")
				return
			}
			s.say("Signed out of %s.", server)
		})
	}}
	return cmd
}

// logout ends the sign-in at its server and then forgets it, and returns where and which that was, "" when there was none.
func (s *shell) logout(ctx context.Context, file loginFile) (server, session string, err error) {
	if saved, err := file.read(); err != nil || saved == nil {
		return "", "", err
	}
	unlock, err := file.lock(ctx) // nobody refreshes it meanwhile
	if err != nil {
		return "", "", err
	}
	defer unlock()
	saved, err := file.read()
	if err != nil || saved == nil {
		return "", "", err
	}
	limited, cancel := context.WithTimeout(ctx, lastCalls)
	defer cancel()
	if err := client.New(saved.server, "", client.WithUserAgent(agent())).RevokeLogin(limited, saved.refresh.Reveal()); err != nil && !over(err) {
		s.note("The sign-in lives on, and is kept in %s. Try again; or delete that file, and end the session under %s/account.", file.path(), saved.server)
		return "", "", err
	}
	if err := os.Remove(file.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("the sign-in has ended, and its file could not be deleted: %w", err)
	}
	return saved.server, saved.session, nil
}

// shownLogin is who one is, where, and by what.
type shownLogin struct {
	client.Identity
	Server string `json:"server"`
	By     string `json:"by"`
}

func (s *shell) whoamiCommand() *cobra.Command {
	return s.remote("whoami", "Show who the server takes you for, by what, and until when", words(), func(cmd *cobra.Command, _ []string) error {
		c, cfg, err := s.client(cmd)
		if err != nil {
			return err
		}
		who, err := c.WhoAmI(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(shownLogin{who, cfg.URL, s.by}, func() {
			s.facts("server", cfg.URL, "kind", who.Kind, "name", who.Name, "id", who.ID, "person", who.UserID, "service account", who.ServiceAccountID, "role", who.Role, "by", s.by,
				"until", momentOf(who.ExpiresAt), "scopes", strings.Join(who.Scopes, " "))
		})
	})
}
