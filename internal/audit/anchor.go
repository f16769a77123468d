package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// anchorFile is where checkpoints go off the database: each signed note as it is, followed by an empty line. A checkpoint in it that
// reached another disk, machine or printer is anchored. Every instance that has such a file writes all checkpoints to it, its own and
// those of others, in order.
type anchorFile struct {
	path  string
	ready bool
	last  int64 // the size of the newest checkpoint in the file that the database has too
	ahead int64 // the size of the largest checkpoint in the file that the database lacks, 0 for none
}

const (
	// anchorTail is how much of the end of the file is read to find out where to go on.
	anchorTail = 64 << 10
	// anchorPage bounds the checkpoints of one write.
	anchorPage = 500
)

var sigMark = "\u2014 " // begins each signature line of a note

// ParseAnchors takes the notes out of a checkpoint file, a single signed note, or what a sink got and somebody saved or pasted: messages with a note in them,
// such as Slack's, and the JSON of webhooks and syslog servers. A note that a crash tore off is left out; a text without any whole note is an error.
func ParseAnchors(text string) ([]string, error) {
	notes := messageNotes(text)
	if len(notes) > 0 {
		return notes, nil
	}
	text = unfenced(text)
	var cur strings.Builder
	var blank, signed, whole bool
	for line := range strings.Lines(text) {
		bare := strings.TrimSuffix(line, "\n")
		mark := strings.HasPrefix(bare, sigMark)
		if signed && !mark {
			if bare == "" || whole { // otherwise the signature above is the torn one
				notes = append(notes, cur.String())
			}
			cur.Reset()
			blank, signed = false, false
		}
		switch {
		case mark && blank && (line != bare || wholeSignature(bare)):
			signed, whole = true, wholeSignature(bare)
			cur.WriteString(bare + "\n")
		case mark:
			cur.Reset()
			blank, signed = false, false
		case bare == "":
			if blank || cur.Len() == 0 {
				cur.Reset()
				blank = false
				continue
			}
			blank = true
			cur.WriteString(line)
		default:
			if blank || strings.HasPrefix(bare, originPrefix) { // what came before was torn off
				cur.Reset()
				blank = false
			}
			cur.WriteString(line)
		}
	}
	if signed {
		notes = append(notes, cur.String())
	}
	if len(notes) == 0 {
		return nil, fault.New(fault.Unprocessable, "validation_failed", "The file holds no signed checkpoint. Give the file that the server was told to append its checkpoints to, or one saved checkpoint.")
	}
	return notes, nil
}

// unfenced takes away what pasting leaves around and in a note.
func unfenced(text string) string {
	return strings.NewReplacer("```\n", "\n", "```", "\n", "\r\n", "\n").Replace(text)
}

// wholeSignature reports whether a signature line has all of an Ed25519 signature: the hash of the key and 64 bytes.
func wholeSignature(line string) bool {
	b, err := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
	return err == nil && len(b) == 4+64
}

// checkpointMark begins the JSON that webhooks and syslog servers get.
const checkpointMark = `{"type":"audit.checkpoint"`

// messageNotes takes the notes out of such JSON, wherever it stands in a line.
func messageNotes(text string) (notes []string) {
	for {
		_, after, found := strings.Cut(text, checkpointMark)
		if !found {
			return notes
		}
		var m struct {
			Data struct {
				Note string `json:"note"`
			} `json:"data"`
		}
		if err := json.NewDecoder(strings.NewReader(checkpointMark + after)).Decode(&m); err == nil && m.Data.Note != "" {
			notes = append(notes, m.Data.Note)
		}
		text = after
	}
}

// extend appends the checkpoints that the file lacks and makes them durable.
func (a *anchorFile) extend(ctx context.Context, db *store.DB, log *slog.Logger) error {
	if a.path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepDeadline)
	defer cancel()
	if err := a.append(ctx, db, log); err != nil {
		a.ready = false // a write that failed may have left half a note
		if _, ok := fault.As(err); ok {
			return err
		}
		return fmt.Errorf("append checkpoints to %s: %w", a.path, err)
	}
	return nil
}

func (a *anchorFile) append(ctx context.Context, db *store.DB, log *slog.Logger) error {
	if !a.ready {
		if err := a.open(ctx, db, log); err != nil {
			return err
		}
	}
	for {
		var rows []struct {
			Size int64  `db:"size"`
			Note string `db:"note"`
		}
		if err := db.Read(ctx, func(tx *store.Tx) error {
			rows = nil
			return tx.Select(&rows, `SELECT size, note FROM audit_checkpoints WHERE size > $1 ORDER BY size LIMIT $2`, a.last, anchorPage)
		}); err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		var text strings.Builder
		for _, row := range rows {
			text.WriteString(row.Note + "\n")
		}
		if err := appendFile(a.path, text.String()); err != nil {
			return err
		}
		a.last = rows[len(rows)-1].Size
	}
}

// open finds the place to go on: after the newest checkpoint that both the file and the database have.
func (a *anchorFile) open(ctx context.Context, db *store.DB, log *slog.Logger) error {
	tail, err := readTail(a.path)
	if err != nil {
		return err
	}
	notes, err := ParseAnchors(string(tail))
	if err != nil {
		notes = nil // a new file, or nothing whole in it
	}
	known, err := missing(ctx, db, notes)
	if err != nil {
		return err
	}
	a.last, a.ahead = known.last, known.ahead
	if a.ahead > 0 {
		log.Error("the checkpoint file has a checkpoint that this database does not have: the database was rolled back or replaced; run `signalbox audit verify --checkpoint` with that file",
			"file", a.path, "size", a.ahead)
	}
	end := ""
	switch {
	case len(tail) == 0 || bytes.HasSuffix(tail, []byte("\n\n")):
	case bytes.HasSuffix(tail, newline):
		end = "\n"
	default: // a crash tore a line; the parser must not take it for a whole one
		end = "\n(torn)\n\n"
	}
	if end != "" {
		if err := appendFile(a.path, end); err != nil {
			return err
		}
	}
	a.ready = true
	return nil
}

// compared is what a file's checkpoints are to the database.
type compared struct{ last, ahead int64 }

// missing compares all the notes and not only the newest: once this database has added its own, those of the one before it still tell.
func missing(ctx context.Context, db *store.DB, notes []string) (compared, error) {
	var out compared
	err := db.Read(ctx, func(tx *store.Tx) error {
		out = compared{}
		for _, text := range notes {
			c, err := ParseCheckpoint(text)
			if err != nil {
				continue
			}
			var have string
			err = tx.Get(&have, `SELECT note FROM audit_checkpoints WHERE size = $1`, c.Size)
			switch {
			case err != nil && !errors.Is(err, store.ErrNotFound):
				return err
			case err == nil && have == c.Note:
				out.last = c.Size // the newest in the file's order
			default:
				out.ahead = max(out.ahead, c.Size)
			}
		}
		return nil
	})
	return out, err
}

func readTail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(info.Size()-anchorTail, 0), anchorTail))
}

// appendFile appends text and returns when it is on disk, the name of a new file included.
func appendFile(path, text string) error {
	_, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || !fresh {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
