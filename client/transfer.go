package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// ImportFile is one file to be imported.
type ImportFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

// ImportDraft says what to import.
type ImportDraft struct {
	Files      []ImportFile `json:"files"`
	Format     string       `json:"format,omitempty"` // found out for each file when it is empty
	Name       string       `json:"name,omitempty"`   // of an account whose file has no name for it
	Passphrase string       `json:"passphrase,omitempty"`
	DryRun     bool         `json:"dry_run,omitempty"`
}

// ImportReport says what becomes, or became, of an import.
type ImportReport struct {
	ID              string      `json:"id"`
	DryRun          bool        `json:"dry_run"`
	Applied         bool        `json:"applied" doc:"Whether it was stored."`
	Files           int         `json:"files"`
	Formats         []string    `json:"formats" nullable:"false"`
	Entries         int         `json:"entries"`
	Created         int         `json:"created"`
	Duplicates      int         `json:"duplicates"`
	Skipped         int         `json:"skipped"`
	Invalid         int         `json:"invalid"`
	Trains          []string    `json:"trains,omitempty" doc:"Those that were made for client keys."`
	SecretsCompared bool        `json:"secrets_compared" doc:"Whether secrets were compared with those that are stored; it takes the right to reveal."`
	Rows            []ImportRow `json:"rows" nullable:"false" doc:"At most 5000; what is stored or skipped is left out first."`
	LeftOut         int         `json:"left_out,omitempty"`
}

// ImportRow says what becomes of one entry.
type ImportRow struct {
	Number      int      `json:"number"`
	File        string   `json:"file"`
	Place       string   `json:"place"`
	Format      string   `json:"format"`
	Kind        string   `json:"kind,omitempty" doc:"credential, client_key or mcp_connection."`
	Type        string   `json:"type,omitempty"`
	Name        string   `json:"name,omitempty"`
	Username    string   `json:"username,omitempty"`
	TrainID     string   `json:"train_id,omitempty"`
	Action      string   `json:"action" enum:"create,duplicate,skip,invalid"`
	Reason      string   `json:"reason,omitempty"`
	DuplicateOf string   `json:"duplicate_of,omitempty" doc:"The id of what is here already."`
	SameAs      int      `json:"same_as,omitempty" doc:"The number of the entry that is like it."`
	ID          string   `json:"id,omitempty" doc:"Of what was stored."`
	Notes       []string `json:"notes,omitempty" doc:"What is lost or must be known."`
}

// transferPatience is how long an import may take.
const transferPatience = 15 * time.Minute

// squeezeFrom is the size from which files are sent compressed.
const squeezeFrom = 16 << 10

// Import stores what is in the files, all of it or nothing, or with DryRun says what would become of it.
func (c *Client) Import(ctx context.Context, d ImportDraft) (ImportReport, error) {
	files := make([]ImportFile, len(d.Files))
	for i, f := range d.Files {
		files[i] = f
		if len(f.Content) < squeezeFrom {
			continue
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(f.Content); err != nil {
			return ImportReport{}, err
		}
		if err := z.Close(); err != nil {
			return ImportReport{}, err
		}
		files[i].Content = b.Bytes()
	}
	d.Files = files
	slow, patient := *c, *c.http
	patient.Timeout = transferPatience
	slow.http = &patient
	var out struct {
		Import ImportReport `json:"import"`
	}
	_, err := slow.do(ctx, call{method: http.MethodPost, path: path("import"), body: d}, &out)
	return out.Import, err
}

// ExportDraft says for whom an export is encrypted, by a passphrase or for recipients of age (age1…), and why it is made.
type ExportDraft struct {
	Recipients []string `json:"recipients,omitempty"`
	Passphrase string   `json:"passphrase,omitempty"`
	Reason     string   `json:"reason"`
}

// ExportCredentials copies an archive of everything that the caller may reveal to w, encrypted with age. When it returns an error, what w got is no
// archive.
func (c *Client) ExportCredentials(ctx context.Context, d ExportDraft, w io.Writer) error {
	k := call{method: http.MethodPost, path: path("export"), body: d}
	body, err := c.open(ctx, k, "application/octet-stream")
	if refused := (*Error)(nil); c.prove != nil && errors.As(err, &refused) && refused.Code == "step_up_required" {
		if err := c.prove(ctx); err != nil {
			return err
		}
		body, err = c.open(ctx, k, "application/octet-stream")
	}
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return errIncomplete(err)
	}
	return nil
}
