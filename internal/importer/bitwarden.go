package importer

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// The JSON export of Bitwarden is described at https://bitwarden.com/help/condition-bitwarden-import/ (items, folders, collections and their
// types), the one that is protected by a password at https://bitwarden.com/help/encrypted-export/.

// The kinds of items.
const (
	bitLogin = iota + 1
	bitNote
	bitCard
	bitIdentity
	bitSSHKey
)

type bitItem struct {
	Type        int            `json:"type"`
	Name        string         `json:"name"`
	Notes       string         `json:"notes"`
	FolderID    string         `json:"folderId"`
	Collections []string       `json:"collectionIds"`
	Deleted     is             `json:"deletedDate"`
	Fields      []bitField     `json:"fields"`
	History     []is           `json:"passwordHistory"`
	Attachments []is           `json:"attachments"`
	Login       *bitLoginPart  `json:"login"`
	Card        map[string]any `json:"card"`
	Identity    map[string]any `json:"identity"`
	SSH         *struct {
		Private     string `json:"privateKey"`
		Public      string `json:"publicKey"`
		Fingerprint string `json:"keyFingerprint"`
	} `json:"sshKey"`
}

type bitLoginPart struct {
	URIs []struct {
		URI string `json:"uri"`
	} `json:"uris"`
	Username string `json:"username"`
	Password string `json:"password"`
	TOTP     string `json:"totp"`
	Passkeys []is   `json:"fido2Credentials"`
}

// bitField is a field of somebody's own; type 3 is linked to another and has no value of its own.
type bitField struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
	Type  int    `json:"type"`
}

type bitFolder struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func looksBitwarden(f *file) bool {
	m, ok := f.peek()
	return ok && (bool(m.Items) || bool(m.Encrypted) && bool(m.EncKey))
}

func parseBitwarden(f *file, out *items) error {
	var head sealedBitwarden
	if err := f.decodeJSON(&head); err != nil {
		return err
	}
	if head.Encrypted {
		plain, err := head.open(f.passphrase)
		if err != nil {
			return err
		}
		f.data = plain
		if err := f.take(int64(len(plain))); err != nil {
			return err
		}
		var inner sealedBitwarden
		if err := f.decodeJSON(&inner); err != nil {
			return err
		}
		if inner.Encrypted {
			return bad("is encrypted twice")
		}
	}
	text, err := f.text()
	if err != nil {
		return err
	}
	return readBitwarden(text, out)
}

// readBitwarden reads the items one by one, since there may be very many.
func readBitwarden(text string, out *items) error {
	dec := json.NewDecoder(strings.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return bad("is no JSON object")
	}
	names, begin := map[string]string{}, len(out.list)
	of := map[int][]string{} // by place in out: the ids of folders and collections, which may be named behind the items
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		switch key {
		case "folders", "collections":
			var list []bitFolder
			if err := dec.Decode(&list); err != nil {
				return notJSON(err)
			}
			for _, folder := range list {
				names[folder.ID] = folder.Name
			}
		case "items":
			found = true
			t, err := dec.Token()
			if err != nil {
				return notJSON(err)
			}
			if t != json.Delim('[') {
				return bad("is no export of Bitwarden: its items are no list")
			}
			for n := 1; dec.More(); n++ {
				var i bitItem
				if err := dec.Decode(&i); err != nil {
					return notJSON(err)
				}
				at := len(out.list)
				if err := i.add("item "+strconv.Itoa(n), out); err != nil {
					return err
				}
				for ; at < len(out.list); at++ {
					of[at] = append([]string{i.FolderID}, i.Collections...)
				}
			}
			if _, err := dec.Token(); err != nil {
				return notJSON(err)
			}
		default:
			var ignored is
			if err := dec.Decode(&ignored); err != nil {
				return notJSON(err)
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("goes on after its JSON text")
	}
	if !found {
		return bad("is no export of Bitwarden: it has no items")
	}
	for at := begin; at < len(out.list); at++ {
		if d := out.list[at].credential; d != nil {
			for _, id := range of[at] {
				d.Tags = appendTag(d.Tags, names[id])
			}
		}
	}
	return nil
}

// add makes of an item what can be kept of it.
func (i bitItem) add(place string, out *items) error {
	b := builder{place: place, name: i.Name, notes: i.Notes}
	if i.Deleted {
		return b.skip(out, "it was in the trash")
	}
	if len(i.History) > 0 {
		b.lose("older passwords are not taken over")
	}
	if len(i.Attachments) > 0 {
		b.lose("its attachments are not in the file")
	}
	switch i.Type {
	case bitLogin:
		if l := i.Login; l != nil {
			b.username, b.password, b.totp = l.Username, l.Password, l.TOTP
			for _, u := range l.URIs {
				b.address(u.URI)
			}
			if len(l.Passkeys) > 0 {
				b.lose("its passkey cannot be taken over; register another there")
			}
		}
	case bitNote:
		b.note()
	case bitCard:
		b.object("card", i.Card)
	case bitIdentity:
		b.object("identity", i.Identity)
	case bitSSHKey:
		if i.SSH != nil {
			b.privateKey, b.fingerprint = i.SSH.Private, i.SSH.Fingerprint
		}
	default:
		return b.skip(out, "it is of a kind that is not known here")
	}
	for _, field := range i.Fields {
		if field.Type != 3 {
			b.field(field.Name, field.Value)
		}
	}
	return b.build(out)
}
