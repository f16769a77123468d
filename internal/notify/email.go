package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	mail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
)

// conversationMax bounds what is read from a mail server in one conversation: its lines are read whole, however long they are.
const conversationMax = 256 << 10

// sendMail has the first server that was configured take the message. Nothing of what the server says is kept but the number.
func (r *Room) sendMail(ctx context.Context, p parcel) verdict {
	e := p.channel.Email
	if e == nil {
		return verdict{detail: "The channel has no mail server. Make it anew."}
	}
	if err := r.policy.CheckServer(e.Host, uint16(e.Port), e.TLS != Plain); err != nil {
		return verdict{detail: fault.Of(err).Detail}
	}
	msg, err := compose(p, *e)
	if err != nil {
		return verdict{detail: "The message cannot be made into a mail; look at the channel's addresses."}
	}
	config := &tls.Config{ServerName: e.Host, MinVersion: tls.VersionTLS12, RootCAs: r.roots}
	options := []mail.Option{
		mail.WithPort(e.Port), mail.WithTimeout(attemptTime), mail.WithHELO(domain(e.From)), mail.WithTLSConfig(config), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(dial context.Context, network, address string) (net.Conn, error) {
			conn, err := r.dialMail(dial, network, address, e.TLS, config)
			if err == nil {
				// The library's own deadlines begin anew with each step; this one is for the whole conversation.
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		}),
	}
	switch e.TLS {
	case StartTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case Implicit:
		options = append(options, mail.WithSSL())
	default:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if e.Username != "" {
		password := p.secrets[secretPassword].Reveal()
		options = append(options, mail.WithSMTPAuthCustom(&login{user: e.Username, password: password, host: e.Host, plain: e.TLS == Plain}))
	}
	client, err := mail.NewClient(e.Host, options...)
	if err != nil {
		return verdict{detail: "The channel's mail server cannot be used as it is set up; look at its settings."}
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if msg.IsDelivered() {
		return verdict{delivered: true} // what goes wrong while parting changes nothing
	}
	return mailFailed(err)
}

// dialMail opens the guarded connection, bounded in what is read from it.
func (r *Room) dialMail(ctx context.Context, network, address string, how TLS, config *tls.Config) (net.Conn, error) {
	conn, err := r.dialer.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn = &bounded{Conn: conn, left: conversationMax}
	if how != Implicit {
		return conn, nil
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// bounded is a connection of which only so much may be read.
type bounded struct {
	net.Conn
	left int
}

// Read fails once the bound is passed.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, outbound.ErrTooLarge
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// compose makes the mail. Addresses and the title were checked for what could end a header.
func compose(p parcel, e Email) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(e.From); err != nil {
		return nil, err
	}
	if err := m.To(e.To...); err != nil {
		return nil, err
	}
	title := p.content.Title
	if p.content.Severity != Info {
		title = "[" + string(p.content.Severity) + "] " + title
	}
	m.Subject("Signalbox: " + title)
	m.SetDateWithValue(p.at)
	m.SetMessageIDWithValue(p.id + "@" + domain(e.From)) // a mail that comes twice can be told by it
	m.SetGenHeader("Signalbox-Delivery", p.id)
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	var b strings.Builder
	b.WriteString(p.content.Title + "\n")
	if p.content.Text != "" {
		b.WriteString("\n" + p.content.Text + "\n")
	}
	for i, f := range p.content.Facts {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	if p.content.Link != "" {
		b.WriteString("\n" + p.content.Link + "\n")
	}
	m.SetBodyString(mail.TypeTextPlain, b.String())
	return m, nil
}

func domain(address string) string {
	_, after, _ := strings.Cut(address, "@")
	return after
}

// login chooses between the two ways of giving a password that every server knows, and gives it only to the server that was configured,
// encrypted unless that server is allowed to go without.
type login struct {
	user, password, host string
	plain                bool

	chosen smtp.Auth
}

// Start chooses PLAIN if the server offers it, and LOGIN otherwise.
func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		l.chosen = smtp.PlainAuth("", l.user, l.password, l.host, l.plain)
	case slices.Contains(server.Auth, "LOGIN"):
		l.chosen = smtp.LoginAuth(l.user, l.password, l.host, l.plain)
	default:
		return "", nil, errNoLogin
	}
	return l.chosen.Start(server)
}

// Next goes on as the chosen way does.
func (l *login) Next(fromServer []byte, more bool) ([]byte, error) {
	return l.chosen.Next(fromServer, more)
}

var errNoLogin = errors.New("notify: the mail server offers neither AUTH PLAIN nor AUTH LOGIN")

// mailFailed says why a mail server did not take a message. An answer of 5yz is for good: a client must not repeat what it was refused with it
// (RFC 5321, section 4.2.1). After one of 4yz, and without an answer, it is tried again.
func mailFailed(err error) verdict {
	var protocol *textproto.Error
	var refused *mail.SendError
	code := 0
	switch {
	case err == nil:
		return verdict{detail: "The mail server did not say that it took the message."}
	case errors.Is(err, errNoLogin):
		return verdict{detail: "The mail server offers neither AUTH PLAIN nor AUTH LOGIN, or only after another kind of encryption."}
	case errors.Is(err, outbound.ErrRefused), errors.Is(err, outbound.ErrTooLarge):
		return unreached(err)
	case errors.As(err, &protocol):
		code = protocol.Code
	case errors.As(err, &refused):
		code = refused.ErrorCode()
	}
	switch {
	case code == 535 || code == 534 || code == 530:
		return verdict{final: true, detail: "The mail server refused the login for good (" + strconv.Itoa(code) + ")."}
	case code >= 500 && code <= 599:
		return verdict{final: true, detail: "The mail server refused the message for good (" + strconv.Itoa(code) + ")."}
	case code >= 400 && code <= 499:
		return verdict{detail: "The mail server answered " + strconv.Itoa(code) + ", for the time being."}
	case strings.Contains(err.Error(), "does not support STARTTLS"):
		return verdict{detail: "The mail server does not offer STARTTLS, and nothing is sent unencrypted. Use its port for implicit TLS."}
	}
	return unreached(err)
}
