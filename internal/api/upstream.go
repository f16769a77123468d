package api

import (
	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/vault"
)

// upstreamDraft is how an account's requests go out, as it comes in. The lengths mirror the columns.
type upstreamDraft struct {
	ConnectTimeoutSeconds  int    `json:"connect_timeout_seconds,omitempty" minimum:"0" maximum:"60" doc:"Until a connection stands; 0 is the server's own (10)."`
	ResponseTimeoutSeconds int    `json:"response_timeout_seconds,omitempty" minimum:"0" maximum:"3600" doc:"Until the first byte of the answer; 0 is the server's own (upstream-timeout)."`
	CABundle               string `json:"ca_bundle,omitempty" maxLength:"32768" doc:"Certificates in PEM, which alone are trusted for the upstream."`
	ProxyURL               string `json:"proxy_url,omitempty" maxLength:"2048" doc:"A forward proxy (CONNECT), with its scheme, host and port. Only an https upstream is reached through it."`
	ProxyUsername          string `json:"proxy_username,omitempty" maxLength:"255" doc:"What the proxy wants; its password is the secret field proxy_password."`
}

func (d *upstreamDraft) vault() vault.Upstream {
	if d == nil {
		return vault.Upstream{}
	}
	return vault.Upstream{ConnectTimeout: d.ConnectTimeoutSeconds, ResponseTimeout: d.ResponseTimeoutSeconds, CABundle: d.CABundle, ProxyURL: d.ProxyURL, ProxyUsername: d.ProxyUsername}
}

// upstreamPatch is the merge patch of the upstream block.
type upstreamPatch struct {
	ConnectTimeoutSeconds  edit[int]    `json:"connect_timeout_seconds,omitempty" minimum:"0" maximum:"60"`
	ResponseTimeoutSeconds edit[int]    `json:"response_timeout_seconds,omitempty" minimum:"0" maximum:"3600"`
	CABundle               edit[string] `json:"ca_bundle,omitempty" maxLength:"32768"`
	ProxyURL               edit[string] `json:"proxy_url,omitempty" maxLength:"2048"`
	ProxyUsername          edit[string] `json:"proxy_username,omitempty" maxLength:"255"`
}

func upstreamEdit(p edit[upstreamPatch]) vault.UpstreamPatch {
	u := p.value
	return vault.UpstreamPatch{Clear: p.set && p.null, ConnectTimeout: u.ConnectTimeoutSeconds.vault(), ResponseTimeout: u.ResponseTimeoutSeconds.vault(), CABundle: u.CABundle.vault(),
		ProxyURL: u.ProxyURL.vault(), ProxyUsername: u.ProxyUsername.vault()}
}

// shownUpstream is how an account's requests go out, as it goes out; nothing for the server's own way.
func shownUpstream(u vault.Upstream) *client.Upstream {
	if u == (vault.Upstream{}) {
		return nil
	}
	return &client.Upstream{ConnectTimeoutSeconds: u.ConnectTimeout, ResponseTimeoutSeconds: u.ResponseTimeout, CABundle: u.CABundle, ProxyURL: u.ProxyURL, ProxyUsername: u.ProxyUsername}
}
