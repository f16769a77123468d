package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// gcpKMS is Google Cloud KMS. Google's own library finds the credentials and fetches the tokens.
type gcpKMS struct {
	wire
	base string
	mu   sync.Mutex
	from oauth2.TokenSource
}

const gcpScope = "https://www.googleapis.com/auth/cloudkms"

func openGCP(cfg Config) (*gcpKMS, error) {
	base := "https://cloudkms.googleapis.com"
	if cfg.base != "" {
		base = cfg.base
	}
	// Private Google access gives these names private addresses.
	hosts := []string{"cloudkms.googleapis.com", "oauth2.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com", hostOf(cfg.base)}
	if cfg.base != "" {
		hosts = append(hosts, "127.0.0.1")
	}
	metadata := append([]string{"metadata.google.internal"}, awsMetadata()...) // a federated identity may be AWS's
	client, err := guarded(hosts, metadata, cfg.roots)
	if err != nil {
		return nil, err
	}
	k := &gcpKMS{base: base + "/v1/"}
	k.wire = wire{at: cfg.Address, client: client, quick: cfg.quick, sign: k.sign, judge: judgeGCP}
	return k, nil
}

// sign fetches a token when the one before nears its end. Google's library takes no deadline for that; our client's bounds each call of it.
func (k *gcpKMS) sign(_ context.Context, req *http.Request) error {
	from, err := k.source()
	if err != nil {
		return k.at.fault(noCredentials, errors.New("none of Google's sources of credentials had some"))
	}
	token, err := from.Token()
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) {
			return k.at.fault(unknownCaller, errors.New("no token was given for the credentials"))
		}
		return k.at.fault(unreachable, outbound.Clean(err))
	}
	req.Header.Set("Authorization", "Bearer "+token.AccessToken)
	return nil
}

func (k *gcpKMS) source() (oauth2.TokenSource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from != nil {
		return k.from, nil
	}
	// The context outlives this call: it says for all later ones which client to use.
	found, err := google.FindDefaultCredentials(context.WithValue(context.Background(), oauth2.HTTPClient, k.client), gcpScope)
	if err != nil {
		return nil, err
	}
	k.from = found.TokenSource
	return k.from, nil
}

func judgeGCP(status int, body []byte) (trouble, bool) {
	var e struct {
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &e) // without a status of Google's the one of HTTP decides
	switch {
	case status == http.StatusUnauthorized:
		return unknownCaller, false
	case status == http.StatusForbidden:
		return denied, false
	case status == http.StatusNotFound:
		return keyMissing, false
	case e.Error.Status == "FAILED_PRECONDITION":
		return keyUnusable, false
	case status == http.StatusBadRequest:
		return foreign, false
	}
	return failed, status >= 500
}

// crc is CRC-32C, by which Google asks both sides to see that nothing on the way changed what was sent.
func crc(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

// Wrap encrypts under the primary version of the key.
func (k *gcpKMS) Wrap(ctx context.Context, root secret.RootKey) (Wrapped, error) {
	plain, aad := root.Value().Bytes(), binding(root.ID())
	in := map[string]any{
		"plaintext": plain, "plaintextCrc32c": fmt.Sprint(crc(plain)),
		"additionalAuthenticatedData": aad, "additionalAuthenticatedDataCrc32c": fmt.Sprint(crc(aad)),
	}
	for range tries {
		var out struct {
			Name          string `json:"name"`
			Ciphertext    []byte `json:"ciphertext"`
			Sum           *int64 `json:"ciphertextCrc32c,string"`
			PlainVerified bool   `json:"verifiedPlaintextCrc32c"`
			AADVerified   bool   `json:"verifiedAdditionalAuthenticatedDataCrc32c"`
		}
		if err := k.call(ctx, http.MethodPost, k.base+k.at.key+":encrypt", in, &out); err != nil {
			if isTrouble(err, foreign) { // there is nothing to open here
				return Wrapped{}, k.at.fault(keyUnusable, errors.Unwrap(err))
			}
			return Wrapped{}, err
		}
		version, ok := strings.CutPrefix(out.Name, k.at.key+"/cryptoKeyVersions/")
		if !ok || version == "" || len(out.Ciphertext) == 0 {
			return Wrapped{}, k.at.fault(failed, errors.New("it wrapped with another key than it was asked to"))
		}
		if out.PlainVerified && out.AADVerified && out.Sum != nil && *out.Sum == crc(out.Ciphertext) {
			return Wrapped{Blob: out.Ciphertext, KeyVersion: version}, nil
		}
	}
	return Wrapped{}, k.at.fault(corrupted, errors.New("what was encrypted is not what was sent"))
}

// Unwrap decrypts; the ciphertext says by which version.
func (k *gcpKMS) Unwrap(ctx context.Context, rootKeyID string, w Wrapped) (secret.RootKey, error) {
	aad := binding(rootKeyID)
	in := map[string]any{
		"ciphertext": w.Blob, "ciphertextCrc32c": fmt.Sprint(crc(w.Blob)),
		"additionalAuthenticatedData": aad, "additionalAuthenticatedDataCrc32c": fmt.Sprint(crc(aad)),
	}
	for range tries {
		var out struct {
			Plaintext []byte `json:"plaintext"`
			Sum       *int64 `json:"plaintextCrc32c,string"`
		}
		if err := k.call(ctx, http.MethodPost, k.base+k.at.key+":decrypt", in, &out); err != nil {
			return secret.RootKey{}, err
		}
		if out.Sum != nil && *out.Sum == crc(out.Plaintext) {
			return k.at.checked(secret.New(out.Plaintext), rootKeyID)
		}
	}
	return secret.RootKey{}, k.at.fault(corrupted, errors.New("what arrived is not what was decrypted"))
}

// Look reads the key with its primary version.
func (k *gcpKMS) Look(ctx context.Context) (Key, error) {
	var out struct {
		Purpose string `json:"purpose"`
		Primary struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"primary"`
	}
	if err := k.call(ctx, http.MethodGet, k.base+k.at.key, nil, &out); err != nil {
		return Key{}, err
	}
	if out.Purpose != "ENCRYPT_DECRYPT" || out.Primary.Name == "" {
		return Key{}, k.at.fault(keyUnusable, errors.New("the key does not encrypt, or has no primary version"))
	}
	key := Key{Version: out.Primary.Name[strings.LastIndexByte(out.Primary.Name, '/')+1:], State: Disabled}
	switch out.Primary.State {
	case "ENABLED":
		key.State = Enabled
	case "DESTROY_SCHEDULED", "DESTROYED":
		key.State = Going
	}
	return key, nil
}
