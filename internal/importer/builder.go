package importer

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// builder makes credentials of an entry of a password manager. An entry may hold more than one credential does: what one cannot keep becomes a
// second one beside it, so that nothing is lost in silence.
type builder struct {
	place, name, notes       string
	username, password, totp string
	apiKey                   string
	privateKey, fingerprint  string
	external                 string
	others                   []string // further addresses
	tags                     []string
	fields                   map[string]secret.Value
	lost                     []string
	secure                   bool // the notes are the secret
}

func (b *builder) lose(what string) { b.lost = append(b.lost, what) }

func (b *builder) skip(out *items, why string) error {
	return out.add(item{place: b.place, skip: why})
}

func (b *builder) note() { b.secure = true }

// address takes the first address that is one; the others go into the notes.
func (b *builder) address(s string) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
	case b.external == "" && linkable(s):
		b.external = s
	case b.external == "" && linkable("https://"+s) && strings.Contains(s, "."):
		b.external = "https://" + s
	default:
		b.others = append(b.others, s)
	}
}

// object adds the texts of an object as fields.
func (b *builder) object(prefix string, o map[string]any) {
	for _, name := range sortedKeys(o) {
		b.field(prefix+"_"+name, o[name])
	}
}

// field adds a field of somebody's own. Its value is kept as a secret, whatever it is: nobody says which are.
func (b *builder) field(name string, value any) {
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	case nil:
	default:
		if raw, err := json.Marshal(v); err == nil {
			text = string(raw)
		}
	}
	if text == "" {
		return
	}
	if b.fields == nil {
		b.fields = map[string]secret.Value{}
	}
	name = fieldName(name)
	for n, plainName := 2, name; ; n++ {
		if _, taken := b.fields[name]; !taken {
			break
		}
		suffix := "_" + strconv.Itoa(n)
		name = plainName[:min(len(plainName), maxField-len(suffix))] + suffix
	}
	b.fields[name] = secret.FromString(text)
}

const maxField = 64

// fieldName brings a name into the form of names of secret fields.
func fieldName(s string) string {
	var b strings.Builder
	last := byte('_')
	for i, c := range s {
		switch {
		case c >= 'A' && c <= 'Z':
			if i > 0 && last != '_' && (last < 'A' || last > 'Z') {
				b.WriteByte('_')
			}
			b.WriteByte(byte(c) + 'a' - 'A')
			last = byte(c)
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteByte(byte(c))
			last = byte(c)
			continue
		case last != '_':
			b.WriteByte('_')
		}
		last = '_'
	}
	name := strings.Trim(b.String(), "_")
	if name = name[:min(len(name), maxField)]; name == "" {
		return "field"
	}
	return name
}

// fieldsMost is how many secret fields a credential may have.
const fieldsMost = 32

// tidy brings what a person wrote elsewhere into the form that it has here, as far as that loses nothing that tells entries apart.
func (b *builder) tidy() {
	b.name = oneLine(b.name)
	if cut := head(b.name, maxTitle); cut != b.name {
		b.name = cut
		b.lose("its name was longer and is cut")
	}
	if b.name == "" {
		if u, err := url.Parse(b.external); err == nil && u.Host != "" {
			b.name = u.Host
		} else {
			b.name = "untitled, " + b.place
		}
	}
	if line := oneLine(b.username); line != b.username || utf8.RuneCountInString(line) > maxUser {
		if strings.TrimSpace(b.username) != line || line != head(line, maxUser) {
			b.field("username", b.username)
			b.lose("its user name is kept among its fields, since it is longer than a line")
		}
		b.username = head(line, maxUser)
	}
	if utf8.RuneCountInString(b.notes) > maxNotes || strings.ContainsFunc(b.notes, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\r' && c != '\t' }) {
		b.field("notes", b.notes)
		b.notes = ""
		b.lose("its notes are kept among its fields, since they are longer than notes may be, or no plain text")
	}
	if strings.ContainsFunc(b.apiKey, func(c rune) bool { return c <= ' ' || c > '~' }) && b.password == "" {
		b.password, b.apiKey = b.apiKey, "" // what cannot stand in a header is no API key
	}
}

// What names, user names and notes may be, in characters.
const (
	maxTitle = 180
	maxUser  = 320
	maxNotes = 9_000 // further addresses come to them
)

func (b *builder) build(out *items) error {
	b.tidy()
	meta := vault.Meta{Name: b.name, Username: b.username, ExternalURL: b.external, Tags: b.tags}
	main := &vault.Draft{Meta: meta, Secrets: map[string]secret.Value{}}
	put := func(t vault.Type, field, value string) {
		main.Type, main.Secrets[field] = t, secret.FromString(value)
	}
	switch {
	case b.privateKey != "":
		put(vault.SSHKey, "private_key", b.privateKey)
		if plainFingerprint(b.fingerprint) {
			main.Description = b.fingerprint
		}
		if b.password != "" {
			b.field("password", b.password)
		}
	case b.apiKey != "":
		put(vault.APIKey, "api_key", b.apiKey)
		if b.password != "" {
			b.field("password", b.password)
		}
	case b.password != "":
		put(vault.Password, "password", b.password)
		main.Requires2FA = b.totp != ""
	}
	notes := b.notes
	if len(b.others) > 0 {
		list := strings.Join(b.others, "\n")
		if utf8.RuneCountInString(list) > 900 || strings.ContainsFunc(list, func(c rune) bool { return unicode.IsControl(c) && c != '\n' }) {
			b.field("further addresses", list)
		} else {
			notes = strings.TrimSpace(notes + "\n\nFurther addresses:\n" + list)
		}
	}
	extra := main
	if main.Type == "" { // all that it holds are fields, or a note
		main.Type = vault.Custom
		if b.secure && b.notes != "" {
			b.field("note", b.notes)
			notes = ""
		}
	} else {
		extra = &vault.Draft{Type: vault.Custom, Meta: meta, Secrets: map[string]secret.Value{}}
		extra.Name += " fields"
	}
	names := sortedKeys(b.fields)
	if len(names) > fieldsMost {
		b.lose(strconv.Itoa(len(names)-fieldsMost) + " fields beyond the " + strconv.Itoa(fieldsMost) + " that a credential may have are not taken over")
		names = names[:fieldsMost]
	}
	for _, name := range names {
		extra.Secrets[name] = b.fields[name]
	}
	if extra == main && len(main.Secrets) == 0 && b.totp == "" {
		why := "it holds no secret"
		if len(b.lost) > 0 {
			why += "; " + strings.Join(b.lost, "; ")
		}
		return b.skip(out, why)
	}
	if len(main.Secrets) > 0 {
		main.Notes = secret.FromString(notes)
		if err := out.add(item{place: b.place, credential: main, notes: b.lost}); err != nil {
			return err
		}
	}
	if extra != main && len(extra.Secrets) > 0 {
		if err := out.add(item{place: b.place + ", its fields", credential: extra}); err != nil {
			return err
		}
	}
	if b.totp == "" {
		return nil
	}
	code := &vault.Draft{Type: vault.SharedSecret, Meta: meta, Secrets: map[string]secret.Value{"secret": secret.FromString(b.totp)}}
	code.Name += " one-time password"
	return out.add(item{place: b.place + ", its one-time password", credential: code})
}

func plainFingerprint(s string) bool {
	return len(s) > 0 && len(s) <= 200 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}
