package identity_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestNoSecretEscapes drives every door of the room with planted secrets, and looks for them in events, errors, logs, printed values and the
// database's files.
func TestNoSecretEscapes(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			var seen strings.Builder
			h := newHouse(t, cfg, newClock(), func(c *identity.Config) {
				c.Tell = func(_ *store.Tx, n identity.News) error {
					fmt.Fprintf(&seen, "%v %+v %#v\n", n, n, n)
					return nil
				}
			})
			planted := []string{password, "planted-wrong-password-77"}
			note := func(v any, err error) {
				fmt.Fprintf(&seen, "%v %+v %#v\n", v, v, v)
				if b, err := json.Marshal(v); err == nil {
					seen.Write(b)
				}
				for err != nil {
					fmt.Fprintf(&seen, "%v %+v %#v\n", err, err, err)
					if f, ok := err.(*fault.Error); ok {
						fmt.Fprintf(&seen, "%+v\n", *f)
						err = f.Unwrap()
						continue
					}
					break
				}
			}
			plant := func(v secret.Value) string {
				planted = append(planted, v.Reveal())
				note(v, nil)
				return v.Reveal()
			}

			link, err := h.NewSetupLink(t.Context())
			require.NoError(t, err)
			plant(link)
			_, _, err = h.Setup(t.Context(), door(), link, email, "Ada", secret.FromString("short-pw-9"))
			planted = append(planted, "short-pw-9")
			note(nil, err)
			u, token, err := h.Setup(t.Context(), door(), link, email, "Ada", secret.FromString(password))
			require.NoError(t, err)
			note(u, nil)
			plant(token)
			_, _, err = h.Setup(t.Context(), door(), link, email, "Ada", secret.FromString(password))
			note(nil, err)
			_, err = h.Login(t.Context(), door(), email, secret.FromString(planted[1]), identity.SessionBrowser)
			note(nil, err)
			in, err := h.Login(t.Context(), door(), email, secret.FromString(password), identity.SessionBrowser)
			note(in, err)
			plant(in.Secret)
			caller, err := h.Token(token.Reveal())
			require.NoError(t, err)
			note(caller, nil)
			tok, v, err := h.IssueToken(t.Context(), caller, identity.TokenDraft{Name: "second"})
			require.NoError(t, err)
			note(tok, nil)
			second := plant(v)
			require.NoError(t, h.RevokeToken(t.Context(), caller, tok.ID))
			for _, bearer := range []string{second, second[1:], second + "x"} {
				_, err = h.Token(bearer)
				note(nil, err)
				_, err = h.Client(bearer)
				note(nil, err)
			}
			k, v, err := h.issue("train_a", identity.KeyDraft{Name: "laptop"})
			require.NoError(t, err)
			note(k, nil)
			bearer := plant(v)
			client, err := h.Client(bearer)
			require.NoError(t, err)
			note(client, nil)
			imported := "cnp_live_planted0123456789"
			planted = append(planted, imported)
			for range 2 { // the second is refused as a duplicate
				note(nil, h.write(func(tx *store.Tx) error {
					k, err := h.ImportKey(tx, caller, "train_a", identity.KeyDraft{Name: "old"}, secret.FromString(imported))
					note(k, nil)
					return err
				}))
			}
			require.NoError(t, h.write(func(tx *store.Tx) error {
				k, v, err := h.ReplaceKey(tx, caller, "train_a", k.ID, identity.KeyReplacement{Overlap: time.Hour})
				note(k, nil)
				plant(v)
				return err
			}))
			session := h.caller(in)
			offer, err := h.OfferTOTP(t.Context(), session)
			require.NoError(t, err)
			note(offer, nil)
			raw, err := base32.StdEncoding.DecodeString(plant(offer.Secret))
			require.NoError(t, err)
			planted = append(planted, string(raw))
			a := app{t, offer.Secret.Reveal(), h.clock}
			_, err = h.ConfirmTOTP(t.Context(), session, secret.FromString("planted-wrong-code-4711"))
			planted = append(planted, "planted-wrong-code-4711")
			note(nil, err)
			first, err := h.ConfirmTOTP(t.Context(), session, a.at(0))
			note(first, err)
			plant(first.Secret)
			for _, code := range first.Codes {
				planted = append(planted, strings.ReplaceAll(plant(code), "-", ""))
			}
			half := h.enter(email)
			note(half, nil)
			plant(half.Secret)
			waits, _ := h.half(half)
			_, err = h.Prove(t.Context(), waits, identity.Code{TOTP: secret.FromString("planted-wrong-code-4711")})
			note(nil, err)
			whole, err := h.Prove(t.Context(), waits, identity.Code{Recovery: first.Codes[0]})
			note(whole, err)
			plant(whole.Secret)
			_, err = h.LoginWith(t.Context(), door(), email, secret.FromString(password), identity.Code{Recovery: first.Codes[0]}, identity.SessionAPI)
			requireFault(t, "second_factor_wrong", err)
			note(nil, err)
			program, err := h.LoginWith(t.Context(), door(), email, secret.FromString(password), identity.Code{Recovery: first.Codes[1]}, identity.SessionAPI)
			require.NoError(t, err)
			note(program, nil)
			tokens, err := h.IssueTokens(t.Context(), door(), program.Session.ID)
			require.NoError(t, err)
			note(tokens, nil)
			plant(tokens.Refresh)
			planted = append(planted, tokens.Access.Reveal()[strings.LastIndex(tokens.Access.Reveal(), ".")+1:])
			for range 2 { // the second time it has come before
				next, err := h.Refresh(t.Context(), door(), tokens.Refresh)
				note(next, err)
			}
			verifier := "planted-verifier-" + strings.Repeat("8f3k2", 6)
			planted = append(planted, verifier)
			for _, v := range []string{verifier + "-", verifier} { // a wrong one spends the code as well
				code, err := h.AllowCommandLine(t.Context(), h.caller(whole), commandLine(verifier, 40123))
				require.NoError(t, err)
				plant(code)
				got, err := h.ExchangeCode(t.Context(), door(), code, secret.FromString(v))
				note(got, err)
				if err == nil {
					plant(got.Refresh)
				}
			}
			renewed, err := h.RegenerateRecoveryCodes(t.Context(), h.caller(whole))
			require.NoError(t, err)
			for _, code := range renewed {
				planted = append(planted, strings.ReplaceAll(plant(code), "-", ""))
			}
			h.Failed(bearer, identity.FailedKey) // a door that confuses its arguments
			h.Failed("192.0.2.1", bearer)
			require.NoError(t, h.Flush(t.Context()))
			note(h.Room, nil)
			for _, ev := range h.events() {
				note(ev, nil)
			}
			require.Greater(t, len(h.events()), 8)

			for _, s := range planted {
				absent(t, "what was printed", seen.String(), s)
				absent(t, "the log", h.log.String(), s)
			}
			if e != store.SQLite {
				return
			}
			require.NoError(t, h.Close())
			files, err := filepath.Glob(filepath.Join(cfg.DataDir, "*"))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, f := range files {
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				for _, s := range planted {
					absent(t, f, string(b), s)
				}
			}
		})
	}
}

// absent looks for a secret as it is, encoded, and in pieces of 12 characters.
func absent(t *testing.T, where, text, planted string) {
	t.Helper()
	forms := []string{planted, hex.EncodeToString([]byte(planted)), base64.StdEncoding.EncodeToString([]byte(planted))[:12]}
	for i := 0; i+12 <= len(planted); i++ {
		forms = append(forms, planted[i:i+12])
	}
	for _, f := range forms {
		if strings.Contains(text, f) {
			t.Fatalf("%s holds a piece of a secret (of %d characters)", where, len(planted))
		}
	}
}
