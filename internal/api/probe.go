package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/probe"
)

// probeAuth is a way in which a secret goes into a request.
type probeAuth string

// Schema lists the ways.
func (probeAuth) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range probe.Auths() {
		s.Enum = append(s.Enum, name)
	}
	return s
}

type probeAsk struct {
	Path    string    `json:"path,omitempty" maxLength:"1024" doc:"HTTP: a path below base_url that needs the credential; of anthropic /v1/models when it is left out."`
	Auth    probeAuth `json:"auth,omitempty" doc:"HTTP: how the secret is sent. A password goes as basic, everything else as bearer, and of a known provider as that has it."`
	Header  string    `json:"header,omitempty" maxLength:"64" doc:"HTTP, with auth header: its name."`
	HostKey string    `json:"host_key,omitempty" maxLength:"50" doc:"SSH: the SHA256: fingerprint that the server must show."`
	Offline bool      `json:"offline,omitempty" doc:"Look at what is stored and connect to nobody."`
}

type probeBody struct {
	Test client.CredentialTest `json:"test"`
}

func (s *service) addProbe() {
	add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/test", id: "test-credential", summary: "Try a credential where it is used", tag: "credentials",
		description: "Within ten seconds, and only at the hosts that it is bound to. What the server says is told as an outcome; that it refuses is a success of this operation. The try is recorded before anything leaves, and what became of it after.",
		access:      string(identity.CredentialUse), makesNothing: true, keyless: true, again: s.again(identity.CredentialUse, "test")}, s.testCredential)
}

func (s *service) testCredential(ctx context.Context, caller identity.Caller, in *struct {
	ByID
	Body probeAsk `nameHint:"TestRequest"`
}) (*struct{ Body probeBody }, error) {
	b := in.Body
	got, err := s.Probe.Test(ctx, caller, in.ID, probe.Ask{Path: b.Path, Auth: string(b.Auth), Header: b.Header, HostKey: b.HostKey, Offline: b.Offline})
	if err != nil {
		return nil, err
	}
	return &struct{ Body probeBody }{probeBody{client.CredentialTest{
		Outcome: string(got.Outcome), Detail: got.Detail, Target: got.Target, Status: got.Status, HostKey: got.HostKey, Milliseconds: got.Took.Milliseconds(),
	}}}, nil
}
