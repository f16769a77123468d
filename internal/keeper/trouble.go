package keeper

import (
	"errors"

	"signalbox.dev/signalbox/internal/fault"
)

// trouble is why a keeper could not do what it was asked.
type trouble int

const (
	failed        trouble = iota // the service failed, or its answer makes no sense
	unreachable                  // no answer
	throttled                    // too many calls
	denied                       // it knows us and says no
	unknownCaller                // it does not know us
	noCredentials                // there is nothing to show it
	keyMissing                   // it has no such key
	keyUnusable                  // the key is disabled, to be deleted, or not for this
	foreign                      // the wrapping is not one of this key
	otherKey                     // it unwraps, to something else
	corrupted                    // the checksums do not agree
	elsewhere                    // it points to another address
	sealedVault                  // Vault itself is sealed
)

// verdict carries the trouble in the chain of a fault.
type verdict struct {
	trouble trouble
	cause   error
}

// Error is for the log.
func (v verdict) Error() string {
	text := "keeper: " + v.trouble.word()
	if v.cause != nil {
		text += ": " + v.cause.Error()
	}
	return text
}

// Unwrap returns what was behind it.
func (v verdict) Unwrap() error { return v.cause }

// isTrouble reports whether err is a failure of that kind.
func isTrouble(err error, t trouble) bool {
	var v verdict
	return errors.As(err, &v) && v.trouble == t
}

// IsDenied reports whether a keeper knows us and does not let us do this.
func IsDenied(err error) bool { return isTrouble(err, denied) }

// fault says what happened, with which keeper, and what to do. The cause holds words of ours alone; what a transport says is cleaned before.
func (a Address) fault(t trouble, cause error) error {
	what, do := a.words(t)
	return fault.New(fault.Unavailable, "root_key_keeper", "The keeper of the root key, "+a.text+", "+what+". "+do).Because(verdict{t, cause})
}

func (t trouble) word() string {
	return [...]string{"failed", "unreachable", "throttled", "denied", "unknown caller", "no credentials", "no such key", "unusable key", "foreign wrapping",
		"another root key", "corrupted", "elsewhere", "sealed"}[t]
}

func (a Address) words(t trouble) (what, do string) {
	switch t {
	case unreachable:
		return "cannot be reached", "See that this machine may connect to it, that its name resolves and that its certificate is one that this machine trusts, and start again."
	case throttled:
		return "says that it was asked too often", "Wait a minute and start again; if it stays so, raise the quota of the key management service."
	case denied:
		return "refuses this server", "Give the server's identity the permissions that docs/operations/kms.md lists for " + a.kind.name() + ", on this key, and start again."
	case unknownCaller:
		return "does not accept this server's credentials", "Renew them (" + a.kind.credentials() + ") and start again."
	case noCredentials:
		return "needs credentials, and there are none", "Give some where " + a.kind.name() + " is used to find them (" + a.kind.credentials() + ") and start again."
	case keyMissing:
		return "has no such key", "Correct the address, or see whether the key was deleted; docs/operations/kms.md says what to do when it is lost."
	case keyUnusable:
		return "has the key, but it is disabled, about to be deleted, or not one for this", "Enable it, or take the deletion back, at " + a.kind.name() + " and start again; docs/operations/kms.md lists the kinds of key that fit."
	case foreign:
		return "cannot open the wrapped root key with this key", "Name the key that wrapped it (signalbox root-key list shows which), or, if old versions of the key were switched off, switch them on again."
	case otherKey:
		return "unwraps another root key than the one of this database", "Restore the table keyring_wrappings from a backup of this database, or name the keeper that belongs to it (signalbox root-key list)."
	case corrupted:
		return "and this server do not agree on checksums, so something on the way changes what is sent", "Look at what stands between (a proxy, a faulty network card) and start again."
	case elsewhere:
		return "points to another address, and none is followed", "Write the address of the active server itself."
	case sealedVault:
		return "is sealed or not ready", "Unseal Vault and start again."
	}
	return "failed", "Look at the service's own state, and start again when it is well; the log of this server has the kind of failure."
}

func (k Kind) name() string {
	switch k {
	case VaultTransit:
		return "Vault"
	case AWS:
		return "AWS KMS"
	case GCP:
		return "Google Cloud KMS"
	case Azure:
		return "Azure Key Vault"
	}
	return "the KMS"
}

// credentials names the places where a service's credentials are looked for.
func (k Kind) credentials() string {
	switch k {
	case VaultTransit:
		return "VAULT_TOKEN, VAULT_TOKEN_FILE or ~/.vault-token"
	case AWS:
		return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a web identity, or the role of the machine or container"
	case GCP:
		return "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, or the service account of the machine"
	case Azure:
		return "AZURE_TENANT_ID, AZURE_CLIENT_ID and a secret or certificate, a workload identity, or the managed identity of the machine"
	}
	return ""
}
