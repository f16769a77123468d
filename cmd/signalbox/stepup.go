package main

import (
	"context"
	"strings"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
)

// proveAgain asks whoever signed in with signalbox login to confirm that it is still them, as the server wants for what is worth stealing: by a code
// where they have a second factor, else by the password. The command goes on after it; a wrong answer ends it.
func (s *shell) proveAgain(ctx context.Context, c *client.Client) error {
	have, err := c.Factors(ctx, "")
	if err != nil {
		return err
	}
	s.note("The last proof of who you are is older than five minutes.")
	switch {
	case have.TOTPSince == nil && len(have.Passkeys) == 0:
		password, err := s.ask(ctx, "Your password", "")
		if err != nil {
			return err
		}
		return c.StepUp(ctx, password.Reveal())
	case have.TOTPSince == nil && have.RecoveryCodes == 0:
		return fault.New(fault.Forbidden, "step_up_required", "This needs a proof of who you are that is not older than five minutes, and yours is a passkey, which only a browser can ask for.")
	}
	what := "Code from your authenticator app, or a recovery code"
	if have.TOTPSince == nil {
		what = "Recovery code (your passkey works with signalbox login)"
	}
	typed, err := s.ask(ctx, what, "")
	if err != nil {
		return err
	}
	code := strings.ReplaceAll(strings.TrimSpace(typed.Reveal()), " ", "")
	if len(code) == 6 && strings.Trim(code, "0123456789") == "" {
		return c.StepUpWith(ctx, code, "")
	}
	return c.StepUpWith(ctx, "", code)
}
