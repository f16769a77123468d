package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
)

const (
	// importBodyMost bounds the body of an import; what it unpacks to, the room bounds.
	importBodyMost  = 64 << 20
	importPatience  = 5 * time.Minute
	typeOctetStream = "application/octet-stream"
)

// importFormat is one of the importer's table.
type importFormat string

// Schema lists the formats of the table.
func (importFormat) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range importer.Names() {
		s.Enum = append(s.Enum, name)
	}
	return s
}

// content is a file on its way in.
type content struct {
	data []byte
	bad  bool // it is no base64
}

// UnmarshalJSON takes a text in base64.
func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	c.data, c.bad = data, err != nil
	return nil
}

// Schema describes a file: it holds secrets, and is never shown.
func (content) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, ContentEncoding: "base64", WriteOnly: true, MinLength: size(1), MaxLength: size(importBodyMost)}
}

type importBody struct {
	Files []struct {
		Name    string  `json:"name" minLength:"1" maxLength:"255" doc:"The file's name; some formats say by it whose the content is."`
		Content content `json:"content" doc:"The file in base64; it may be compressed with gzip."`
	} `json:"files" minItems:"1" maxItems:"1000" nullable:"false"`
	Format     importFormat `json:"format,omitempty" doc:"The format of the files; found out for each when it is left out."`
	Name       string       `json:"name,omitempty" minLength:"1" maxLength:"200" doc:"What an account is called whose file has no name for it."`
	Passphrase hidden       `json:"passphrase,omitempty" maxLength:"4096" doc:"Opens an encrypted file: a passphrase, or an age identity."`
	DryRun     bool         `json:"dry_run,omitempty" doc:"Decide everything and store nothing."`
}

type exportBody struct {
	Recipients texts  `json:"recipients,omitempty" maxItems:"20" doc:"Recipients of age (age1…), in place of a passphrase."`
	Passphrase hidden `json:"passphrase,omitempty" maxLength:"1024" doc:"16 characters or more."`
	Reason     string `json:"reason" minLength:"1" maxLength:"500" doc:"Recorded in the audit log with each credential."`
}

func (s *service) addTransfer() {
	const tag = "import and export"
	add(s, route{method: http.MethodPost, path: "/api/import", id: "import-credentials", summary: "Import files of other programs, or an archive", tag: tag,
		description: "All of it or nothing. What is here already is left out. With dry_run the answer says what would become of each entry; without, entries that cannot be stored refuse the whole import. In a session it needs a proof that is not older than five minutes. Client keys need keys:write and trains:write too.",
		access:      string(identity.CredentialWrite), maxBody: importBodyMost, patience: importPatience,
		again: func(ctx context.Context, caller identity.Caller, _ string, _ []byte) error {
			_, err := s.Vault.MayImport(ctx, caller)
			return err
		}}, s.importFiles)
	add(s, route{method: http.MethodPost, path: "/api/export", id: "export-credentials", summary: "Export what one may reveal, encrypted with age", tag: tag,
		description: "Everything that the caller may reveal, each on record as a reveal. In a session it needs a proof that is not older than five minutes. The archive can be imported again. An answer that breaks off is no archive.",
		access:      string(identity.CredentialReveal), streams: []string{typeOctetStream}, keyless: true, reveals: true, changesNothing: true}, s.exportCredentials)
}

type importAnswer struct {
	Body struct {
		Import client.ImportReport `json:"import"`
	} `nameHint:"ImportAnswer"`
}

func (s *service) importFiles(ctx context.Context, caller identity.Caller, in *struct{ Body importBody }) (*importAnswer, error) {
	req := importer.Request{Format: string(in.Body.Format), Name: in.Body.Name, Passphrase: in.Body.Passphrase.Value, DryRun: in.Body.DryRun, Files: make([]importer.File, len(in.Body.Files))}
	for i, f := range in.Body.Files {
		if f.Content.bad && exchangeOf(ctx).refusal == nil {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "A file is not as it must be sent; see errors.").With("/files/"+strconv.Itoa(i)+"/content", "must be base64")
		}
		req.Files[i] = importer.File{Name: f.Name, Data: f.Content.data}
	}
	report, err := s.Importer.Import(ctx, caller, req)
	if err != nil {
		return nil, err
	}
	out := &importAnswer{}
	out.Body.Import = shownImport(report)
	return out, nil
}

func shownImport(r importer.Report) client.ImportReport {
	out := client.ImportReport{
		ID: r.ID, DryRun: r.DryRun, Applied: r.Applied, Files: r.Files, Formats: r.Formats, Entries: r.Entries, Created: r.Created, Duplicates: r.Duplicates, Skipped: r.Skipped,
		Invalid: r.Wrong, Trains: r.Trains, SecretsCompared: r.SecretsCompared, LeftOut: r.LeftOut, Rows: make([]client.ImportRow, len(r.Rows)),
	}
	for i, w := range r.Rows {
		out.Rows[i] = client.ImportRow{
			Number: w.Number, File: w.File, Place: w.Place, Format: w.Format, Kind: w.Kind, Type: w.Type, Name: w.Name, Username: w.Username, TrainID: w.Train,
			Action: string(w.Action), Reason: w.Reason, DuplicateOf: w.DuplicateOf, SameAs: w.SameAs, ID: w.ID, Notes: w.Notes,
		}
	}
	return out
}

func (s *service) exportCredentials(ctx context.Context, caller identity.Caller, in *struct{ Body exportBody }) (*stream, error) {
	e, err := s.Importer.Export(ctx, caller, importer.ExportRequest{Recipients: in.Body.Recipients, Passphrase: in.Body.Passphrase.Value, Reason: in.Body.Reason})
	if err != nil {
		return nil, err
	}
	return &stream{func(c huma.Context) {
		own, ok := c.(*checked)
		if !ok {
			s.endExport(ctx, caller, e, "no_connection")
			return
		}
		req, w := humago.Unwrap(own.asked)
		if out, ok := w.(*reply); ok {
			s.sendExport(req.Context(), caller, e, out, req)
		}
	}}, nil
}

// patient lets the client take so long for each piece and no longer.
type patient struct {
	*reply
	conn *http.ResponseController
}

// Write sends a piece.
func (p patient) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(exportPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.reply.Write(b)
}

// sendExport sends the archive as it is made.
func (s *service) sendExport(ctx context.Context, caller identity.Caller, e *importer.Export, w *reply, req *http.Request) {
	if !req.ProtoAtLeast(1, 1) {
		s.endExport(ctx, caller, e, "http_1_0")
		w.reset()
		s.refuse(w, req, fault.New(fault.Invalid, "malformed_request", "An export needs HTTP/1.1 or later, also from a proxy in between (nginx: proxy_http_version 1.1)."))
		return
	}
	w.Header().Set("Content-Type", typeOctetStream)
	w.Header().Set("Content-Disposition", `attachment; filename="signalbox-export.age"`)
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // that of a short request would cancel this one
	w.stream(http.StatusOK)
	err := e.WriteTo(ctx, patient{w, conn}, func(ctx context.Context) error {
		now, err := s.Identity.Again(ctx, caller)
		if err == nil {
			_, err = identity.Within(now, identity.CredentialReveal)
		}
		return err
	})
	_ = conn.SetWriteDeadline(time.Time{}) // the connection may serve another request
	why := ""
	if err != nil {
		w.broken, why = true, "broken_off"
		switch {
		case ctx.Err() != nil:
			why = "client_gone"
		case fault.KindOf(err) == fault.Unauthenticated, fault.KindOf(err) == fault.Forbidden:
			why = "revoked"
		}
		s.Log.LogAttrs(ctx, slog.LevelWarn, "an export of credentials broke off", slog.String("request_id", caller.RequestID), slog.String("reason", why), slog.String("code", fault.Of(err).Code))
	}
	s.endExport(ctx, caller, e, why)
}

func (s *service) endExport(ctx context.Context, caller identity.Caller, e *importer.Export, why string) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportEnd)
	defer cancel()
	if err := e.Close(end, why); err != nil {
		s.Log.LogAttrs(end, slog.LevelWarn, "the end of an export was not recorded", slog.String("request_id", caller.RequestID), slog.String("code", fault.Of(err).Code))
	}
}
