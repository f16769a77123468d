package importer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// Format is one form of file that can be imported.
type Format struct {
	// Name is what the API and the command line call it.
	Name string
	// Title is what people call it.
	Title string
	// looks reports whether a file is of this format, by its name and its beginning; whether it really is, parsing shows.
	looks func(f *file) bool
	// parse adds what the file holds. Its error is a *problem, and quotes nothing of the file.
	parse func(f *file, out *items) error
}

// Formats returns the table of formats. A file is taken for the first that it looks like.
func Formats() []Format {
	return []Format{
		{"signalbox", "an encrypted archive of signalbox export", looksArchive, parseArchive},
		{"1password-1pux", "1Password (1PUX)", looks1PUX, parse1PUX},
		{"claude", "Claude Code (.credentials.json)", looksClaude, parseClaude},
		{"proxy-accounts", "the older proxy (accounts/NAME.credentials.json)", looksProxyAccount, parseProxyAccount},
		{"proxy-keys", "the older proxy (train-client-keys/TRAIN.client-keys.json)", looksProxyKeys, parseProxyKeys},
		{"bitwarden", "Bitwarden (JSON, also protected by a password)", looksBitwarden, parseBitwarden},
		{"mcp-executor", "an older keeper of MCP credentials (records of FOREST_EXECUTOR_ENCRYPTION_KEY)", looksExecutor, parseExecutor},
		{"1password-csv", "1Password (CSV)", looks1PasswordCSV, parse1PasswordCSV},
		{"env", ".env", looksEnv, parseEnv},
	}
}

// Names returns the names of the formats.
func Names() []string {
	var out []string
	for _, f := range Formats() {
		out = append(out, f.Name)
	}
	return out
}

func lookup(name string) (Format, bool) {
	all := Formats()
	i := slices.IndexFunc(all, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return all[i], true
}

// The bounds of what is read. They hold for what a file unpacks to as well.
const (
	MaxFiles   = 1000
	maxUnpack  = 192 << 20
	maxItems   = 100_000
	narrowMost = 5_000 // items of somebody who reaches only what is their own
	maxName    = 255
)

// file is one file of an import.
type file struct {
	name string // without its directories
	data []byte
	// passphrase opens an encrypted file.
	passphrase secret.Value
	// label names what the file itself gives no name.
	label string
	// room is how many bytes the files of this import may still unpack to.
	room *int64
	// sealed counts the encrypted files that were tried: each costs a second of work.
	sealed *int
	// read is the file as text, once it was asked for; whatever changes data forgets it.
	read *reading
}

type reading struct {
	text string
	err  error
}

// sealedMost is how many encrypted files an import may have.
const sealedMost = 4

// unseal counts an attempt to open the file.
func (f *file) unseal() error {
	if f.sealed == nil {
		return nil
	}
	if *f.sealed++; *f.sealed > sealedMost {
		return bad("is one encrypted file too many; import " + strconv.Itoa(sealedMost) + " at a time")
	}
	return nil
}

// item is one thing in a file: a credential, a client key, a connection to an MCP server, or what is made nothing of.
type item struct {
	place      string // where in the file; never a piece of what stands there
	credential *vault.Draft
	key        *train.ForeignKey
	slack      *train.ForeignSlack // what the credential is to trains
	connection *mcp.Foreign
	skip       string
	invalid    string // why it stands in the way
	notes      []string
}

// items is what was found, in the order of the file.
type items struct {
	list []item
	most int
}

func (s *items) add(i item) error {
	if len(s.list) >= s.most {
		return bad("holds more than " + strconv.Itoa(s.most) + " entries; split it")
	}
	s.list = append(s.list, i)
	return nil
}

// problem is why a file cannot be read. It quotes nothing of the file.
type problem struct{ text string }

func (p *problem) Error() string { return p.text }

func bad(text string) error { return &problem{text} }

// sealed is a problem that another passphrase mends.
func wrongPassphrase() error {
	return bad("does not open: the passphrase, or the identity, is not the one that it was encrypted for, or the file was changed")
}

// refused turns why a file cannot be read into what the caller is told.
func refused(index int, why error) error {
	text := "cannot be read"
	if p, ok := why.(*problem); ok { //nolint:errorlint // they are not wrapped
		text = p.text
	}
	return fault.New(fault.Unprocessable, "validation_failed", "A file cannot be imported; see errors. Nothing was stored.").With("/files/"+strconv.Itoa(index), text)
}

// unpack returns the file as it is, or what it was compressed to.
func (f *file) unpack() error {
	if !bytes.HasPrefix(f.data, []byte{0x1f, 0x8b}) {
		return f.take(int64(len(f.data)))
	}
	r, err := gzip.NewReader(bytes.NewReader(f.data))
	if err != nil {
		return bad("begins like a gzip file and is none")
	}
	f.data, err = f.readAll(r)
	return err
}

// take counts bytes against what the import may unpack to.
func (f *file) take(n int64) error {
	if *f.room -= n; *f.room < 0 {
		return bad("unpacks to more than an import may hold (" + strconv.Itoa(maxUnpack>>20) + " MiB in all); split it")
	}
	return nil
}

// readAll reads what something unpacks to, as far as the import may hold it.
func (f *file) readAll(r io.Reader) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, *f.room+1))
	if over := f.take(n); over != nil {
		return nil, over
	}
	if err != nil {
		return nil, bad("is damaged: it does not unpack to its end")
	}
	return out.Bytes(), nil
}

// text returns the file as UTF-8 without a byte order mark. UTF-16 is taken when its mark says so.
func (f *file) text() (string, error) {
	if f.read == nil {
		text, err := plainText(f.data)
		f.read = &reading{text, err}
	}
	return f.read.text, f.read.err
}

func plainText(b []byte) (string, error) {
	switch {
	case bytes.HasPrefix(b, []byte{0xef, 0xbb, 0xbf}):
		b = b[3:]
	case bytes.HasPrefix(b, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(b, []byte{0, 0, 0xfe, 0xff}):
		return "", bad("is UTF-32; save it as UTF-8")
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		return wide(b[2:], binary.LittleEndian)
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return wide(b[2:], binary.BigEndian)
	}
	if !utf8.Valid(b) {
		return "", bad("is not UTF-8 text; save it as UTF-8")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return "", bad("holds the character NUL, so it is no text file")
	}
	return string(b), nil
}

func wide(b []byte, order binary.ByteOrder) (string, error) {
	if len(b)%2 != 0 {
		return "", bad("is UTF-16 that ends in the middle of a character")
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		if units[i] = order.Uint16(b[2*i:]); units[i] == 0 {
			return "", bad("holds the character NUL, so it is no text file")
		}
	}
	text := string(utf16.Decode(units))
	if strings.ContainsRune(text, utf8.RuneError) {
		return "", bad("is UTF-16 with half characters; save it as UTF-8")
	}
	return text, nil
}

// base is the last part of a path of any system, cut to what a name may have.
func base(path string) string {
	if i := strings.LastIndexAny(path, `/\`); i >= 0 {
		path = path[i+1:]
	}
	path = strings.ToValidUTF8(path, "")
	for len(path) > maxName {
		_, n := utf8.DecodeLastRuneInString(path)
		path = path[:len(path)-n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, path)
}
