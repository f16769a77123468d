package importer

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"filippo.io/age"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// scryptWork is what a passphrase costs: 2^16 steps of scrypt, with 64 MiB. age's own 2^18 would be 256 MiB of a server's memory; the
	// length that is demanded makes up for it.
	scryptWork = 16
	// leastPassphrase is how many characters a passphrase must have.
	leastPassphrase = 16
	maxPassphrase   = 1024
	maxRecipients   = 20
)

// ExportRequest says for whom an export is encrypted: one passphrase, or recipients of age (age1…).
type ExportRequest struct {
	Recipients []string
	Passphrase secret.Value
	Reason     string
}

// Export is an export that was let, and has not left yet. End it with [Export.Close].
type Export struct {
	room       *Room
	caller     identity.Caller
	id, reason string
	to         []age.Recipient
	release    func()
	sent, left int
}

// Export begins an export of everything that the caller may reveal, which is on record from then on. The faults are validation_failed,
// memory_budget and the refusals of permissions.
func (r *Room) Export(ctx context.Context, caller identity.Caller, req ExportRequest) (*Export, error) {
	if err := r.vault.MayExport(ctx, caller); err != nil {
		return nil, err
	}
	e := &Export{room: r, caller: caller, id: store.NewID("exp"), reason: req.Reason}
	f := fault.New(fault.Unprocessable, "validation_failed", "The export cannot be made like this; see errors. Nothing was exported.")
	if strings.TrimSpace(req.Reason) == "" || utf8.RuneCountInString(req.Reason) > 500 || !utf8.ValidString(req.Reason) {
		_ = f.With("/reason", "is needed: say why in at most 500 characters, it is kept in the audit log")
	}
	switch {
	case len(req.Recipients) > 0 && !req.Passphrase.IsZero():
		_ = f.With("/passphrase", "must not be given with recipients; choose one of the two")
	case len(req.Recipients) > maxRecipients:
		_ = f.With("/recipients", "must be at most "+strconv.Itoa(maxRecipients))
	case len(req.Recipients) > 0:
		for i, text := range req.Recipients {
			to, err := recipient(text)
			if err != nil {
				_ = f.With("/recipients/"+strconv.Itoa(i), "is no recipient of age (age1…)")
				continue
			}
			e.to = append(e.to, to)
		}
		if len(e.to) == len(req.Recipients) {
			if _, err := age.Encrypt(io.Discard, e.to...); err != nil {
				_ = f.With("/recipients", "cannot be used together: those that withstand quantum computers (age1pq1…) and others do not mix")
			}
		}
	case utf8.RuneCountInString(req.Passphrase.Reveal()) < leastPassphrase || req.Passphrase.Len() > maxPassphrase:
		_ = f.With("/passphrase", "must have "+strconv.Itoa(leastPassphrase)+" to "+strconv.Itoa(maxPassphrase)+" characters, unless there are recipients")
	default:
		to, err := age.NewScryptRecipient(req.Passphrase.Reveal())
		if err != nil {
			_ = f.With("/passphrase", "cannot be used")
			break
		}
		to.SetWorkFactor(r.work)
		e.to = []age.Recipient{to}
	}
	if len(f.Fields) > 0 {
		return nil, f
	}
	release, err := r.hold(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.record(ctx, store.OutcomeOK, "", store.Str("act", "begin")); err != nil {
		release()
		return nil, err
	}
	e.release = release
	return e, nil
}

// recipient reads a recipient of age. Of those there are, the two native ones are taken: others start programs, or are signing keys.
func recipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(text, "age1pq1") {
		return age.ParseHybridRecipient(text)
	}
	return age.ParseX25519Recipient(text)
}

func (e *Export) record(ctx context.Context, outcome, reason string, details ...store.Detail) error {
	ev := e.caller.Event(store.CredentialExport, store.Target{Kind: "export", ID: e.id})
	ev.Outcome, ev.Reason, ev.Details = outcome, reason, details
	if reason == "" {
		ev.Reason = e.reason
	}
	return e.room.db.Write(ctx, func(tx *store.Tx) error { return tx.Record(ev) })
}

// WriteTo writes the archive. before is asked before each page whether the caller may still have it. What was written when an error comes back is no
// archive: it cannot be decrypted to its end.
func (e *Export) WriteTo(ctx context.Context, w io.Writer, before func(context.Context) error) error {
	sealed, err := age.Encrypt(w, e.to...)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(sealed, 64<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(archiveLine{Head: &archiveHead{Format: archiveMark, Version: archiveVersion, At: e.room.now().UTC()}}); err != nil {
		return err
	}
	for after := ""; ; {
		if err := before(ctx); err != nil {
			return err
		}
		page, err := e.room.vault.Export(ctx, e.caller, e.reason, after)
		if err != nil {
			return err
		}
		e.left += page.LeftOut
		for _, c := range page.Credentials {
			line := archived(c)
			if err := enc.Encode(archiveLine{Credential: &line}); err != nil {
				return err
			}
			e.sent++
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if err := enc.Encode(archiveLine{End: &archiveEnd{Credentials: e.sent, LeftOut: e.left}}); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return sealed.Close()
}

// Close ends the export and records how far it came; why is the word for what broke it off, or empty.
func (e *Export) Close(ctx context.Context, why string) error {
	e.release()
	outcome := store.OutcomeOK
	if why != "" {
		outcome = store.OutcomeFailed
	}
	return e.record(ctx, outcome, why, store.Str("act", "end"), store.Int("credentials", int64(e.sent)), store.Int("left_out", int64(e.left)), store.Bool("complete", why == ""))
}
