package backup

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"

	"signalbox.dev/signalbox/internal/secret"
)

// Behind the head the file is a row of sealed pieces, as in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online
// Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015) and in age: each of pieceSize but the last, under AES-256-GCM with a
// number for a nonce, in which the last byte says whether this is the last piece. A piece that is missing, moved, taken from another file or put behind the
// last one does not open. The key is the file's own, derived for this very head, and no number comes twice under it.
const (
	pieceSize = 64 << 10
	tagSize   = 16
)

// pieces returns the cipher of a file.
func pieces(key secret.Key, head []byte) (cipher.AEAD, error) {
	sum := sha256.Sum256(head)
	sub, err := key.Subkey("backup-stream/"+hex.EncodeToString(sum[:]), secret.KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce is the number of a piece in eleven bytes, and whether it is the last.
func nonce(number uint64, last bool) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:11], number)
	if last {
		n[11] = 1
	}
	return n
}

// sealing writes pieces. Close ends the file; without it, what was written is no backup.
type sealing struct {
	to     io.Writer
	aead   cipher.AEAD
	number uint64
	plain  []byte
	box    []byte
}

func newSealing(to io.Writer, aead cipher.AEAD) *sealing {
	return &sealing{to: to, aead: aead, plain: make([]byte, 0, pieceSize), box: make([]byte, 0, pieceSize+tagSize)}
}

// Write takes what is to be sealed. A full piece waits for what comes, because the last one is sealed as the last.
func (s *sealing) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if len(s.plain) == pieceSize {
			if err := s.flush(false); err != nil {
				return total - len(p), err
			}
		}
		n := min(pieceSize-len(s.plain), len(p))
		s.plain, p = append(s.plain, p[:n]...), p[n:]
	}
	return total, nil
}

func (s *sealing) flush(last bool) error {
	s.box = s.aead.Seal(s.box[:0], nonce(s.number, last), s.plain, nil)
	s.number++
	s.plain = s.plain[:0]
	_, err := s.to.Write(s.box)
	return err
}

// Close writes the last piece.
func (s *sealing) Close() error { return s.flush(true) }

// opening reads pieces. It says io.EOF only behind the last one, and only when nothing follows.
type opening struct {
	from   *bufio.Reader
	aead   cipher.AEAD
	number uint64
	box    []byte
	plain  []byte
	last   bool
}

func newOpening(from io.Reader, aead cipher.AEAD) *opening {
	return &opening{from: bufio.NewReaderSize(from, pieceSize+tagSize+1), aead: aead, box: make([]byte, pieceSize+tagSize)}
}

// Read hands out what was opened, never anything else.
func (o *opening) Read(p []byte) (int, error) {
	for len(o.plain) == 0 {
		if o.last {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

func (o *opening) next() error {
	n, err := io.ReadFull(o.from, o.box)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		if errors.Is(err, io.EOF) {
			return ErrDamaged
		}
		return err
	}
	o.last = n < len(o.box)
	if !o.last {
		_, err := o.from.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		o.last = err != nil
	}
	// What is opened takes the place of what was read.
	if o.plain, err = o.aead.Open(o.box[:0], nonce(o.number, o.last), o.box[:n], nil); err != nil {
		return ErrDamaged
	}
	if o.last && len(o.plain) == 0 && o.number > 0 {
		return ErrDamaged // a writer makes no empty piece
	}
	o.number++
	return nil
}
