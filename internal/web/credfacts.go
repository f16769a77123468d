package web

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// secretFacts are what a secret says of itself: what anybody may know who sees the credential.
func secretFacts(reader ui.Reader, f facts.Facts) []ui.Fact {
	var out []ui.Fact
	text := func(term, value string) {
		if value != "" {
			out = append(out, ui.Fact{Term: term, Value: ui.Text(value)})
		}
	}
	code := func(term, value string) {
		if value != "" {
			out = append(out, ui.Fact{Term: term, Value: ui.Code(value)})
		}
	}
	switch {
	case f.Certificate != nil:
		c := f.Certificate
		text("Subject", c.Subject)
		names := strings.Join(c.Names, ", ")
		if c.MoreNames > 0 {
			names += " and " + reader.Number(int64(c.MoreNames)) + " more"
		}
		text("Names", names)
		text("Issuer", c.Issuer)
		out = append(out, ui.Fact{Term: "Valid from", Value: ui.When(reader, c.NotBefore)}, ui.Fact{Term: "Valid until", Value: pressing(reader, c.NotAfter, "over")})
		text("Key", keyText(c.KeyType, c.Bits))
		chain := reader.Count(c.Chain, "certificate")
		if c.Chain > 1 && !c.InOrder {
			chain += ", not in the order in which each is signed by the next"
		}
		text("Chain", chain)
		if c.KeyMatches {
			text("Private key", "belongs to this certificate")
		}
		code("Serial", c.Serial)
		code("SHA-256", c.Fingerprint)
	case f.JWT != nil:
		t := f.JWT
		text("Issuer", t.Issuer)
		text("Subject", t.Subject)
		text("Audience", strings.Join(t.Audience, ", "))
		if t.IssuedAt != nil {
			out = append(out, ui.Fact{Term: "Issued", Value: ui.When(reader, *t.IssuedAt)})
		}
		if t.NotBefore != nil {
			out = append(out, ui.Fact{Term: "Not before", Value: ui.When(reader, *t.NotBefore)})
		}
		if t.ExpiresAt != nil {
			out = append(out, ui.Fact{Term: "Ends", Value: pressing(reader, *t.ExpiresAt, "over")})
		}
		code("Algorithm", t.Algorithm)
		code("Key id", t.KeyID)
	case f.SSHKey != nil:
		k := f.SSHKey
		text("Kind", keyText(cmp.Or(k.Type, "an encrypted key"), k.Bits))
		code("Fingerprint", k.Fingerprint)
		text("Comment", k.Comment)
		passphrase := "none"
		if k.Encrypted {
			passphrase = "encrypts the key"
		}
		text("Passphrase", passphrase)
		if k.PublicKey != "" {
			out = append(out, ui.Fact{Term: "Public key", Value: ui.Copy("public-key", k.PublicKey)})
		}
	case f.Connection != nil:
		c := f.Connection
		text("Kind", c.Scheme)
		host := c.Host
		if c.Port != 0 {
			host += ", port " + strconv.Itoa(c.Port)
		}
		text("Host", host)
		text("Other hosts", strings.Join(c.Others, ", "))
		text("Database", c.Database)
		text("User", c.User)
		text("TLS", c.TLSMode)
	}
	return out
}

func keyText(kind string, bits int) string {
	if bits == 0 {
		return kind
	}
	return kind + ", " + strconv.Itoa(bits) + " bits"
}

// standing is what is the matter with a credential, and what can be done about it; nothing where all is well.
func (p *credentialPage) standing() (said string, acts []templ.Component) {
	c, now := p.One, p.Reader.Now
	login := func() templ.Component {
		if p.Again {
			return ui.LinkButton("Log in again", connectAgain(c.ID, credentialPath(c.ID)), ui.Plain, false)
		}
		return ui.LinkButton("Rotate", credentialPath(c.ID, "rotate"), ui.Plain, true)
	}
	enable := ui.LinkButton("Enable…", credentialPath(c.ID, "status")+"?to=active", ui.Plain, true)
	due := c.RotationDue()
	switch {
	case c.Tampered:
		return "", nil
	case c.Status == vault.Compromised:
		said, acts = "It is marked as compromised: it is lent to nobody. Give it a new secret where it is used and here, then make it active again.", []templ.Component{login(), enable}
	case c.Status == vault.Disabled:
		said, acts = "It is disabled: it is lent to nobody until somebody enables it.", []templ.Component{enable}
	case c.Status == vault.Expired:
		said, acts = "It ended "+p.Reader.Ago(*c.ExpiresAt)+" and is lent to nobody any more. Store a new secret, and set when that ends.", []templ.Component{login()}
	case c.Status == vault.Expiring:
		said, acts = "It ends "+p.Reader.Ago(*c.ExpiresAt)+". Get a new secret where it comes from and store it before that.", []templ.Component{login()}
	case due != nil && !due.After(now):
		said, acts = "Its plan said to rotate it "+p.Reader.Ago(*due)+". Until then it goes on being lent.", []templ.Component{login()}
	}
	if !p.May.Manage {
		acts = nil
	}
	return said, acts
}

// aboutActs marks a credential as known to somebody else.
func (p *credentialPage) aboutActs() []templ.Component {
	if !p.May.Manage || p.One.Status == vault.Compromised || p.One.Tampered {
		return nil
	}
	return []templ.Component{ui.LinkButton("Mark as compromised…", credentialPath(p.One.ID, "status")+"?to=compromised", ui.Plain, true)}
}

// reminderText says when people are told next of what the credential has coming.
func reminderText(reader ui.Reader, c vault.Credential) string {
	at := c.NextReminder(reader.Now)
	if at == nil {
		return "none"
	}
	return "next " + reader.Ago(*at) + ", to the notification channels"
}
