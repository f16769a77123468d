package importer

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

// TestImportRefusesTheUnreadable: each of these is refused with a reason, stores nothing and quotes nothing.
func TestImportRefusesTheUnreadable(t *testing.T) {
	deep := strings.Repeat(`{"items":[`, 20_000) + planted
	huge := strings.Repeat("a", 70<<10)
	csv := "Title,Username,Password\n"
	cases := map[string]struct{ file, text, want string }{
		"nothing known":         {"x.bin", "hello " + planted, "no format that is known"},
		"invalid UTF-8":         {".env", "A=\xff" + planted, "not UTF-8"},
		"UTF-32":                {".env", "\xff\xfe\x00\x00A\x00\x00\x00", "UTF-32"},
		"half UTF-16":           {".env", "\xff\xfeA", "ends in the middle"},
		"a lone surrogate":      {".env", "\xff\xfeA\x00=\x00\x00\xd8b\x00", "half characters"},
		"NUL":                   {".env", "A=" + planted + "\x00", "NUL"},
		"NUL in UTF-16":         {".env", utf16le("A=\x00" + planted), "NUL"},
		"deep JSON":             {"b.json", deep, "no format that is known"},
		"deep Bitwarden":        {"b.json", `{"encrypted":false,"items":[{"type":1,"name":` + strings.Repeat(`[`, 20_000), "no format that is known"},
		"broken JSON":           {"a.credentials.json", `{"type":"api_key","api_key":"` + planted, "no format that is known"},
		"two texts":             {"a.credentials.json", `{"type":"api_key","api_key":"` + planted + `"}{"x":1}`, "goes on after"},
		"another type":          {"a.credentials.json", `{"type":"api_key","api_key":{"` + planted + `":1}}`, "of another type"},
		"an account of no type": {"a.credentials.json", `{"type":"` + planted + `","api_key":"x"}`, "its type must be"},
		"tokens that lack":      {"a.credentials.json", `{"type":"oauth","api_key":"` + planted + `"}`, "without its tokens"},
		"keys of no shape":      {"a.client-keys.json", `{"other":["` + planted + `"]}`, "not JSON of this format"},
		"a number as a key":     {"a.client-keys.json", `[5]`, "of another type"},
		"a short key":           {"a.client-keys.json", `["x-` + planted[:5] + `"]`, "must have 16 to 512"},
		"a train of no slug":    {"../" + planted[:3] + " x.client-keys.json", `["` + clientKey + `"]`, "train_id must be"},
		"quotes in CSV":         {"p.csv", csv + "a,b,\"" + planted + "\"x\n", "line 2"},
		"columns of CSV":        {"p.csv", csv + "a,b,c,d\n", "another number of columns"},
		"a column twice":        {"p.csv", "Title,Password,Password\na,b,c\n", "no format that is known"},
		"a huge field":          {"p.csv", csv + "a,b," + huge + "\n", "is too long"},
		"a zip of nothing":      {"x.1pux", zipped(t, "export.attributes", "{}"), "without export.data"},
		"a zip with twins":      {"x.1pux", zipped(t, "export.data", puxFile, "export.data", puxFile), "twice"},
		"a path in a zip":       {"x.1pux", zipped(t, "../export.data", puxFile, "/export.data", puxFile), "without export.data"},
		"a cut zip":             {"x.1pux", zipped(t, "export.data", puxFile)[:400], "no zip archive"},
		"a zip bomb":            {"x.1pux", zipped(t, "export.data", `{"accounts":[{"vaults":"`+strings.Repeat(" ", testUnpack)+`"}]}`), "unpacks to more"},
		"a gzip bomb":           {".env", gzipped(t, strings.Repeat("A=1\n", testUnpack/4+1)), "unpacks to more"},
		"a cut gzip":            {".env", gzipped(t, envFile)[:60], "does not unpack to its end"},
		"no gzip":               {".env", "\x1f\x8b" + planted, "begins like a gzip"},
		"an archive of another": {"x.age", "age-encryption.org/v1\n" + planted, "give the passphrase"},
	}
	each(t, func(t *testing.T, y *yard) {
		y.unpack = testUnpack
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				require.Contains(t, why(y.refused(y.admin, with(c.file, c.text))), c.want)
			})
		}
	})
}

// testUnpack is what an import may unpack to here.
const testUnpack = 1 << 20

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.String()
}

// TestFormatOfAnotherKind: a format that is named is not guessed, and a file that is not of it is refused.
func TestFormatOfAnotherKind(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			room := int64(1 << 20)
			form, ok := lookup(name)
			require.True(t, ok)
			for _, text := range []string{"", "{", "[]", "null", `"` + planted + `"`, "PK\x03\x04", "\x00", "age-encryption.org/v1\n"} {
				found := items{most: 10}
				err := form.parse(&file{name: "x", data: []byte(text), room: &room, passphrase: secret.FromString("x")}, &found)
				if err != nil {
					require.IsType(t, &problem{}, err)
					require.NotContains(t, err.Error(), planted)
				}
			}
		})
	}
}

func FuzzExecutor(f *testing.F) {
	fuzz(f, "mcp-executor", `[{"userId":7,"mcpServerId":"files","encryptedCredentials":"AAECAwQFBgcICQoL"}]`, `{"user_id":"7","mcp_server_id":"files","encrypted_credentials":"\\x00"}
{}`, `[{}]`)
}

// The parsers take anything: they end, do not panic, and quote nothing of what they refuse.
func fuzz(f *testing.F, format string, seeds ...string) {
	form, ok := lookup(format)
	if !ok {
		f.Fatal("no such format")
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		room := int64(1 << 20)
		in := &file{name: "web.client-keys.json", data: data, room: &room, passphrase: secret.FromString("correct horse")}
		form.looks(in)
		found := items{most: 1000}
		if err := form.parse(in, &found); err != nil {
			if _, ours := err.(*problem); !ours {
				t.Fatalf("an error that is not ours: %T", err)
			}
			return
		}
		for _, i := range found.list {
			n := 0
			for _, there := range []bool{i.credential != nil, i.key != nil, i.skip != ""} {
				if there {
					n++
				}
			}
			if n != 1 || i.place == "" {
				t.Fatalf("an entry is %d things", n)
			}
		}
	})
}

func FuzzEnv(f *testing.F) { fuzz(f, "env", envFile, "A=\"", "export A='x\ny'", "\xff\xfeA\x00=\x00") }
func FuzzClaude(f *testing.F) {
	fuzz(f, "claude", `{"claudeAiOauth":{"accessToken":"a","expiresAt":1,"scopes":"a b"}}`)
}
func FuzzProxyAccount(f *testing.F) {
	fuzz(f, "proxy-accounts", `{"type":"oauth","oauth":{"accessToken":"a","expiresAt":"2030-01-01T00:00:00Z"},"slack":{"a":1}}`)
}
func FuzzProxyKeys(f *testing.F) {
	fuzz(f, "proxy-keys", `["a",{"key":"b"}]`, `{"keys":[]}`, `{"client_api_keys":[{"revoked":true}]}`)
}
func FuzzBitwarden(f *testing.F) {
	fuzz(f, "bitwarden", bitwardenFile, sealBitwarden(f, bitwardenFile, "correct horse"))
}
func Fuzz1PUX(f *testing.F) { fuzz(f, "1password-1pux", zipped(f, "export.data", puxFile)) }
func Fuzz1PasswordCSV(f *testing.F) {
	fuzz(f, "1password-csv", "Title,Url,Username,Password,OTPAuth\na,b,c,d,e\n")
}
func FuzzArchive(f *testing.F) {
	f.Add([]byte(`{"archive":{"format":"signalbox-export","version":1,"created_at":"2026-01-01T00:00:00Z"}}` + "\n" + `{"credential":{"type":"password","name":"n","secrets":{"password":"p"}}}` + "\n" + `{"end":{"credentials":1,"left_out":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		room := int64(1 << 20)
		found := items{most: 1000}
		if err := readArchive(&metered{from: bytes.NewReader(data), file: &file{room: &room}}, &found); err != nil {
			if _, ours := err.(*problem); !ours {
				t.Fatalf("an error that is not ours: %T", err)
			}
		}
	})
}

// TestMuchOfOneKind: what is alike in very many ways costs no more for each than for the first.
func TestMuchOfOneKind(t *testing.T) {
	const many = 30_000
	room := int64(64 << 20)
	read := func(format, text string) []item {
		form, _ := lookup(format)
		found := items{most: maxItems}
		require.NoError(t, form.parse(&file{name: "x", data: []byte(text), room: &room}, &found))
		return found.list
	}
	require.Len(t, read("env", strings.Repeat("A=\"b c\"\n", many)), many)
	list := read("bitwarden", `{"encrypted":false,"items":[{"type":1,"name":"n","login":{"password":"p"},"fields":[`+strings.Repeat(`{"name":"a","value":"x","type":1},`, many)+`{"name":"a","value":"x","type":1}]}]}`)
	require.Len(t, list, 2)
	require.Len(t, list[1].credential.Secrets, fieldsMost)
	require.Contains(t, strings.Join(list[0].notes, " "), "29969 fields beyond")
	require.Len(t, read("1password-csv", "Title,Password\n"+strings.Repeat("n,p\n", many)), many)
}

// TestManyOfOneName: each is kept, under a name of its own, and is known again.
func TestManyOfOneName(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		const many = 300
		var b strings.Builder
		b.WriteString("Title,Username,Password\n")
		for i := range many {
			b.WriteString("n,u," + planted + strconv.Itoa(i) + "\n")
		}
		r := y.run(y.admin, with("p.csv", b.String()))
		require.Equal(t, many, r.Created)
		require.Equal(t, "n (300)", r.Rows[many-1].Name)
		require.Equal(t, many, y.run(y.admin, with("p.csv", b.String())).Duplicates)
	})
}

// TestEncryptedFilesAreFew: each costs a second of work.
func TestEncryptedFilesAreFew(t *testing.T) {
	each(t, func(t *testing.T, y *yard) {
		var in Request
		for range sealedMost + 1 {
			in.Files = append(in.Files, File{Name: "b.json", Data: []byte(sealBitwarden(t, bitwardenFile, "correct horse"))})
		}
		in.Passphrase = secret.FromString("correct horse")
		require.Contains(t, why(y.refused(y.admin, in)), "one encrypted file too many")
	})
}

// TestDuplicateIdsInAFile: what a manager calls an entry decides nothing. Two of one id with different secrets are both kept, two that are alike are one, and
// an account id that is given twice is refused as a whole.
func TestDuplicateIdsInAFile(t *testing.T) {
	login := func(name, password string) string {
		return `{"id":"0e1","type":1,"name":"` + name + `","login":{"username":"u","password":"` + planted + password + `"}}`
	}
	item := func(name, password string) string {
		return `{"uuid":"0e1","state":"active","categoryUuid":"005","details":{"password":"` + planted + password + `"},"overview":{"title":"` + name + `"}}`
	}
	each(t, func(t *testing.T, y *yard) {
		for _, in := range []Request{
			with("b.json", `{"encrypted":false,"items":[`+login("bit", "1")+`,`+login("bit", "2")+`,`+login("bat", "3")+`,`+login("bit", "1")+`]}`),
			with("p.1pux", zipped(t, "export.data", `{"accounts":[{"attrs":{},"vaults":[{"attrs":{"name":"V"},"items":[`+item("one", "4")+`,`+item("one", "5")+`,`+item("two", "6")+`,`+item("one", "4")+`]}]}]}`)),
		} {
			r := y.run(y.admin, in)
			require.Equal(t, [4]int{3, 1, 0, 0}, [4]int{r.Created, r.Duplicates, r.Skipped, r.Wrong}, "%+v", r.Rows)
			require.Equal(t, 1, r.Rows[3].SameAs)
			require.Equal(t, [2]int{0, 4}, func() [2]int { again := y.run(y.admin, in); return [2]int{again.Created, again.Duplicates} }())
		}
		require.Equal(t, planted+"2", y.field("bit (2)", "password"))
		require.Equal(t, planted+"5", y.field("one (2)", "password"))

		twice := with("a.credentials.json", `{"type":"api_key","accountId":"acc_twice","api_key":"`+anthropicKey+`1"}`, "b.credentials.json", `{"type":"api_key","accountId":"acc_twice","api_key":"`+anthropicKey+`2"}`)
		f := y.refused(y.admin, twice)
		require.Contains(t, why(f), "an earlier entry has the same account id, and another secret")
	})
}
