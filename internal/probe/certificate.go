package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"time"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/vault"
)

// tryCertificate looks at the chain and, when external_url is an https address, whether the server there shows this certificate. Nothing secret
// leaves: a handshake is begun and ended.
func (r *Room) tryCertificate(ctx context.Context, t vault.Trial, ask Ask) Result {
	refused := func(detail string) Result { return Result{Outcome: Refused, Detail: detail} }
	found, problems := facts.Derive(facts.TypeCertificate, t.Secrets)
	chain := facts.Chain(t.Secrets["certificate"])
	now := time.Now()
	_, hasKey := t.Secrets["private_key"]
	switch {
	case len(problems) > 0 && problems[0].Field == "passphrase":
		return refused("The passphrase does not open the private key. Rotate the credential with the right one.")
	case len(problems) > 0:
		return refused("The private key is not that of the certificate. Rotate both together.")
	case found.Certificate == nil || len(chain) == 0:
		return Result{Outcome: Unsupported, Detail: "What is stored is no certificate in PEM, so it cannot be looked at."}
	case now.After(found.Certificate.NotAfter):
		return refused("The certificate has expired. Renew it and rotate the credential.")
	case now.Before(found.Certificate.NotBefore):
		return refused("The certificate is not valid yet. Check the clocks, or wait.")
	case !found.Certificate.InOrder:
		return refused("The certificates are not in order: the server's own comes first, and each is signed by the next. Rotate with the chain in order.")
	case hasKey && !found.Certificate.KeyMatches:
		return refused("The private key could not be opened, so that nobody knows whether it fits. Store its passphrase with it.")
	}
	u, err := url.Parse(t.ExternalURL)
	if ask.Offline || t.ExternalURL == "" || err != nil || u.Scheme != "https" {
		return Result{Outcome: OK, Detail: "The certificate is valid now, its chain is in order, and its key fits if there is one. Set external_url to an https address to compare with what a server shows."}
	}
	target := u.Scheme + "://" + u.Host
	if err := r.policy.CheckURL(u); err != nil {
		return failed(err, target)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	conn, err := r.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return failed(err, target)
	}
	defer func() { _ = conn.Close() }()
	// Whether anybody trusts it is not the question, only whether it is the same.
	line := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // compared below
	if err := line.HandshakeContext(ctx); err != nil {
		return failed(err, target)
	}
	shown := line.ConnectionState().PeerCertificates
	if len(shown) == 0 || !bytes.Equal(shown[0].Raw, chain[0].Raw) {
		out := refused("The server at external_url shows another certificate. Install this one there, or rotate the credential to the one that it shows.")
		out.Target = target
		return out
	}
	return Result{Outcome: OK, Target: target, Detail: "The certificate is valid now, its chain is in order, and the server at external_url shows it."}
}
