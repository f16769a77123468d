package client

import (
	"context"
	"net/http"
)

// TestRequest says how to try a credential. Everything may be left out.
type TestRequest struct {
	Path    string `json:"path,omitempty"`
	Auth    string `json:"auth,omitempty"`
	Header  string `json:"header,omitempty"`
	HostKey string `json:"host_key,omitempty"`
	Offline bool   `json:"offline,omitempty"`
}

// CredentialTest is what became of a try. Outcome is ok, refused, unauthorized, unreachable, tls_failed, unsupported or forbidden_address.
type CredentialTest struct {
	Outcome      string `json:"outcome" enum:"ok,refused,unauthorized,unreachable,tls_failed,unsupported,forbidden_address"`
	Detail       string `json:"detail" doc:"What it means and what to do next, in words of Signalbox."`
	Target       string `json:"target,omitempty" doc:"Who was asked; absent when nobody was."`
	Status       int    `json:"status,omitempty" doc:"Of an answer in HTTP."`
	HostKey      string `json:"host_key,omitempty" doc:"The fingerprint that an SSH server showed."`
	Milliseconds int64  `json:"milliseconds,omitempty" doc:"How long it took."`
}

// TestCredential has the server try a credential where it is used. A credential that does not work is no error.
func (c *Client) TestCredential(ctx context.Context, id string, r TestRequest) (CredentialTest, error) {
	var out struct {
		Test CredentialTest `json:"test"`
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("credentials", id, "test"), body: r}, &out)
	return out.Test, err
}
