package client

// Upstream is how an account's requests go out. The password for its proxy is the secret field proxy_password.
type Upstream struct {
	ConnectTimeoutSeconds  int    `json:"connect_timeout_seconds,omitempty" minimum:"0" maximum:"60" doc:"Until a connection stands; 0 is the server's own."`
	ResponseTimeoutSeconds int    `json:"response_timeout_seconds,omitempty" minimum:"0" maximum:"3600" doc:"Until the first byte of the answer; 0 is the server's own."`
	CABundle               string `json:"ca_bundle,omitempty" maxLength:"32768" doc:"Certificates in PEM, which alone are trusted for the upstream."`
	ProxyURL               string `json:"proxy_url,omitempty" maxLength:"2048" doc:"A forward proxy (CONNECT), with its scheme, host and port. Only an https upstream is reached through it."`
	ProxyUsername          string `json:"proxy_username,omitempty" maxLength:"255" doc:"What the proxy wants; its password is the secret field proxy_password."`
}

// UpstreamPatch changes an [Upstream]: nil leaves a setting as it is, a zero value brings the server's own back.
type UpstreamPatch struct {
	ConnectTimeoutSeconds  *int    `json:"connect_timeout_seconds,omitempty"`
	ResponseTimeoutSeconds *int    `json:"response_timeout_seconds,omitempty"`
	CABundle               *string `json:"ca_bundle,omitempty"`
	ProxyURL               *string `json:"proxy_url,omitempty"`
	ProxyUsername          *string `json:"proxy_username,omitempty"`
}
