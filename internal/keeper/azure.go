package keeper

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"signalbox.dev/signalbox/internal/secret"
)

// azureVault is a key of Azure Key Vault or of a Managed HSM. Microsoft's own library finds the credentials and fetches the tokens.
type azureVault struct {
	wire
	base string
	mu   sync.Mutex
	from azcore.TokenCredential
}

// The version of the API, and how keys wrap: RSA with OAEP and SHA-256, which every RSA key of either service does.
const (
	azureVersion = "7.4"
	azureWrap    = "RSA-OAEP-256"
)

// azureDomains are those of the services in Microsoft's clouds. A token is for one of them and is sent nowhere else.
func azureDomains() []string {
	return []string{"vault.azure.net", "managedhsm.azure.net", "vault.azure.cn", "managedhsm.azure.cn", "vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"}
}

// azureDomain returns the domain of a vault's host.
func azureDomain(host string) (string, bool) {
	for _, d := range azureDomains() {
		if name, ok := strings.CutSuffix(host, "."+d); ok && segments(name) && !strings.Contains(name, "/") {
			return d, true
		}
	}
	return "", false
}

func openAzure(cfg Config) (*azureVault, error) {
	a := cfg.Address
	base := "https://" + a.host
	if cfg.base != "" {
		base = cfg.base
	}
	hosts := []string{a.host, hostOf(cfg.base), hostOf(cfg.Getenv("AZURE_AUTHORITY_HOST"))}
	metadata := []string{"169.254.169.254"}
	for _, name := range []string{"IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT"} { // App Service, Arc and others
		metadata = append(metadata, hostOf(cfg.Getenv(name)))
	}
	client, err := guarded(hosts, metadata, cfg.roots)
	if err != nil {
		return nil, fmt.Errorf("the endpoints of Azure in the environment: %w", err)
	}
	k := &azureVault{base: base}
	k.wire = wire{at: a, client: client, quick: cfg.quick, sign: k.sign, judge: judgeAzure}
	return k, nil
}

func (k *azureVault) sign(ctx context.Context, req *http.Request) error {
	from, err := k.source()
	if err != nil {
		return k.at.fault(noCredentials, errors.New("none of Azure's sources of credentials had some"))
	}
	domain, ok := azureDomain(k.at.host)
	if !ok {
		return k.at.fault(failed, errors.New("the host is none of Azure's"))
	}
	token, err := from.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://" + domain + "/.default"}})
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		var refused *azidentity.AuthenticationFailedError
		if errors.As(err, &refused) {
			return k.at.fault(unknownCaller, errors.New("no token was given for the credentials"))
		}
		return k.at.fault(noCredentials, errors.New("none of Azure's sources of credentials gave a token"))
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	return nil
}

func (k *azureVault) source() (azcore.TokenCredential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from != nil {
		return k.from, nil
	}
	found, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: k.client, Retry: policy.RetryOptions{MaxRetries: tries - 1, TryTimeout: oneTry}, Telemetry: policy.TelemetryOptions{Disabled: true}},
	})
	if err != nil {
		return nil, err
	}
	k.from = found
	return found, nil
}

func judgeAzure(status int, body []byte) (trouble, bool) {
	has := func(code string) bool { return strings.Contains(string(body), `"`+code+`"`) }
	switch {
	case status == http.StatusUnauthorized:
		return unknownCaller, false
	case status == http.StatusForbidden && (has("KeyDisabled") || has("KeyExpired") || has("KeyNotYetValid")):
		return keyUnusable, false
	case status == http.StatusForbidden:
		return denied, false
	case status == http.StatusNotFound:
		return keyMissing, false
	case status == http.StatusConflict:
		return keyUnusable, false
	case status == http.StatusBadRequest:
		return foreign, false
	}
	return failed, status >= 500
}

// azureKey is a key as the service tells of it.
type azureKey struct {
	Key struct {
		ID   string `json:"kid"`
		Type string `json:"kty"`
	} `json:"key"`
	Attributes struct {
		Enabled bool `json:"enabled"`
	} `json:"attributes"`
}

// version reads the version out of a key's id, https://HOST/keys/NAME/VERSION, if it is one of the configured key.
func (k *azureVault) version(id string) (string, bool) {
	v, ok := strings.CutPrefix(id, "https://"+k.at.host+"/keys/"+k.at.key+"/")
	return v, ok && segments(v) && !strings.Contains(v, "/") && (k.at.version == "" || k.at.version == v)
}

func (k *azureVault) look(ctx context.Context) (key azureKey, version string, err error) {
	at := k.base + "/keys/" + k.at.key
	if k.at.version != "" {
		at += "/" + k.at.version
	}
	if err := k.call(ctx, http.MethodGet, at+"?api-version="+azureVersion, nil, &key); err != nil {
		return key, "", err
	}
	version, ok := k.version(key.Key.ID)
	if !ok {
		return key, "", k.at.fault(failed, errors.New("it tells of another key than it was asked for"))
	}
	return key, version, nil
}

// Wrap wraps under the newest version, or the one that the address names. Azure's wrapKey has nothing to bind a wrapping to; that the root key
// has the id beside it and opens the keyring proves the same.
func (k *azureVault) Wrap(ctx context.Context, root secret.RootKey) (Wrapped, error) {
	key, version, err := k.look(ctx)
	if err != nil {
		return Wrapped{}, err
	}
	if !strings.HasPrefix(key.Key.Type, "RSA") {
		return Wrapped{}, k.at.fault(keyUnusable, errors.New("the key is not of type RSA"))
	}
	sealed, err := k.turn(ctx, version, "wrapkey", root.Value().Bytes())
	if err != nil {
		if isTrouble(err, foreign) { // there is nothing to open here
			return Wrapped{}, k.at.fault(keyUnusable, errors.Unwrap(err))
		}
		return Wrapped{}, err
	}
	return Wrapped{Blob: sealed, KeyVersion: version}, nil
}

// Unwrap unwraps with the version that wrapped.
func (k *azureVault) Unwrap(ctx context.Context, rootKeyID string, w Wrapped) (secret.RootKey, error) {
	if _, ok := k.version("https://" + k.at.host + "/keys/" + k.at.key + "/" + w.KeyVersion); !ok {
		return secret.RootKey{}, k.at.fault(foreign, errors.New("another version wrapped it, by what is written beside it"))
	}
	raw, err := k.turn(ctx, w.KeyVersion, "unwrapkey", w.Blob)
	if err != nil {
		return secret.RootKey{}, err
	}
	return k.at.checked(secret.New(raw), rootKeyID)
}

func (k *azureVault) turn(ctx context.Context, version, act string, value []byte) ([]byte, error) {
	var out struct {
		ID    string `json:"kid"`
		Value string `json:"value"`
	}
	in := map[string]string{"alg": azureWrap, "value": base64.RawURLEncoding.EncodeToString(value)}
	if err := k.call(ctx, http.MethodPost, k.base+"/keys/"+k.at.key+"/"+version+"/"+act+"?api-version="+azureVersion, in, &out); err != nil {
		return nil, err
	}
	if v, ok := k.version(out.ID); !ok || v != version {
		return nil, k.at.fault(failed, errors.New("it used another key than it was asked to"))
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(out.Value, "="))
	if err != nil || len(b) == 0 {
		return nil, k.at.fault(failed, errors.New("its answer is not what it should be"))
	}
	return b, nil
}

// Look reads the key's newest version, or the one that the address names.
func (k *azureVault) Look(ctx context.Context) (Key, error) {
	key, version, err := k.look(ctx)
	if err != nil {
		return Key{}, err
	}
	out := Key{Version: version, State: Disabled}
	if key.Attributes.Enabled {
		out.State = Enabled
	}
	return out, nil
}
