// Package backup writes a whole database into one sealed file, and reads it again, into either engine.
//
// Promise: a backup is the database as it was at one moment; nothing in it is readable without the root key but the head, which names no person and
// no thing; a file that was changed, cut, lengthened or put together from others is refused, at the latest before anything that came out of
// it counts.
//
// Limits: the root key is never in a backup, so one is worth nothing without it. Whoever holds both reads everything. The length of a backup tells
// how much there is.
//
// Invariants: each file has a key of its own, random and wrapped by the root key, and with it the whole head is bound; no more than a piece of the file and a
// row of the database are in memory.
package backup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/strict"
)

const (
	// mark is the first line of the file.
	mark = "signalbox backup\n"
	// format is the form that this version writes and the newest that it reads.
	format = 1
	// headLimit bounds the second line.
	headLimit = 256 << 10
	// wrapping is the purpose of the root key's subkey that wraps the keys of files.
	wrapping = "backup-wrap"
)

// Head is the second line of the file: what may be known of a backup without a key.
type Head struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	// At is the moment that the backup shows.
	At time.Time `json:"at"`
	// Version is the Signalbox that wrote it, Schema the database's, Engine the engine that it came from.
	Version string       `json:"version"`
	Schema  int64        `json:"schema"`
	Engine  store.Engine `json:"engine"`
	// RootKey names the root key that opens it.
	RootKey string `json:"root_key"`
	Tables  int    `json:"tables"`
	Rows    int64  `json:"rows"`
	// Key is the file's own key, wrapped.
	Key string `json:"key"`
	// Wrappings are the root key as key management services have wrapped it: what one of them opens without the root key at hand.
	Wrappings []Wrapping `json:"wrappings,omitempty"`
}

// Wrapping is a root key that only the named keeper unwraps.
type Wrapping struct {
	Keeper     string `json:"keeper"`
	KeyVersion string `json:"key_version"`
	Wrapped    []byte `json:"wrapped"`
}

// ErrDamaged is returned for a file that is not what was written.
var ErrDamaged = errors.New("the backup is damaged or was changed; use another copy")

// errNoBackup is returned for a file that is none.
var errNoBackup = errors.New("the file is no backup of Signalbox")

// wrapped makes the key of a file and returns it as it stands in the head.
func wrapped(root secret.RootKey, id string) (secret.Key, string, error) {
	key, err := secret.NewKey()
	if err != nil {
		return key, "", err
	}
	sealer, err := root.Derive(wrapping)
	if err != nil {
		return key, "", err
	}
	box, err := sealer.Seal(key.Value(), place(root, id))
	return key, base64.RawStdEncoding.EncodeToString(box), err
}

func place(root secret.RootKey, id string) secret.AAD {
	return secret.AAD{Table: "backup", ID: id, Field: root.ID()}
}

func (h Head) unwrap(root secret.RootKey) (secret.Key, error) {
	if root.IsZero() {
		return secret.Key{}, fmt.Errorf("no root key is given, and the backup was made with root key %s; give that one in SIGNALBOX_ROOT_KEY_FILE or SIGNALBOX_ROOT_KEY", h.RootKey)
	}
	if root.ID() != h.RootKey {
		return secret.Key{}, fmt.Errorf("the backup was made with root key %s, and the one that is given is %s; give the other in SIGNALBOX_ROOT_KEY_FILE or SIGNALBOX_ROOT_KEY", h.RootKey, root.ID())
	}
	box, err := base64.RawStdEncoding.Strict().DecodeString(h.Key)
	if err != nil {
		return secret.Key{}, ErrDamaged
	}
	sealer, err := root.Derive(wrapping)
	if err != nil {
		return secret.Key{}, err
	}
	raw, err := sealer.Open(box, place(root, h.ID))
	if err != nil {
		return secret.Key{}, ErrDamaged
	}
	return secret.KeyFrom(raw)
}

// line is the head as it stands in the file, the first line included. Every byte of it counts.
func (h Head) line() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) >= headLimit {
		return nil, errors.New("backup: the head is too long")
	}
	return append(append([]byte(mark), text...), '\n'), nil
}

// byteReader is what a head is read from, byte by byte, so that nothing behind it is taken.
type byteReader interface {
	io.Reader
	io.ByteReader
}

// ReadHead reads the head, which is worth nothing until the file was opened: anybody may write one. It returns its bytes too.
func ReadHead(r byteReader) (h Head, line []byte, err error) {
	line = make([]byte, 0, 512)
	for lines := 0; lines < 2; {
		b, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(line) > len(mark):
			return h, nil, ErrDamaged
		case errors.Is(err, io.EOF):
			return h, nil, errNoBackup
		case err != nil:
			return h, nil, err
		}
		line = append(line, b)
		if b == '\n' {
			lines++
		}
		if len(line) <= len(mark) && !strings.HasPrefix(mark, string(line)) {
			return h, nil, errNoBackup
		}
		if len(line) > len(mark)+headLimit {
			return h, nil, ErrDamaged
		}
	}
	text := line[len(mark):]
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return h, nil, ErrDamaged
	}
	if version.Format > format {
		return h, nil, fmt.Errorf("the backup has format %d, and this version of Signalbox reads formats up to %d; restore it with the version that made it, or a newer one", version.Format, format)
	}
	if _, err := strict.Object(text); err != nil {
		return h, nil, ErrDamaged
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil || h.Format < 1 || h.Schema < 1 || h.Rows < 0 || !store.ValidID("bak", h.ID) || !isKeyID(h.RootKey) {
		return h, nil, ErrDamaged
	}
	return h, line, nil
}

// isKeyID keeps what a damaged head says from reaching a terminal.
func isKeyID(s string) bool {
	rest, ok := strings.CutPrefix(s, "rk_")
	return ok && len(rest) == 8 && strings.Trim(rest, "0123456789abcdef") == ""
}
