package identity

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the form of the published list; it protects nothing here
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	sha1Text = 2 * sha1.Size
	// breachedLine is more than the longest line of the list: a hash, a colon, a count.
	breachedLine = 128
)

// Breached is a list of passwords that are known from breaches, on disk: the SHA-1 of each in hexadecimal, one a line, sorted, with or without
// ":" and a count behind it, as Have I Been Pwned publishes them "ordered by hash". Nothing is asked over the network. Make it with
// [OpenBreached], end it with [Breached.Close].
type Breached struct {
	file *os.File
	size int64
}

// OpenBreached opens a list and looks at its first lines.
func OpenBreached(path string) (*Breached, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.New("the list of breached passwords cannot be opened; check the path and who may read it")
	}
	info, err := f.Stat()
	b := &Breached{file: f}
	if err == nil {
		b.size = info.Size()
		var first, second []byte
		if first, _, err = b.line(0); err == nil {
			if second, _, err = b.line(1); err == nil && second != nil && bytes.Compare(first, second) >= 0 {
				err = errors.New("it is not sorted by hash")
			}
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the list of breached passwords is not usable: %w", err), f.Close())
	}
	return b, nil
}

// Close closes the file.
func (b *Breached) Close() error { return b.file.Close() }

// has reports whether the password is in the list.
func (b *Breached) has(password secret.Value) (bool, error) {
	sum := sha1.Sum([]byte(password.Reveal())) //nolint:gosec // see the import
	want := bytes.ToUpper([]byte(hex.EncodeToString(sum[:])))
	low, high := int64(0), b.size // the line that is looked for begins in [low, high)
	for low < high {
		mid := low + (high-low)/2
		hash, next, err := b.line(mid)
		if err != nil {
			return false, err
		}
		if hash == nil {
			high = mid
			continue
		}
		switch c := bytes.Compare(hash, want); {
		case c == 0:
			return true, nil
		case c < 0:
			low = next
		default:
			high = mid
		}
	}
	return false, nil
}

// line returns the hash of the first line that begins at or after an offset, and where the next one begins; nil at the end.
func (b *Breached) line(at int64) (hash []byte, next int64, err error) {
	var buf [2 * breachedLine]byte
	from := max(at-1, 0) // one earlier, to see whether a line begins just there
	n, err := b.file.ReadAt(buf[:], from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, errors.New("it cannot be read")
	}
	text, start := buf[:n], 0
	if at > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 && n == len(buf) {
			return nil, 0, errors.New("it has a line that is too long")
		}
		if end < 0 || end+1 == n {
			return nil, b.size, nil
		}
		start = end + 1
	}
	text = text[start:]
	if len(text) == 0 {
		return nil, b.size, nil
	}
	next = b.size
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		next = from + int64(start+end) + 1
		text = text[:end]
	}
	text = bytes.TrimRight(text, "\r")
	if len(text) < sha1Text || len(text) > sha1Text && text[sha1Text] != ':' {
		return nil, 0, errors.New("it has a line that does not begin with 40 hexadecimal digits")
	}
	hash = bytes.ToUpper(text[:sha1Text])
	if _, err := hex.DecodeString(string(hash)); err != nil {
		return nil, 0, errors.New("it has a line that does not begin with 40 hexadecimal digits")
	}
	return hash, next, nil
}

// password checks a new password. Only that the list cannot be read is an error.
func (r *Room) password(p *problems, pointer string, v secret.Value) error {
	p.password(pointer, v)
	if r.cfg.Breached == nil || p.err != nil {
		return nil
	}
	known, err := r.cfg.Breached.has(v)
	if err != nil {
		return fmt.Errorf("look into the list of breached passwords: %w", err)
	}
	if known {
		p.add(pointer, "is known from a breach of another service, so whoever guesses tries it early; choose another one")
	}
	return nil
}
