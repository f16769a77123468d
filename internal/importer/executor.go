package importer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/secret"
)

// The records of an older keeper of people's credentials for MCP servers: a list of rows, or one row a line, each with whose it is, for which server, and a sealed
// text. The key is HKDF-SHA256 of the program's, with an empty salt; what is sealed is iv (12 bytes), tag (16 bytes) and ciphertext of AES-256-GCM.
const (
	executorInfo = "forest-executor:mcp-oauth-credentials"
	executorIV   = 12
	executorTag  = 16
)

// named is a text or a number.
type named string

// UnmarshalJSON takes either.
func (n *named) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, (*string)(n))
	}
	var number json.Number
	if err := json.Unmarshal(b, &number); err != nil {
		return err
	}
	*n = named(number)
	return nil
}

// executorRow is a row, with the names of columns in either style.
type executorRow struct {
	User    named  `json:"userId"`
	User2   named  `json:"user_id"`
	Server  string `json:"mcpServerId"`
	Server2 string `json:"mcp_server_id"`
	Issuer  string `json:"issuer"`
	Sealed  string `json:"encryptedCredentials"`
	Sealed2 string `json:"encrypted_credentials"`
}

// executorSecret is what is sealed: what a deposit holds.
type executorSecret struct {
	Server        string `json:"mcpServerId"`
	Refresh       string `json:"refreshToken"`
	TokenEndpoint string `json:"tokenEndpoint"`
	ClientID      string `json:"clientId"`
	ClientSecret  string `json:"clientSecret"`
	SecretEnds    ending `json:"clientSecretExpiresAt"`
	AuthMethod    string `json:"tokenEndpointAuthMethod"`
	Scopes        texts  `json:"scopes"`
	Access        is     `json:"accessToken"`
}

// ending is when a client's secret ends: seconds since 1970 as RFC 7591 has it, where 0 says never; milliseconds; or a date.
type ending struct{ at *time.Time }

// UnmarshalJSON takes any of them, and null.
func (e *ending) UnmarshalJSON(b []byte) error {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		switch {
		case n < 0 || n > 1e15:
			return strconv.ErrRange
		case n == 0:
			return nil
		case n > 1e11:
			n /= 1000
		}
		at := time.Unix(n, 0).UTC()
		e.at = &at
		return nil
	}
	var day string
	if json.Unmarshal(b, &day) == nil && len(day) == len(time.DateOnly) {
		at, err := time.Parse(time.DateOnly, day)
		e.at = &at
		return err
	}
	var i instant
	err := i.UnmarshalJSON(b)
	e.at = i.at
	return err
}

// LooksExecutor reports whether a file looks like such records, by its beginning.
func LooksExecutor(data []byte) bool {
	head := bytes.TrimLeft(data[:min(len(data), 4096)], "\ufeff \t\r\n")
	return (bytes.HasPrefix(head, []byte("[")) || bytes.HasPrefix(head, []byte("{"))) && (bytes.Contains(head, []byte(`"encryptedCredentials"`)) || bytes.Contains(head, []byte(`"encrypted_credentials"`)))
}

func looksExecutor(f *file) bool {
	text, err := f.text()
	return err == nil && LooksExecutor([]byte(text))
}

func parseExecutor(f *file, out *items) error {
	rows, err := f.executorRows()
	if err != nil || len(rows) == 0 {
		return err
	}
	if f.passphrase.IsZero() {
		return bad("is sealed; give its key (FOREST_EXECUTOR_ENCRYPTION_KEY) as the passphrase")
	}
	opener, err := openerFor(f.passphrase, rows)
	if err != nil {
		return err
	}
	for n, w := range rows {
		i := w.item(opener)
		i.place = "record " + strconv.Itoa(n+1)
		if err := out.add(i); err != nil {
			return err
		}
	}
	return nil
}

// executorRows reads a list, or one row a line.
func (f *file) executorRows() ([]executorRow, error) {
	text, err := f.text()
	if err != nil {
		return nil, err
	}
	var rows []executorRow
	if text = strings.TrimLeft(text, " \t\r\n"); strings.HasPrefix(text, "[") {
		err := f.decodeJSON(&rows)
		return rows, err
	}
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		if len(rows) > maxItems {
			return nil, bad("holds more than " + strconv.Itoa(maxItems) + " entries; split it")
		}
		var w executorRow
		if err := dec.Decode(&w); err != nil {
			return nil, notJSON(err)
		}
		rows = append(rows, w)
	}
	return rows, nil
}

// openerFor makes what opens the records. How the program wrote its key down is not said anywhere: as it stands, in hexadecimal or in base64. The one that opens a record is it.
func openerFor(key secret.Value, rows []executorRow) (cipher.AEAD, error) {
	text := strings.TrimSpace(key.Reveal())
	keys := [][]byte{[]byte(text)}
	if b, err := hex.DecodeString(text); err == nil && len(b) >= 16 {
		keys = append(keys, b)
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) >= 16 {
		keys = append(keys, b)
	}
	for _, k := range keys {
		derived, err := hkdf.Key(sha256.New, k, nil, executorInfo, 32)
		if err != nil {
			return nil, wrongPassphrase()
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return nil, wrongPassphrase()
		}
		opener, err := cipher.NewGCM(block)
		if err != nil {
			return nil, wrongPassphrase()
		}
		for _, w := range rows {
			if _, ok := w.open(opener); ok {
				return opener, nil
			}
		}
	}
	return nil, wrongPassphrase()
}

// open opens what is sealed, however its bytes are written: base64, hexadecimal, or hexadecimal as PostgreSQL writes it.
func (w executorRow) open(opener cipher.AEAD) ([]byte, bool) {
	text := w.Sealed + w.Sealed2
	var forms [][]byte
	if b, err := hex.DecodeString(strings.TrimPrefix(text, `\x`)); err == nil {
		forms = append(forms, b)
	}
	for _, in := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := in.DecodeString(text); err == nil {
			forms = append(forms, b)
		}
	}
	for _, b := range forms {
		if len(b) < executorIV+executorTag {
			continue
		}
		iv, tag, sealed := b[:executorIV], b[executorIV:executorIV+executorTag], b[executorIV+executorTag:]
		if plain, err := opener.Open(nil, iv, append(append([]byte{}, sealed...), tag...), nil); err == nil {
			return plain, true
		}
	}
	return nil, false
}

// item is the row as a connection, or why it stands in the way.
func (w executorRow) item(opener cipher.AEAD) item {
	wrong := func(why string) item { return item{connection: &mcp.Foreign{}, invalid: why} }
	user, server := string(w.User), w.Server
	if w.User2 != "" {
		user = string(w.User2)
	}
	if w.Server2 != "" {
		server = w.Server2
	}
	switch {
	case user == "" || w.User != "" && w.User2 != "" && w.User != w.User2:
		return wrong("does not say whose it is (userId)")
	case w.Server != "" && w.Server2 != "" && w.Server != w.Server2:
		return wrong("names two servers")
	}
	plain, ok := w.open(opener)
	if !ok {
		return wrong("does not open with the key that opens others, or was changed")
	}
	var in executorSecret
	if json.Unmarshal(plain, &in) != nil {
		return wrong("holds something else than the credentials of a connection")
	}
	if server == "" {
		server = in.Server
	}
	switch {
	case server == "":
		return wrong("does not say for which server it is (mcpServerId)")
	case in.Server != "" && in.Server != server:
		return wrong("names one server, and what is sealed in it another")
	}
	i := item{connection: &mcp.Foreign{User: user, Issuer: w.Issuer, Deposit: mcp.Deposit{
		Server: server, Refresh: secret.FromString(in.Refresh), TokenEndpoint: in.TokenEndpoint, ClientID: in.ClientID, ClientSecret: secret.FromString(in.ClientSecret), SecretEnds: in.SecretEnds.at,
		AuthMethod: in.AuthMethod, Scopes: strings.Join(in.Scopes, " "),
	}}}
	if in.Access {
		i.notes = append(i.notes, "its access token is not taken over; a fresh one is fetched when it is first needed")
	}
	return i
}
