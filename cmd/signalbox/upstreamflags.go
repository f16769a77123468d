package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// upstreamFlags are the flags that say how an account's requests go out.
type upstreamFlags struct {
	connect, response     int
	bundle, proxy, person string
}

func (f *upstreamFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.connect, "connect-timeout", 0, "of accounts: seconds until a connection to the upstream must stand (0: the server's own)")
	flags.IntVar(&f.response, "response-timeout", 0, "of accounts: seconds until the upstream must begin to answer (0: the server's own)")
	flags.StringVar(&f.bundle, "ca-bundle", "", "of accounts: file with the certificates (PEM) that alone are trusted for the upstream; empty for the system's")
	flags.StringVar(&f.proxy, "proxy-url", "", "of accounts: forward proxy, such as https://proxy.example.com:3128; its password is the secret field proxy_password")
	flags.StringVar(&f.person, "proxy-username", "", "of accounts: user name at the proxy")
}

// maxBundle bounds what is read as a bundle of certificates; the server takes less.
const maxBundle = 1 << 20

func (f *upstreamFlags) certificates() (string, error) {
	if f.bundle == "" {
		return "", nil
	}
	info, err := os.Stat(f.bundle)
	if err == nil && info.Size() > maxBundle {
		return "", usage("--ca-bundle names a file that is too large to be a bundle of certificates")
	}
	text, err := os.ReadFile(f.bundle)
	if err != nil {
		return "", fmt.Errorf("read the CA bundle: %w", err)
	}
	return string(text), nil
}

// draft returns what the flags say, or nil when none is given.
func (f *upstreamFlags) draft() (*client.Upstream, error) {
	if *f == (upstreamFlags{}) {
		return nil, nil
	}
	bundle, err := f.certificates()
	return &client.Upstream{ConnectTimeoutSeconds: f.connect, ResponseTimeoutSeconds: f.response, CABundle: bundle, ProxyURL: f.proxy, ProxyUsername: f.person}, err
}

// patch returns what the flags change, or nil when none is given.
func (f *upstreamFlags) patch(cmd *cobra.Command) (*client.UpstreamPatch, error) {
	var p client.UpstreamPatch
	given := false
	changed := func(flag string) bool {
		yes := cmd.Flags().Changed(flag)
		given = given || yes
		return yes
	}
	if changed("connect-timeout") {
		p.ConnectTimeoutSeconds = &f.connect
	}
	if changed("response-timeout") {
		p.ResponseTimeoutSeconds = &f.response
	}
	if changed("ca-bundle") {
		bundle, err := f.certificates()
		if err != nil {
			return nil, err
		}
		p.CABundle = &bundle
	}
	if changed("proxy-url") {
		p.ProxyURL = &f.proxy
	}
	if changed("proxy-username") {
		p.ProxyUsername = &f.person
	}
	if !given {
		return nil, nil
	}
	return &p, nil
}

// upstreamFacts say what of an account's upstream is not the server's own.
func upstreamFacts(u *client.Upstream) []string {
	if u == nil {
		return nil
	}
	seconds := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("%d s", n)
	}
	return []string{"time to connect", seconds(u.ConnectTimeoutSeconds), "time until an answer", seconds(u.ResponseTimeoutSeconds), "trusts only its CA bundle", yes(u.CABundle != ""),
		"outbound proxy", u.ProxyURL, "proxy user name", u.ProxyUsername}
}
