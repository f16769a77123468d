package keeper

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Kind is a service that keeps keys.
type Kind string

// The kinds; each is the scheme of its addresses.
const (
	VaultTransit Kind = "vault-transit"
	AWS          Kind = "aws-kms"
	GCP          Kind = "gcp-kms"
	Azure        Kind = "azure-keyvault"
)

// Address names one key of one service. Two addresses are the same keeper when their texts are. Make it with [Parse].
type Address struct {
	kind Kind
	text string
	// host is where the service is: host or host:port; empty where the service's own libraries know it.
	host string
	// key is the service's name of the key, without the version.
	key string
	// version is that of an Azure address that names one.
	version string
	// region is AWS's.
	region string
	// mount is where Vault has its transit engine.
	mount string
	// plain says that the service is spoken to without TLS, which only loopback is.
	plain bool
}

// String returns the address as it was given.
func (a Address) String() string { return a.text }

// Kind says which service it is.
func (a Address) Kind() Kind { return a.kind }

// IsZero reports whether there is no keeper.
func (a Address) IsZero() bool { return a.kind == "" }

// Forms are the forms of an address, for messages and documentation.
const Forms = "aws-kms://REGION/KEY, gcp-kms://projects/…/locations/…/keyRings/…/cryptoKeys/KEY, azure-keyvault://VAULT-HOST/keys/KEY or vault-transit://HOST:PORT/MOUNT/KEY"

var errForm = errors.New("must be " + Forms)

// Parse reads an address. It refuses what a service would have to guess at; the error never quotes the text, which may hold what somebody
// pasted by mistake.
func Parse(text string) (Address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || len(text) > 512 || rest == "" {
		return Address{}, errForm
	}
	a := Address{kind: Kind(scheme), text: text}
	switch a.kind {
	case VaultTransit, VaultTransit + plainSuffix:
		return a.vault(rest)
	case AWS:
		return a.aws(rest)
	case GCP:
		return a.gcp(rest)
	case Azure:
		return a.azure(rest)
	}
	return Address{}, errForm
}

// plainSuffix marks the one form that is spoken to without TLS.
const plainSuffix = "+http"

func (a Address) vault(rest string) (Address, error) {
	bad := errors.New("must be vault-transit://HOST:PORT/MOUNT/KEY, such as vault-transit://vault.example.com:8200/transit/signalbox")
	a.plain = strings.HasSuffix(string(a.kind), plainSuffix)
	a.kind = VaultTransit
	host, path, _ := strings.Cut(rest, "/")
	i := strings.LastIndexByte(path, '/')
	if i < 1 {
		return Address{}, bad
	}
	a.mount, a.key = path[:i], path[i+1:]
	if !segments(a.mount) || !segments(a.key) {
		return Address{}, bad
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), "8200"
		host = net.JoinHostPort(name, port)
	}
	if a.host = host; !hostName(name) || !portNumber(port) {
		return Address{}, bad
	}
	if a.plain && !thisMachine(name) {
		return Address{}, errors.New("is vault-transit+http, which is for a Vault on this machine only (127.0.0.1, ::1 or localhost); write vault-transit:// and let it speak TLS")
	}
	return a, nil
}

func (a Address) aws(rest string) (Address, error) {
	bad := errors.New("must be aws-kms://REGION/KEY with a key id, alias/NAME or an ARN, such as aws-kms://eu-central-1/1234abcd-12ab-34cd-56ef-1234567890ab")
	region, key, _ := strings.Cut(rest, "/")
	if key == "" || strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Count(region, "-") < 2 {
		return Address{}, bad
	}
	a.region, a.key = region, key
	resource := key
	if strings.HasPrefix(key, "arn:") {
		part := strings.SplitN(key, ":", 6) // arn:aws:kms:REGION:ACCOUNT:key/ID
		if len(part) != 6 || part[2] != "kms" || strings.Trim(part[4], "0123456789") != "" || !segments(part[1]) {
			return Address{}, bad
		}
		if part[3] != region {
			return Address{}, errors.New("names one region and an ARN of another; write the region of the key in both places")
		}
		if resource = part[5]; !strings.HasPrefix(resource, "key/") && !strings.HasPrefix(resource, "alias/") {
			return Address{}, bad
		}
	} else if strings.Contains(key, "/") && !strings.HasPrefix(key, "alias/") {
		return Address{}, bad
	}
	if !segments(resource) {
		return Address{}, bad
	}
	return a, nil
}

func (a Address) gcp(rest string) (Address, error) {
	part := strings.Split(rest, "/")
	if len(part) != 8 || part[0] != "projects" || part[2] != "locations" || part[4] != "keyRings" || part[6] != "cryptoKeys" {
		return Address{}, errors.New("must be gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY; the version is the service's to choose")
	}
	for i := 1; i < len(part); i += 2 {
		if !segments(strings.ReplaceAll(part[i], ":", "_")) { // a project of a domain is example.com:name
			return Address{}, errors.New("must be gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY, of letters, digits, - and _")
		}
	}
	a.key = rest
	return a, nil
}

func (a Address) azure(rest string) (Address, error) {
	bad := errors.New("must be azure-keyvault://VAULT-HOST/keys/KEY or …/keys/KEY/VERSION, such as azure-keyvault://example.vault.azure.net/keys/signalbox")
	part := strings.Split(rest, "/")
	if len(part) < 3 || len(part) > 4 || part[1] != "keys" || !segments(strings.Join(part[2:], "/")) {
		return Address{}, bad
	}
	a.host, a.key = part[0], part[2]
	if len(part) == 4 {
		a.version = part[3]
	}
	if _, ok := azureDomain(a.host); !ok {
		return Address{}, bad
	}
	return a, nil
}

// segments reports whether every part between slashes is a plain name: nothing that a URL would read as something else.
func segments(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			return false
		}
	}
	return true
}

func portNumber(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func hostName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return segments(name) && !strings.Contains(name, "/") && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".")
}
