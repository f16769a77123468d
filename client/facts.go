package client

import "time"

// Facts are what the server derived from a credential's secret without giving it away. The part of the credential's type is set, or none: a format
// that is not known has no facts.
type Facts struct {
	Certificate *CertificateFacts `json:"certificate,omitempty"`
	JWT         *JWTFacts         `json:"jwt,omitempty"`
	SSHKey      *SSHKeyFacts      `json:"ssh_key,omitempty"`
	Connection  *ConnectionFacts  `json:"connection_string,omitempty"`
}

// CertificateFacts are what a certificate says.
type CertificateFacts struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial" doc:"Hexadecimal."`
	Names       []string  `json:"names,omitempty" nullable:"false" doc:"The subject alternative names, as DNS:…, IP:…, email:… or URI:…."`
	MoreNames   int       `json:"more_names,omitempty" doc:"How many names are not listed."`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after" doc:"The credential's expires_at too, unless another was set."`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, hexadecimal."`
	KeyType     string    `json:"key_type"`
	Bits        int       `json:"bits,omitempty"`
	Chain       int       `json:"chain" doc:"How many certificates there are."`
	InOrder     bool      `json:"in_order" doc:"Its own comes first, and each is signed by the next."`
	KeyMatches  bool      `json:"key_matches" doc:"The private key is that of the certificate; false when there is none, or when it could not be opened."`
}

// JWTFacts are what a signed token says of itself. Nothing of it was verified.
type JWTFacts struct {
	Algorithm string     `json:"algorithm,omitempty"`
	KeyID     string     `json:"key_id,omitempty"`
	Issuer    string     `json:"issuer,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	Audience  []string   `json:"audience,omitempty" nullable:"false"`
	IssuedAt  *time.Time `json:"issued_at,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"The credential's expires_at too, unless another was set or there is a signing_key."`
}

// SSHKeyFacts are what may be known of an SSH private key.
type SSHKeyFacts struct {
	Type        string `json:"type" doc:"Such as ssh-ed25519; empty when the key is encrypted whole."`
	Bits        int    `json:"bits,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty" doc:"SHA256:…, as ssh-keygen -l shows it."`
	PublicKey   string `json:"public_key,omitempty" doc:"A line for authorized_keys."`
	Comment     string `json:"comment,omitempty"`
	Encrypted   bool   `json:"encrypted" doc:"By a passphrase."`
}

// ConnectionFacts are where a connection string leads.
type ConnectionFacts struct {
	Scheme   string   `json:"scheme,omitempty"`
	Host     string   `json:"host,omitempty"`
	Port     int      `json:"port,omitempty"`
	Others   []string `json:"other_hosts,omitempty" nullable:"false"`
	Database string   `json:"database,omitempty"`
	User     string   `json:"user,omitempty"`
	TLSMode  string   `json:"tls_mode,omitempty" doc:"As the string says it."`
}

// Generate says what the server makes for a secret field. Kind is password, passphrase, hex, base64, base64url, ed25519 or rsa; the other fields are
// those of some kinds, and zero is the kind's own value.
type Generate struct {
	Kind      string   `json:"kind"`
	Length    int      `json:"length,omitempty"`
	Classes   []string `json:"classes,omitempty"`
	Words     int      `json:"words,omitempty"`
	Separator *string  `json:"separator,omitempty"`
	Bytes     int      `json:"bytes,omitempty"`
	Bits      int      `json:"bits,omitempty"`
	Comment   string   `json:"comment,omitempty"`
}
