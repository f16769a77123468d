package keepertest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// AWS plays AWS KMS (https://docs.aws.amazon.com/kms/latest/APIReference/): JSON 1.1 with X-Amz-Target. It looks at who signed, not at the
// signature.
type AWS struct {
	Service
	region, access string
	aliases        map[string]string
}

// StartAWS starts KMS of a region, for one access key. Keys are made by their ids.
func StartAWS(t testing.TB, region, access string) *AWS {
	a := &AWS{region: region, access: access, aliases: map[string]string{}}
	a.init()
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

// ARN is a key's.
func (a *AWS) ARN(id string) string { return "arn:aws:kms:" + a.region + ":111122223333:key/" + id }

// Alias points an alias to a key.
func (a *AWS) Alias(name, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.aliases["alias/"+name] = id
}

func (a *AWS) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	target := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	r.URL.Path = "/" + target
	if a.played(w, r) {
		return
	}
	bad := func(code string) {
		w.Header().Set("X-Amzn-Errortype", code)
		reply(w, http.StatusBadRequest, map[string]string{"__type": code, "message": "planted-provider-text"})
	}
	scope := "Credential=" + a.access + "/"
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 "+scope) || !strings.Contains(auth, "/"+a.region+"/kms/aws4_request") {
		bad("UnrecognizedClientException")
		return
	}
	var in struct {
		KeyID             string `json:"KeyId"`
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		bad("SerializationException")
		return
	}
	id := in.KeyID
	if to, ok := a.aliases[id]; ok {
		id = to
	}
	id = id[strings.LastIndexByte(id, '/')+1:]
	k := a.keys[id]
	if k == nil {
		bad("NotFoundException")
		return
	}
	state := "Enabled"
	if k.disabled {
		state = "Disabled"
	}
	if target == "DescribeKey" {
		reply(w, http.StatusOK, map[string]any{"KeyMetadata": map[string]any{"KeyId": id, "Arn": a.ARN(id), "KeyState": state, "KeyUsage": "ENCRYPT_DECRYPT"}})
		return
	}
	if k.disabled {
		bad("DisabledException")
		return
	}
	bound, _ := json.Marshal(in.EncryptionContext) // maps are written in the order of their keys
	bound = append(bound, a.ARN(id)...)
	seal := aead(k.versions[0])
	if target == "Encrypt" {
		box := append([]byte(id+"|"), seal.Seal(nil, nil, in.Plaintext, bound)...)
		reply(w, http.StatusOK, map[string]any{"CiphertextBlob": box, "KeyId": a.ARN(id), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
		return
	}
	by, box, ok := bytes.Cut(in.CiphertextBlob, []byte("|"))
	if ok && string(by) != id {
		bad("IncorrectKeyException")
		return
	}
	plain, err := seal.Open(nil, nil, box, bound)
	if !ok || err != nil {
		bad("InvalidCiphertextException")
		return
	}
	reply(w, http.StatusOK, map[string]any{"Plaintext": plain, "KeyId": a.ARN(id), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

// GCP plays Google Cloud KMS (https://cloud.google.com/kms/docs/reference/rest) and the token endpoint of its service accounts.
type GCP struct {
	Service
	// Flip changes what leaves or arrives on the way, as a broken network card does, for so many answers.
	Flip int
}

// StartGCP starts it. Keys are made by their resource names; token is the one that its token endpoint gives.
func StartGCP(t testing.TB, token string) *GCP {
	g := &GCP{}
	g.init()
	g.token = token
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	return g
}

func castagnoli(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 10)
}

func (g *GCP) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.played(w, r) {
		return
	}
	bad := func(status int, word string) {
		reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": "planted-provider-text", "status": word}})
	}
	if r.URL.Path == "/token" {
		if err := r.ParseForm(); err != nil || strings.Count(r.PostForm.Get("assertion"), ".") != 2 {
			bad(http.StatusBadRequest, "INVALID_ARGUMENT")
			return
		}
		reply(w, http.StatusOK, map[string]any{"access_token": g.token, "token_type": "Bearer", "expires_in": 3600})
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+g.token {
		bad(http.StatusUnauthorized, "UNAUTHENTICATED")
		return
	}
	name, act, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
	k := g.keys[name]
	if k == nil {
		bad(http.StatusNotFound, "NOT_FOUND")
		return
	}
	n := len(k.versions)
	if act == "" {
		state := "ENABLED"
		if k.disabled {
			state = "DISABLED"
		}
		reply(w, http.StatusOK, map[string]any{"name": name, "purpose": "ENCRYPT_DECRYPT", "primary": map[string]any{"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", name, n), "state": state}})
		return
	}
	var in struct {
		Plaintext  []byte `json:"plaintext"`
		Ciphertext []byte `json:"ciphertext"`
		AAD        []byte `json:"additionalAuthenticatedData"`
		PlainSum   string `json:"plaintextCrc32c"`
		SealedSum  string `json:"ciphertextCrc32c"`
		AADSum     string `json:"additionalAuthenticatedDataCrc32c"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.AADSum != castagnoli(in.AAD) {
		bad(http.StatusBadRequest, "INVALID_ARGUMENT")
		return
	}
	if k.disabled {
		bad(http.StatusBadRequest, "FAILED_PRECONDITION")
		return
	}
	flip := func(b []byte) []byte {
		if g.Flip == 0 {
			return b
		}
		g.Flip--
		c := bytes.Clone(b)
		c[len(c)-1] ^= 1
		return c
	}
	if act == "encrypt" {
		box := append([]byte(fmt.Sprintf("%d|", n)), aead(k.versions[n-1]).Seal(nil, nil, in.Plaintext, in.AAD)...)
		reply(w, http.StatusOK, map[string]any{
			"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", name, n), "ciphertextCrc32c": castagnoli(box), "ciphertext": flip(box),
			"verifiedPlaintextCrc32c": in.PlainSum == castagnoli(in.Plaintext), "verifiedAdditionalAuthenticatedDataCrc32c": true, "protectionLevel": "SOFTWARE",
		})
		return
	}
	version, box, ok := strings.Cut(string(in.Ciphertext), "|")
	v, err := strconv.Atoi(version)
	if !ok || err != nil || v < 1 || v > n || in.SealedSum != castagnoli(in.Ciphertext) {
		bad(http.StatusBadRequest, "INVALID_ARGUMENT")
		return
	}
	if v < k.least {
		bad(http.StatusBadRequest, "FAILED_PRECONDITION")
		return
	}
	plain, err := aead(k.versions[v-1]).Open(nil, nil, []byte(box), in.AAD)
	if err != nil {
		bad(http.StatusBadRequest, "INVALID_ARGUMENT")
		return
	}
	reply(w, http.StatusOK, map[string]any{"plaintextCrc32c": castagnoli(plain), "plaintext": flip(plain), "usedPrimary": v == n})
}

// Azure plays Azure Key Vault (https://learn.microsoft.com/rest/api/keyvault/keys) over TLS, and the managed identity of an App Service over
// http.
type Azure struct {
	Service
	// Identity is the managed identity's endpoint.
	Identity *httptest.Server
	host     string
	pairs    map[string][]*rsa.PrivateKey
	// Type is the type of the keys.
	Type string
}

// StartAzure starts the vault of a host name; token is the one that it takes, and that the managed identity gives to who knows header.
func StartAzure(t testing.TB, host, token, header string) *Azure {
	a := &Azure{host: host, pairs: map[string][]*rsa.PrivateKey{}, Type: "RSA"}
	a.init()
	a.token = token
	a.Server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	a.Identity = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Identity-Header") != header || r.URL.Query().Get("resource") != "https://vault.azure.net" {
			reply(w, http.StatusBadRequest, map[string]string{"message": "planted-provider-text"})
			return
		}
		reply(w, http.StatusOK, map[string]any{"access_token": token, "expires_on": "4102444800", "resource": "https://vault.azure.net", "token_type": "Bearer"})
	}))
	t.Cleanup(a.Close)
	t.Cleanup(a.Identity.Close)
	return a
}

// RotateKey makes a key, or a further version of it.
func (a *Azure) RotateKey(name string) error {
	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	a.Rotate(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pairs[name] = append(a.pairs[name], pair)
	return nil
}

func azureVersion(n int) string { return fmt.Sprintf("%032x", n) }

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.played(w, r) {
		return
	}
	bad := func(status int, code, inner string) {
		reply(w, status, map[string]any{"error": map[string]any{"code": code, "message": "planted-provider-text", "innererror": map[string]string{"code": inner}}})
	}
	if r.Header.Get("Authorization") != "Bearer "+a.token {
		bad(http.StatusUnauthorized, "Unauthorized", "")
		return
	}
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.URL.Query().Get("api-version") == "" || len(part) < 2 || a.keys[part[1]] == nil {
		bad(http.StatusNotFound, "KeyNotFound", "")
		return
	}
	name, k := part[1], a.keys[part[1]]
	n := len(k.versions)
	if len(part) > 2 {
		v, err := strconv.ParseInt(part[2], 16, 32)
		if err != nil || v < 1 || int(v) > n {
			bad(http.StatusNotFound, "KeyNotFound", "")
			return
		}
		n = int(v)
	}
	kid := "https://" + a.host + "/keys/" + name + "/" + azureVersion(n)
	if len(part) < 4 {
		reply(w, http.StatusOK, map[string]any{"key": map[string]any{"kid": kid, "kty": a.Type}, "attributes": map[string]any{"enabled": !k.disabled}})
		return
	}
	if k.disabled {
		bad(http.StatusForbidden, "Forbidden", "KeyDisabled")
		return
	}
	var in struct {
		Alg   string `json:"alg"`
		Value string `json:"value"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	value, berr := base64.RawURLEncoding.DecodeString(in.Value)
	if err != nil || berr != nil || in.Alg != "RSA-OAEP-256" {
		bad(http.StatusBadRequest, "BadParameter", "")
		return
	}
	pair := a.pairs[name][n-1]
	var out []byte
	if part[3] == "wrapkey" {
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &pair.PublicKey, value, nil)
	} else {
		out, err = rsa.DecryptOAEP(sha256.New(), nil, pair, value, nil)
	}
	if err != nil {
		bad(http.StatusBadRequest, "BadParameter", "")
		return
	}
	reply(w, http.StatusOK, map[string]string{"kid": kid, "value": base64.RawURLEncoding.EncodeToString(out)})
}
