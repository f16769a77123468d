package scrub

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// AcceptEncoding is what to ask an upstream for whose answers are to be looked into.
	AcceptEncoding = "gzip, deflate"

	spared    = 1 << 20 // what a decoded answer may have however small it came
	expansion = 200     // how many bytes may become of each that came; repetitive text reaches some dozens, a bomb a thousand
)

var (
	// ErrCoding says that a body has a content coding, or more of them, that cannot be looked into.
	ErrCoding = errors.New("scrub: the answer's content coding cannot be looked into; ask the upstream for gzip, deflate or none")
	// ErrExpands says that a body grows out of proportion when it is decoded.
	ErrExpands = errors.New("scrub: the answer grows out of proportion when it is decoded; ask the upstream for one without a content coding")
	// ErrDamaged says that a body is not what its content coding says.
	ErrDamaged = errors.New("scrub: the answer is not in the content coding that it claims, or breaks off; ask the upstream for one without a content coding")
)

// coding is what the values of Content-Encoding come to: "" (nothing to decode), gzip or deflate.
func coding(values []string) (string, error) {
	found := ""
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			switch name = strings.ToLower(strings.TrimSpace(name)); {
			case name == "" || name == "identity":
				continue
			case found != "":
				return "", ErrCoding // nobody codes twice but to hide something
			case name == "gzip" || name == "x-gzip":
				found = "gzip"
			case name == "deflate":
				found = name
			default:
				return "", ErrCoding
			}
		}
	}
	return found, nil
}

// CanDecode reports whether a body with these values of Content-Encoding can be looked into. What is unknown cannot.
func CanDecode(values []string) bool {
	_, err := coding(values)
	return err == nil
}

// Decode returns what body holds under these values of Content-Encoding, and whether it had to be decoded: then Content-Encoding,
// Content-Length and what else describes the bytes of the body must be dropped. It fails with [ErrCoding]; what is read fails with
// [ErrExpands] or [ErrDamaged], or as body does. It reads nothing before it is read.
func Decode(body io.Reader, values []string) (decoded io.Reader, changed bool, err error) {
	name, err := coding(values)
	if err != nil || name == "" {
		return body, false, err
	}
	return &decoder{name: name, came: source{from: body}}, true, nil
}

// source counts what came, and keeps why it ended.
type source struct {
	from io.Reader
	n    int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

type decoder struct {
	name string
	came source
	text io.Reader
	n    int64
	err  error
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.text == nil {
		if d.text, d.err = d.open(); d.err != nil {
			d.err = d.why(d.err)
			return 0, d.err
		}
	}
	n, err := d.text.Read(p)
	d.n += int64(n)
	if d.n > spared+expansion*d.came.n {
		d.err = ErrExpands
		return 0, d.err
	}
	if err != nil {
		d.err = d.why(err)
	}
	return n, d.err
}

// why is the error of the body where that failed, and otherwise none that quotes it.
func (d *decoder) why(err error) error {
	switch {
	case d.came.err != nil:
		return fmt.Errorf("read the answer: %w", d.came.err)
	case err == io.EOF:
		return io.EOF
	}
	return ErrDamaged
}

func (d *decoder) open() (io.Reader, error) {
	in := bufio.NewReader(&d.came)
	first, err := in.Peek(2)
	if err != nil && len(first) == 0 {
		return nil, err // an answer without a body has nothing to decode
	}
	if d.name == "gzip" {
		return gzip.NewReader(in)
	}
	// RFC 9110 means zlib by deflate, and some servers send what is inside of that.
	if len(first) == 2 && first[0]&0x0f == 8 && (int(first[0])<<8|int(first[1]))%31 == 0 {
		return zlib.NewReader(in)
	}
	return flate.NewReader(in), nil
}
