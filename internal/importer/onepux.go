package importer

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// The 1PUX format is described at https://support.1password.com/1pux-format/: a zip archive with export.attributes and export.data, JSON both,
// and the documents in files/.

const (
	puxData  = "export.data"
	puxFiles = 100_000 // entries of the archive
)

// The categories that are told apart (https://support.1password.com/1pux-format/, categoryUuid).
const (
	puxNote       = "003"
	puxDocument   = "006"
	puxCredential = "112"
)

type puxExport struct {
	Accounts []struct {
		Vaults []struct {
			Attrs struct {
				Name string `json:"name"`
			} `json:"attrs"`
			Items []puxItem `json:"items"`
		} `json:"vaults"`
	} `json:"accounts"`
}

type puxItem struct {
	State    string `json:"state"`
	Trashed  bool   `json:"trashed"`
	Category string `json:"categoryUuid"`
	Overview struct {
		Title string   `json:"title"`
		URL   string   `json:"url"`
		Tags  []string `json:"tags"`
		URLs  []struct {
			URL string `json:"url"`
		} `json:"urls"`
	} `json:"overview"`
	Details struct {
		Login []struct {
			Value       any    `json:"value"`
			Name        string `json:"name"`
			Type        string `json:"fieldType"`
			Designation string `json:"designation"`
		} `json:"loginFields"`
		Notes    string `json:"notesPlain"`
		Password string `json:"password"`
		Sections []struct {
			Title  string     `json:"title"`
			Fields []puxField `json:"fields"`
		} `json:"sections"`
		History  []is `json:"passwordHistory"`
		Document is   `json:"documentAttributes"`
	} `json:"details"`
}

type puxField struct {
	Title string                     `json:"title"`
	ID    string                     `json:"id"`
	Value map[string]json.RawMessage `json:"value"`
}

func looks1PUX(f *file) bool { return bytes.HasPrefix(f.data, []byte("PK\x03\x04")) }

func parse1PUX(f *file, out *items) error {
	z, err := zip.NewReader(bytes.NewReader(f.data), int64(len(f.data)))
	if err != nil {
		return bad("is no zip archive that can be read")
	}
	if len(z.File) > puxFiles {
		return bad("has too many files in it")
	}
	var data *zip.File
	for _, entry := range z.File {
		// Only this name is read; whatever else is in there, and wherever it would want to lie, is not unpacked.
		if entry.Name != puxData {
			continue
		}
		if data != nil {
			return bad("has " + puxData + " in it twice")
		}
		data = entry
	}
	if data == nil {
		return bad("is a zip archive without " + puxData + ", so it is no 1PUX file of 1Password")
	}
	r, err := data.Open()
	if err != nil {
		return bad("is a zip archive that is packed in a way that is not read here")
	}
	defer func() { _ = r.Close() }()
	inner := *f
	if inner.data, err = f.readAll(r); err != nil {
		return err
	}
	var in puxExport
	if err := inner.decodeJSON(&in); err != nil {
		return err
	}
	n := 0
	for _, account := range in.Accounts {
		for _, v := range account.Vaults {
			for _, i := range v.Items {
				n++
				if err := i.add("item "+strconv.Itoa(n), v.Attrs.Name, out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// puxNested are the values that are objects with a text worth keeping by itself.
func puxNested() map[string]string {
	return map[string]string{"email": "email_address"}
}

// text returns what a field holds: its value, and of what kind it is.
func (v puxField) text() (kind string, value any) {
	for _, kind := range sortedKeys(v.Value) {
		var x any
		if json.Unmarshal(v.Value[kind], &x) != nil {
			continue
		}
		if o, ok := x.(map[string]any); ok {
			if inner, known := puxNested()[kind]; known {
				return kind, o[inner]
			}
		}
		return kind, x
	}
	return "", nil
}

func (i puxItem) add(place, vaultName string, out *items) error {
	b := builder{place: place, name: i.Overview.Title, notes: i.Details.Notes, tags: appendTag(nil, vaultName)}
	if i.Trashed {
		return b.skip(out, "it was in the trash")
	}
	for _, t := range i.Overview.Tags {
		b.tags = appendTag(b.tags, t)
	}
	if i.State == "archived" {
		b.tags = appendTag(b.tags, "archived")
	}
	b.address(i.Overview.URL)
	for _, u := range i.Overview.URLs {
		if u.URL != i.Overview.URL {
			b.address(u.URL)
		}
	}
	if len(i.Details.History) > 0 {
		b.lose("older passwords are not taken over")
	}
	if i.Details.Document || i.Category == puxDocument {
		b.lose("its document is not taken over")
	}
	b.password = i.Details.Password
	for _, l := range i.Details.Login {
		text, isText := l.Value.(string)
		switch {
		case isText && l.Designation == "username" && b.username == "":
			b.username = text
		case isText && l.Designation == "password" && b.password == "":
			b.password = text
		case l.Type == "C" || l.Type == "I" || l.Type == "B": // boxes and buttons of the page
		default:
			b.field(l.Name, l.Value)
		}
	}
	for _, section := range i.Details.Sections {
		for _, field := range section.Fields {
			i.section(&b, field)
		}
	}
	if i.Category == puxNote {
		b.note()
	}
	return b.build(out)
}

// section puts one field of a section where it belongs.
func (i puxItem) section(b *builder, field puxField) {
	kind, value := field.text()
	text, isText := value.(string)
	name := field.Title
	if name == "" {
		name = field.ID
	}
	switch {
	case kind == "file":
		b.lose("a file in it is not taken over")
	case kind == "reference":
		b.lose("a reference to another entry is not taken over")
	case kind == "sshKey":
		var key struct {
			Private  string `json:"privateKey"`
			Metadata struct {
				Private     string `json:"privateKey"`
				Fingerprint string `json:"fingerprint"`
			} `json:"metadata"`
		}
		if json.Unmarshal(field.Value[kind], &key) == nil && b.privateKey == "" {
			if b.privateKey, b.fingerprint = key.Private, key.Metadata.Fingerprint; b.privateKey == "" {
				b.privateKey = key.Metadata.Private
			}
		}
	case kind == "totp" && isText && b.totp == "":
		b.totp = text
	case isText && strings.EqualFold(field.ID, "username") && b.username == "":
		b.username = text
	case isText && i.Category == puxCredential && field.ID == "credential" && b.apiKey == "":
		b.apiKey = text
	case isText && kind == "concealed" && field.ID == "password" && b.password == "":
		b.password = text
	case isText && kind == "url":
		b.address(text)
	default:
		b.field(name, value)
	}
}
