package probe

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/vault"
)

var errHostKey = errors.New("probe: the server shows another host key")

// trySSH looks at the key and, when it is known where it is used, signs in there and leaves again. The private key does not leave: what a server gets is a
// signature that is good for this one connection.
func (r *Room) trySSH(ctx context.Context, t vault.Trial, ask Ask) Result {
	key, encrypted, ok := facts.OpenKey(t.Secrets["private_key"], t.Secrets["passphrase"])
	switch {
	case ok:
	case encrypted:
		return Result{Outcome: Refused, Detail: "A passphrase encrypts the key, and the one that is stored does not open it or there is none. Rotate the credential with its passphrase."}
	default:
		return Result{Outcome: Unsupported, Detail: "What is stored is no private key that this version can read."}
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return Result{Outcome: Unsupported, Detail: "SSH has no use for a key of this kind."}
	}
	address := sshAddress(t)
	if ask.Offline || address == "" {
		return Result{Outcome: OK, Detail: "The key can be read and opened. Set hosts (such as build.example.com:22) and username to have it tried at a server."}
	}
	target := "ssh://" + address
	if t.Username == "" {
		return Result{Outcome: Unsupported, Detail: "It is not known as whom to sign in. Set username, then test again."}
	}
	conn, err := r.dial(ctx, "tcp", address)
	if err != nil {
		return failed(err, target)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	out := Result{Target: target}
	verified := false
	cfg := &ssh.ClientConfig{User: t.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: r.patience, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
		out.HostKey = ssh.FingerprintSHA256(k)
		if ask.HostKey != "" && ask.HostKey != out.HostKey {
			return errHostKey
		}
		verified = true
		return nil
	}}
	line, channels, requests, err := ssh.NewClientConn(conn, address, cfg)
	switch {
	case err == nil:
		_ = ssh.NewClient(line, channels, requests).Close() // which ends what it has begun
		out.Outcome, out.Detail = OK, "The server let the key in. Its host key is "+out.HostKey+"; give that as host_key to insist on it."
		if ask.HostKey != "" {
			out.Detail = "The server has the host key that was asked for, and let the key in."
		}
		return out
	case !verified && out.HostKey != "":
		out.Outcome, out.Detail = TLSFailed, "The server shows another host key than the one that was asked for, so nothing was signed for it. Ask whoever runs it whether its key has changed."
		return out
	case verified && strings.Contains(err.Error(), "unable to authenticate"): // words of package ssh; it has no type for it
		out.Outcome, out.Detail = Unauthorized, "The server does not let this key in for this user name. Add the public key to the account's authorized_keys, or correct username."
		return out
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	wire := failed(err, target)
	wire.HostKey = out.HostKey
	return wire
}

// sshAddress is where the key is used: the first of its hosts, else the ssh address in external_url or internal_url.
func sshAddress(t vault.Trial) string {
	host, port := "", "22"
	if t.Port != 0 {
		port = strconv.Itoa(t.Port)
	}
	if len(t.Hosts) > 0 {
		host = t.Hosts[0]
	} else {
		for _, s := range []string{t.ExternalURL, t.InternalURL} {
			if u, err := url.Parse(s); err == nil && (u.Scheme == "ssh" || u.Scheme == "sftp") && host == "" {
				host = u.Host
			}
		}
	}
	if host == "" {
		return ""
	}
	if h, p, err := net.SplitHostPort(host); err == nil {
		return net.JoinHostPort(h, p)
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
