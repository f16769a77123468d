package app_test

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
)

func TestListenRefusesWhatIsNotLoopback(t *testing.T) {
	for _, c := range []struct {
		listen                     string
		proxy, clientAuth, keyless bool
		want                       string // part of the refusal; "" when it is allowed
	}{
		{"127.0.0.1:0", false, true, false, ""},
		{"127.0.0.7:0", false, true, false, ""},
		{"localhost:0", false, true, false, ""},
		{"[::1]:0", false, true, false, ""},
		{"127.0.0.1:0", false, false, false, ""},
		{":0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"0.0.0.0:0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"[::]:0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"192.0.2.1:0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"localhost.example.com:0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"127.0.0.1.example.com:0", false, true, false, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"0.0.0.0:0", false, false, true, "SIGNALBOX_BEHIND_TLS_PROXY=true"},
		{"0.0.0.0:0", true, true, false, ""},
		{"0.0.0.0:0", true, false, false, "SIGNALBOX_FORCE_NO_CLIENT_AUTH=true"},
		{"0.0.0.0:0", true, false, true, ""},
	} {
		cfg := app.Config{Listen: c.listen, BehindTLSProxy: c.proxy, ClientAuth: c.clientAuth, ForceNoClientAuth: c.keyless}
		l, err := app.Listen(cfg)
		if c.want != "" {
			require.ErrorContains(t, err, c.want, c)
			continue
		}
		require.NoError(t, err, c)
		require.NoError(t, l.Close())
	}
	l, err := app.Listen(app.Config{Listen: "0.0.0.0:0", ClientAuth: true, TLSCertFile: "c", TLSKeyFile: "k"})
	require.NoError(t, err, "with a certificate of its own it may listen anywhere")
	require.NoError(t, l.Close())
	_, err = app.Listen(app.Config{Listen: "0.0.0.0:0", TLSCertFile: "c", TLSKeyFile: "k"})
	require.ErrorContains(t, err, "SIGNALBOX_FORCE_NO_CLIENT_AUTH=true", "TLS does not replace keys")
}

func TestListenSaysWhatToDoWhenThePortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = app.Listen(app.Config{Listen: l.Addr().String(), ClientAuth: true})
	require.ErrorContains(t, err, "in use")
	require.ErrorContains(t, err, "--listen")
}

func TestLocalURL(t *testing.T) {
	for in, want := range map[string]string{"127.0.0.1:80": "http://127.0.0.1:80", "0.0.0.0:8420": "http://127.0.0.1:8420", "[::]:8420": "http://127.0.0.1:8420", "[::1]:8420": "http://[::1]:8420"} {
		a, err := net.ResolveTCPAddr("tcp", in)
		require.NoError(t, err)
		require.Equal(t, want, app.Config{}.LocalURL(a))
		require.Equal(t, strings.Replace(want, "http:", "https:", 1), app.Config{TLSCertFile: "c", TLSKeyFile: "k"}.LocalURL(a))
	}
	for url, local := range map[string]bool{
		"http://127.0.0.1:8420": true, "http://localhost": true, "http://[::1]:1": true, "https://box.example": false, "http://10.0.0.1:8420": false, "http://localhost.example.com": false, "": false,
	} {
		require.Equal(t, local, app.IsLocal(url), url)
	}
}
