package notify

import (
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Channel is a place where messages go.
type Channel struct {
	ID      string
	TrainID string // "" means the installation's own
	Kind    ChannelKind
	Name    string
	Enabled bool
	// Severity is the least that it takes, and Kinds what it takes; none means all.
	Severity Severity
	Kinds    []Kind
	// Destination is where it leads, without what is secret in that: scheme and host of an address, host and port of a mail server.
	Destination string
	Email       *Email // of an e-mail channel
	// Look says as whom and where a Slack channel posts, where its webhook lets it be said.
	Look Look
	// Content has the channel of a train told what its agents are asked and what they answer.
	Content bool
	// Suffix is the end of a long address, by which people tell one from another; "" for a short one.
	Suffix string
	// SecretFields names what is sealed.
	SecretFields []string
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Revision     int64 // counts the changes

	secretVersion int64
}

// ETag is the validator of this state (RFC 9110, section 8.8.3).
func (c Channel) ETag() string { return `"r` + strconv.FormatInt(c.Revision, 10) + `"` }

func (c Channel) unless(ifMatch string) error {
	if etag.Match(ifMatch, c.ETag()) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The channel was changed since it was read. Read it again, then repeat the change.")
}

func (c Channel) target() store.Target {
	return store.Target{Kind: "notification_channel", ID: c.ID, Name: c.Name}
}

// TLS says how the conversation with a mail server is encrypted.
type TLS string

// The ways.
const (
	StartTLS TLS = "starttls" // begins readable and changes over before the login; refused where the server cannot
	Implicit TLS = "implicit" // from the first byte
	Plain    TLS = "none"     // not at all; only with a host that is allowed by name
)

// Email are the settings of an e-mail channel.
type Email struct {
	Host     string   `json:"host"`
	Port     int      `json:"port"`
	TLS      TLS      `json:"tls"`
	Username string   `json:"username"`
	From     string   `json:"from"`
	To       []string `json:"to"`
}

// server is where the password goes: with another server, port or kind of encryption it must be given anew.
func (e *Email) server() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) + " " + string(e.TLS) + " " + e.Username
}

// Draft is a channel to be made.
type Draft struct {
	Kind     ChannelKind
	Name     string
	Disabled bool
	Severity Severity // "" means [Info]
	Kinds    []Kind
	Email    *Email
	Secrets  map[string]secret.Value
	TrainID  string
}

// Patch changes a channel; nil leaves a setting as it is. Of Secrets, nil removes one.
type Patch struct {
	Name     *string
	Enabled  *bool
	Severity *Severity
	Kinds    *[]Kind
	Email    EmailPatch
	Secrets  map[string]*secret.Value
}

// EmailPatch changes the settings of an e-mail channel.
type EmailPatch struct {
	Host     *string
	Port     *int
	TLS      *TLS
	Username *string
	From     *string
	To       *[]string
}

func (p EmailPatch) empty() bool { return p == EmailPatch{} }

const (
	nameMax       = 100
	hostMax       = 253
	addressMax    = 254
	recipientsMax = 20
	secretMax     = 2048
)

// validate returns the fault that says what is wrong with a channel and its secrets, or nil, and fills the destination.
func (r *Room) validate(c *Channel, secrets map[string]secret.Value) error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The channel cannot be like this; see errors.")
	row, known := channelRow(c.Kind)
	if !known {
		return f.With("/kind", "must be slack, webhook or email")
	}
	if strings.TrimSpace(c.Name) == "" || !shortLine(c.Name, nameMax) {
		_ = f.With("/name", "must be one line of 1 to 100 bytes")
	}
	if !c.Severity.known() {
		_ = f.With("/severity", "must be info, warning or critical")
	}
	for _, k := range c.Kinds {
		if _, ok := kindRow(k); !ok {
			_ = f.With("/kinds", "names a kind of message that does not exist")
			break
		}
	}
	for _, field := range row.Secrets {
		if v, given := secrets[field.Name]; field.Required && (!given || v.IsZero()) {
			return fault.New(fault.Unprocessable, "secret_missing", "A channel of this kind needs the secret field "+field.Name+": "+field.Meaning+".").With("/secrets/"+field.Name, "is needed")
		}
	}
	for name, v := range secrets {
		switch {
		case !slices.ContainsFunc(row.Secrets, func(s SecretField) bool { return s.Name == name }):
			_ = f.With("/secrets", "has a field that a channel of this kind does not have")
		case v.Len() > secretMax:
			_ = f.With("/secrets/"+name, "must be at most 2048 bytes")
		}
	}
	if v, given := secrets[secretSigning]; given && !validSigning(v) {
		_ = f.With("/secrets/"+secretSigning, "must be whsec_ and 24 to 64 random bytes in base64")
	}
	if c.Kind == Mail && c.TrainID != "" {
		_ = f.With("/kind", "must be slack or webhook for a train")
	}
	c.Look.check(f, c.Kind)
	if c.Content && c.TrainID == "" {
		_ = f.With("/content", "belongs to channels of trains alone")
	}
	if c.Kind != Mail && c.Email != nil {
		_ = f.With("/email", "belongs to channels of kind email alone")
	}
	if c.Kind == Mail {
		c.validateEmail(f, secrets)
	}
	if len(f.Fields) > 0 {
		return f
	}
	return r.locate(c, secrets)
}

func (c *Channel) validateEmail(f *fault.Error, secrets map[string]secret.Value) {
	e := c.Email
	if e == nil {
		_ = f.With("/email", "is needed: host, from and to")
		return
	}
	if e.Host == "" || len(e.Host) > hostMax {
		_ = f.With("/email/host", "must name the mail server")
	}
	if e.Port < 1 || e.Port > 65535 {
		_ = f.With("/email/port", "must be from 1 to 65535")
	}
	if e.TLS != StartTLS && e.TLS != Implicit && e.TLS != Plain {
		_ = f.With("/email/tls", "must be starttls, implicit or none")
	}
	if !shortLine(e.Username, addressMax) {
		_ = f.With("/email/username", "must be one line")
	}
	if _, given := secrets[secretPassword]; given != (e.Username != "") {
		_ = f.With("/email/username", "and the secret field password must be given together, or neither")
	}
	if !validAddress(e.From) {
		_ = f.With("/email/from", "must be one e-mail address")
	}
	if len(e.To) == 0 || len(e.To) > recipientsMax || slices.ContainsFunc(e.To, func(to string) bool { return !validAddress(to) }) {
		_ = f.With("/email/to", "must be 1 to 20 e-mail addresses")
	}
}

// locate checks that the guard would let a channel out, and says where it leads.
func (r *Room) locate(c *Channel, secrets map[string]secret.Value) error {
	if c.Kind == Mail {
		c.Destination = net.JoinHostPort(c.Email.Host, strconv.Itoa(c.Email.Port))
		err := r.policy.CheckServer(c.Email.Host, uint16(c.Email.Port), c.Email.TLS != Plain)
		return at(err, "/email/host")
	}
	u, err := url.Parse(secrets[secretURL].Reveal())
	if err != nil || u.Host == "" {
		return fault.New(fault.Unprocessable, "validation_failed", "The channel cannot be like this; see errors.").With("/secrets/"+secretURL, "must be an https URL")
	}
	c.Destination, c.Suffix = u.Scheme+"://"+u.Host, suffix(u)
	return at(r.policy.CheckURL(u), "/secrets/"+secretURL)
}

const (
	suffixShown = 4
	// suffixOf is how long the last part of a path must be to have its end shown: Slack's tokens there have 24 characters.
	suffixOf = 20
)

// suffix is the end of an address whose path ends in something long, and nothing of any other: a short one would be given away.
func suffix(u *url.URL) string {
	last := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if len(last) < suffixOf || u.RawQuery != "" || u.Fragment != "" || strings.ContainsFunc(last, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	return last[len(last)-suffixShown:]
}

// at says which field a refusal of the guard is about.
func at(err error, pointer string) error {
	if f, ok := fault.As(err); ok {
		return f.With(pointer, "may not be called")
	}
	return err
}

// validAddress takes the bare form of an address, local@domain, in ASCII: what has no name, comment or quotes cannot smuggle a header.
func validAddress(s string) bool {
	if len(s) > addressMax || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"(),:;<>[\]`, c) }) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s
}

// shortLine reports whether s is UTF-8 of at most limit bytes without control characters.
func shortLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// NewEmail returns the settings that a patch of nothing makes, with the usual ports.
func NewEmail(p EmailPatch) *Email {
	e := &Email{TLS: StartTLS}
	p.apply(e)
	if e.Port == 0 {
		switch e.TLS {
		case Implicit:
			e.Port = 465
		case Plain:
			e.Port = 25
		default:
			e.Port = 587
		}
	}
	return e
}
