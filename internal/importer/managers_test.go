package importer

import (
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/vault"
)

// bitwardenFile has an item of each type, in the shape of https://bitwarden.com/help/condition-bitwarden-import/.
const bitwardenFile = `{
  "encrypted": false,
  "items": [
    {"passwordHistory": [{"lastUsedDate": "2020-01-01T00:00:00Z", "password": "old-` + planted + `"}], "revisionDate": "2020-01-01T00:00:00Z", "creationDate": "2020-01-01T00:00:00Z", "deletedDate": null,
     "id": "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", "organizationId": null, "folderId": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "type": 1, "reprompt": 0, "name": "My Gmail Login",
     "notes": "This is my gmail login for import.", "favorite": false,
     "fields": [{"name": "custom-field-1", "value": "` + planted + `-one", "type": 0}, {"name": "Hidden Field", "value": "` + planted + `-two", "type": 1}, {"name": "box", "value": "true", "type": 2}, {"name": "linked", "value": null, "type": 3, "linkedId": 100}],
     "login": {"uris": [{"match": null, "uri": "https://mail.google.com"}, {"match": null, "uri": "androidapp://com.google"}], "username": "myaccount@gmail.com", "password": "` + planted + `-pw", "totp": "otpauth://totp/my-secret-key?secret=` + planted + `"},
     "collectionIds": null},
    {"id": "2", "type": 2, "name": "My Secure Note", "notes": "` + planted + ` note", "secureNote": {"type": 0}},
    {"id": "3", "type": 3, "name": "Card Name", "card": {"cardholderName": "Jane Doe", "brand": "Visa", "number": "1234567891011121", "expMonth": "10", "expYear": "2021", "code": "` + planted + `"}},
    {"id": "4", "type": 4, "name": "My Identity", "identity": {"title": "Mrs", "firstName": "Jane", "ssn": "` + planted + `", "company": null}},
    {"id": "5", "type": 5, "name": "deploy", "sshKey": {"privateKey": "-----BEGIN OPENSSH PRIVATE KEY-----\n` + planted + `\n-----END OPENSSH PRIVATE KEY-----", "publicKey": "ssh-ed25519 AAAA", "keyFingerprint": "SHA256:abc"}},
    {"id": "5", "type": 1, "name": "in the trash", "deletedDate": "2024-01-01T00:00:00Z", "login": {"password": "x"}},
    {"id": "6", "type": 1, "name": "only a passkey", "login": {"fido2Credentials": [{"credentialId": "x"}]}},
    {"id": "7", "type": 9, "name": "of the future"}
  ],
  "folders": [{"id": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "name": "Mail"}]
}`

func TestImportBitwarden(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		r := y.run(y.admin, with("bitwarden.json", bitwardenFile))
		require.Equal(t, []string{"bitwarden"}, r.Formats)
		require.Equal(t, [4]int{7, 0, 3, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong})
		c := y.named("My Gmail Login")
		require.Equal(t, vault.Password, c.Type)
		require.Equal(t, []string{"Mail"}, c.Tags)
		require.Equal(t, "https://mail.google.com", c.ExternalURL)
		require.True(t, c.Requires2FA)
		require.Contains(t, c.Notes.Reveal(), "androidapp://com.google")
		require.Equal(t, planted+"-pw", y.field("My Gmail Login", "password"))
		require.Equal(t, planted+"-two", y.field("My Gmail Login fields", "hidden_field"))
		require.Contains(t, y.field("My Gmail Login one-time password", "secret"), "otpauth://")
		require.Equal(t, planted+" note", y.field("My Secure Note", "note"))
		require.Equal(t, planted, y.field("Card Name", "card_code"))
		require.Equal(t, planted, y.field("My Identity", "identity_ssn"))
		require.Contains(t, y.field("deploy", "private_key"), planted)
		require.Equal(t, []string{"older passwords are not taken over"}, r.Rows[0].Notes)
		again := y.run(y.admin, with("bitwarden.json", bitwardenFile))
		require.Equal(t, [2]int{0, 7}, [2]int{again.Created, again.Duplicates})
	})
}

// sealBitwarden makes the protected form of an export, as https://bitwarden.com/help/encrypted-export/ describes it.
func sealBitwarden(t testing.TB, text, password string) string {
	t.Helper()
	const salt, iterations = "c2FsdHNhbHRzYWx0c2FsdA==", 5_000
	master, err := pbkdf2.Key(sha256.New, password, []byte(salt), iterations, 32)
	require.NoError(t, err)
	enc, err := hkdf.Expand(sha256.New, master, "enc", 32)
	require.NoError(t, err)
	mac, err := hkdf.Expand(sha256.New, master, "mac", 32)
	require.NoError(t, err)
	seal := func(plain string) string {
		pad := aes.BlockSize - len(plain)%aes.BlockSize
		data := append([]byte(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
		iv := make([]byte, aes.BlockSize)
		_, _ = rand.Read(iv)
		block, err := aes.NewCipher(enc)
		require.NoError(t, err)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
		h := hmac.New(sha256.New, mac)
		h.Write(iv)
		h.Write(data)
		b := base64.StdEncoding.EncodeToString
		return "2." + b(iv) + "|" + b(data) + "|" + b(h.Sum(nil))
	}
	out, err := json.Marshal(map[string]any{"encrypted": true, "passwordProtected": true, "salt": salt, "kdfType": 0, "kdfIterations": iterations, "kdfMemory": nil, "kdfParallelism": nil,
		"encKeyValidation_DO_NOT_EDIT": seal("b4c1e6a0-0000-4000-8000-000000000000"), "data": seal(text)})
	require.NoError(t, err)
	return string(out)
}

func TestImportBitwardenProtected(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		in := with("b.json", sealBitwarden(t, bitwardenFile, "correct horse"))
		require.Contains(t, why(y.refused(y.admin, in)), "give it as the passphrase")
		in.Passphrase = secret.FromString("wrong")
		require.Contains(t, why(y.refused(y.admin, in)), "does not open")
		in.Passphrase = secret.FromString("correct horse")
		require.Equal(t, 7, y.run(y.admin, in).Created)

		flipped := with("b.json", strings.Replace(string(in.Files[0].Data), `"data":"2.`, `"data":"2.A`, 1))
		flipped.Passphrase = in.Passphrase
		y.refused(y.admin, flipped)
		for text, want := range map[string]string{
			`{"encrypted":true,"encKeyValidation_DO_NOT_EDIT":"2.a|b|c","items":[]}`:                                                                "for the account that made it",
			`{"encrypted":true,"passwordProtected":true,"kdfType":1,"kdfIterations":3,"encKeyValidation_DO_NOT_EDIT":"2.a|b|c","data":"x"}`:         "Argon2id",
			`{"encrypted":true,"passwordProtected":true,"kdfType":0,"kdfIterations":900000000,"encKeyValidation_DO_NOT_EDIT":"2.a|b|c","data":"x"}`: "out of bounds",
		} {
			bad := with("b.json", text)
			bad.Passphrase = in.Passphrase
			require.Contains(t, why(y.refused(y.admin, bad)), want)
		}
	})
}

// puxFile is export.data in the shape of https://support.1password.com/1pux-format/.
const puxFile = `{"accounts":[{"attrs":{"accountName":"Wendy Appleseed","name":"Wendy Appleseed","email":"wendy@example.com","uuid":"D4RI47B7BNDT3LMMMEMN2IL7WQ","domain":"https://my.1password.com/"},
 "vaults":[{"attrs":{"uuid":"hfnjvi6aymbsnfc2xeeoheizda","desc":"","avatar":"","name":"Personal","type":"P"},"items":[
  {"uuid":"fkruyzrldizuqlnavfj3gltfwe","favIndex":1,"createdAt":1614298956,"updatedAt":1635346445,"state":"active","categoryUuid":"001",
   "details":{"loginFields":[{"value":"most-secure-` + planted + `","id":"","name":"password","fieldType":"P","designation":"password"},{"value":"wendy","id":"","name":"username","fieldType":"T","designation":"username"},{"value":"","id":"terms","name":"terms","fieldType":"C"}],
    "notesPlain":"This is a note. *bold*!","sections":[{"title":"Security","name":"Section_oazxddhvftfknycbbmh5ntwfa4","fields":[
      {"title":"PIN","id":"CCEF647B399604E8F6Q6C8C3W31AFD407","value":{"concealed":"` + planted + `-12345"},"indexAtTop":false,"guarded":false,"multiline":false,"dontGenerate":false,"inputTraits":{"keyboard":"default","correction":"default","capitalization":"default"}},
      {"title":"code","id":"TOTP_x","value":{"totp":"otpauth://totp/x?secret=` + planted + `"}},
      {"title":"mail","id":"e","value":{"email":{"email_address":"w@example.com","provider":null}}}]}],
    "passwordHistory":[{"value":"12345password","time":1458322355}]},
   "overview":{"subtitle":"","urls":[{"label":"","url":"https://www.dropbox.com/"}],"title":"Dropbox","url":"https://www.dropbox.com/","ps":100,"pbe":86.13,"pgrng":true,"tags":["work"]}},
  {"uuid":"2","state":"archived","categoryUuid":"114","details":{"sections":[{"title":"","fields":[{"title":"private key","id":"private_key","value":{"sshKey":{"privateKey":"-----BEGIN PRIVATE KEY-----\n` + planted + `\n-----END PRIVATE KEY-----","metadata":{"fingerprint":"SHA256:abc","keyType":"ed25519"}}}}]}]},"overview":{"title":"box"}},
  {"uuid":"3","state":"active","categoryUuid":"112","details":{"sections":[{"title":"","fields":[{"title":"username","id":"username","value":{"string":"bot"}},{"title":"credential","id":"credential","value":{"concealed":"key-` + planted + `-q7"}},{"title":"hostname","id":"hostname","value":{"string":"api.example.com"}}]}]},"overview":{"title":"API"}},
  {"uuid":"4","state":"active","categoryUuid":"005","details":{"password":"` + planted + `-generated"},"overview":{"title":""}},
  {"uuid":"5","state":"active","categoryUuid":"003","details":{"notesPlain":"secret ` + planted + `"},"overview":{"title":"Note"}},
  {"uuid":"6","state":"active","categoryUuid":"006","details":{"documentAttributes":{"fileName":"a.pdf","documentId":"x","decryptedSize":1}},"overview":{"title":"Doc"}},
  {"uuid":"7","state":"active","trashed":true,"categoryUuid":"001","details":{},"overview":{"title":"gone"}}
 ]}]}]}`

// zipped makes a zip archive of names and contents.
func zipped(t testing.TB, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.Create(pairs[i])
		require.NoError(t, err)
		_, err = w.Write([]byte(pairs[i+1]))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.String()
}

func TestImport1PUX(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		in := with("D4RI.1pux", zipped(t, "export.attributes", `{"version":3,"description":"1Password Unencrypted Export","createdAt":1585333569}`, "export.data", puxFile, "../../evil", "x", "files/a", "y"))
		r := y.run(y.admin, in)
		require.Equal(t, []string{"1password-1pux"}, r.Formats)
		require.Equal(t, [4]int{8, 0, 2, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong})
		c := y.named("Dropbox")
		require.Equal(t, []string{"Personal", "work"}, c.Tags)
		require.Equal(t, "wendy", c.Username)
		require.Equal(t, "most-secure-"+planted, y.field("Dropbox", "password"))
		require.Equal(t, planted+"-12345", y.field("Dropbox fields", "pin"))
		require.Equal(t, "w@example.com", y.field("Dropbox fields", "mail"))
		require.Contains(t, y.field("Dropbox one-time password", "secret"), "otpauth://")
		require.Equal(t, vault.SSHKey, y.named("box").Type)
		require.Equal(t, []string{"Personal", "archived"}, y.named("box").Tags)
		require.Equal(t, "key-"+planted+"-q7", y.field("API", "api_key"))
		require.Equal(t, "bot", y.named("API").Username)
		require.Equal(t, planted+"-generated", y.field("untitled, item 4", "password"))
		require.Equal(t, "secret "+planted, y.field("Note", "note"))
		require.Equal(t, 0, y.run(y.admin, in).Created)
	})
}

func TestImport1PasswordCSV(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		file := "Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n" +
			"\"Git, \"\"the\"\" forge\",https://git.example.com,root," + planted + "1,otpauth://totp/x?secret=" + planted + ",false,true,work;ops,\"two\nlines\"\n" +
			"Note,,,,,false,false,,keep " + planted + "\nEmpty,https://x.example.com,ada,,,false,false,,\n"
		for _, text := range []string{file, "\xef\xbb\xbf" + strings.ReplaceAll(file, "\n", "\r\n"), utf16le(file)} {
			r := y.run(y.admin, with("1p.csv", text))
			require.Equal(t, []string{"1password-csv"}, r.Formats)
			require.Equal(t, 3, r.Created+r.Duplicates)
			require.Equal(t, 1, r.Skipped)
		}
		c := y.named(`Git, "the" forge`)
		require.Equal(t, []string{"archived", "work", "ops"}, c.Tags)
		require.Equal(t, "two\nlines", c.Notes.Reveal())
		require.Equal(t, "keep "+planted, y.field("Note", "note"))
	})
}

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, r := range s {
		b = append(b, byte(r), byte(r>>8))
	}
	return string(b)
}
