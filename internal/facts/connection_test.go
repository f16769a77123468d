package facts

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

const planted = "pl4ntedPassw0rd"

// TestConnectionStrings reads every form that is promised, and shows everything but the password.
func TestConnectionStrings(t *testing.T) {
	pg := Connection{Scheme: "postgres", Host: "db.example.com", Port: 5433, Database: "shop", User: "app", TLSMode: "verify-full"}
	my := Connection{Scheme: "mysql", Host: "db.example.com", Port: 3306, Database: "shop", User: "app", TLSMode: "true"}
	bare := func(scheme string) Connection { return Connection{Scheme: scheme, Host: "db.example.com", User: "app"} }
	for text, want := range map[string]Connection{
		"postgres://app:" + planted + "@db.example.com:5433/shop?sslmode=verify-full":                                                         pg,
		"postgresql+psycopg2://app:" + planted + "@db.example.com:5433/shop?sslmode=verify-full":                                              pg,
		"jdbc:postgresql://db.example.com:5433/shop?user=app&password=" + planted + "&sslmode=verify-full":                                    pg,
		"postgres:///shop?host=db.example.com&port=5433&user=app&password=" + planted + "&sslmode=verify-full":                                pg,
		"host=db.example.com port=5433 user=app password=" + planted + " dbname=shop sslmode=verify-full":                                     pg,
		"host = 'db.example.com' port=5433 user='app' password = 'a\\' host=evil " + planted + "' dbname='shop' sslmode=verify-full":          pg,
		"Driver={PostgreSQL Unicode};Server=db.example.com;Port=5433;Database=shop;Uid=app;Pwd={" + planted + "};SslMode=Verify-Full":         pg,
		"app:" + planted + "@tcp(db.example.com:3306)/shop?tls=true&parseTime=true":                                                           my,
		"mariadb+pymysql://app:" + planted + "@db.example.com:3306/shop?ssl=true":                                                             my,
		"mysql://app:" + planted + "@db.example.com:3306/shop?tls=true":                                                                       my,
		"app:" + planted + "@/p:@tcp(db.example.com:3306)/shop?tls=true":                                                                      my, // the driver takes the last / and @
		"Server=tcp:db.example.com,1433;Initial Catalog=shop;User ID=app;Password='" + planted + ";Server=evil';Encrypt=Strict":               {Scheme: "sqlserver", Host: "db.example.com", Port: 1433, Database: "shop", User: "app", TLSMode: "strict"},
		"jdbc:sqlserver://db.example.com:1433;databaseName=shop;user=app;password=" + planted + ";encrypt=true":                               {Scheme: "sqlserver", Host: "db.example.com", Port: 1433, Database: "shop", User: "app", TLSMode: "true"},
		"mongodb://app:" + planted + "@a.example.com:27017,b.example.com:27018/shop?tls=true":                                                 {Scheme: "mongodb", Host: "a.example.com", Port: 27017, Others: []string{"b.example.com:27018"}, Database: "shop", User: "app", TLSMode: "true"},
		"redis://app:" + planted + "@[2001:db8::1]:6380/2":                                                                                    {Scheme: "redis", Host: "2001:db8::1", Port: 6380, Database: "2", User: "app"},
		"rediss://:" + planted + "@db.example.com":                                                                                            {Scheme: "rediss", Host: "db.example.com"},
		"amqps://app:" + planted + "@db.example.com/vhost":                                                                                    bare("amqps"),
		"redis://app:pl4nted%40%2F%3F" + planted + "@db.example.com":                                                                          bare("redis"),
		"redis://app:pl@nted" + planted + "@db.example.com":                                                                                   bare("redis"), // the last @ ends the password
		"https://db.example.com/services/T0/" + planted:                                                                                       {Scheme: "https", Host: "db.example.com"},
		"https://" + planted + "@db.example.com/1":                                                                                            {Scheme: "https", Host: "db.example.com"}, // a token alone stands where a user does
		"https://db.example.com?host=" + planted + "&user=" + planted:                                                                         {Scheme: "https", Host: "db.example.com"},
		"postgres:///shop?host=/var/run/postgresql&password=" + planted + "&user=app":                                                         {Scheme: "postgres", Host: "/var/run/postgresql", Database: "shop", User: "app"},
		"postgres://app:" + planted + "@db.example.com/shop?sslmode=" + planted + "&application_name=" + planted + "&options=-c%20" + planted: {Scheme: "postgres", Host: "db.example.com", Database: "shop", User: "app"},
	} {
		target, ok := ParseConnection(secret.FromString(text))
		require.True(t, ok, text)
		require.Equal(t, want, target.Connection, text)
		f, problems := Derive(TypeConnection, values("connection_string", text))
		require.Empty(t, problems)
		b, err := json.Marshal(f)
		require.NoError(t, err)
		require.NotContains(t, string(b), planted, text)
	}
}

// TestAmbiguousConnectionStrings: what could be read in two ways shows nothing: a part of the password might be among it.
func TestAmbiguousConnectionStrings(t *testing.T) {
	for _, text := range []string{
		"postgres://app:12/pl4nted@db.example.com/shop", "postgres://app:pl?nted@db.example.com/shop", "postgres://app:pl#nted@db.example.com/shop", "postgres://app:pl4nted@db.example.com:pl4nted/shop",
		"postgres://app:pl%zzanted@db.example.com/shop", "postgres://app:x@db.example.com/shop/pl4nted", "pl4nted://db.example.com/shop", "postgres://db example/x", "postgres://app:x@pl4nted nted/x",
		"host=db user=app password=pl4nted with spaces dbname=x", "host=db user=app password='pl4nted dbname=x", "host=db host=pl4nted user=app", "password=pl4nted", "pl4nted=x", "hunter2", "a=b",
		"host=db user=app password='x'pl4nted", "Server=db;Database=shop;pl4nted;User=app", "Server=db;Server=pl4nted", "Server=pl4nted nted;Database=x", "Server=db;Password='pl4nted",
		"app:x@unix(/pl4nted)/shop", "app:pl4nted@tcp(db:3306/shop", "app:x@tcp(db:3306)/shop?x=%zz", "postgres://a:b@h/x?sslmode=a&sslmode=b", "postgres://app:x@h:99999/x", "line\nbreak://x",
		"DefaultEndpointsProtocol=https;AccountName=pl4nted;AccountKey=pl4nted==;EndpointSuffix=core.windows.net",
	} {
		target, ok := ParseConnection(secret.FromString(text))
		require.False(t, ok, "%s: %+v", text, target.Connection)
	}
}

// TestConnectionLogin: who connects gets what is not shown.
func TestConnectionLogin(t *testing.T) {
	for text, want := range map[string][2]string{
		"postgres://app:p%40ss%2Fw%20rd@db.example.com/shop":     {"app", "p@ss/w rd"},
		"host=db user=app password='a \\'quoted\\' \\\\ one'":    {"app", `a 'quoted' \ one`},
		"app:p:a@ss@tcp(db.example.com)/shop":                    {"app", "p:a@ss"},
		"postgres://app@db.example.com/shop?password=pass%26wor": {"app", "pass&wor"},
		"Server=db;Database=x;Uid=app;Pwd=\"a;\"\"b\"":           {"app", `a;"b`},
	} {
		target, ok := ParseConnection(secret.FromString(text))
		require.True(t, ok, text)
		require.Equal(t, want, [2]string{target.Login.Reveal(), target.Password.Reveal()}, text)
	}
}

func FuzzConnection(f *testing.F) {
	for _, s := range []string{"postgres://app:PW@db.example.com:5433/shop?sslmode=require", "host=db user=app password=PW", "app:PW@tcp(db:1)/x", "Server=db;Pwd=PW;Database=x", "jdbc:sqlserver://h;user=a;password=PW"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, ok := ParseConnection(secret.FromString(text))
		b, err := json.Marshal(target.Connection)
		require.NoError(t, err)
		require.Less(t, len(b), 64<<10)
		if !ok {
			return
		}
		// The password as it was understood is in nothing that is shown, unless that is the same text by accident of being short.
		if p := target.Password.Reveal(); len(p) >= 12 && p != target.User && p != target.Database {
			for _, shown := range []string{target.Host, target.User, target.Database, target.TLSMode, target.Scheme} {
				require.NotContains(t, shown, p)
			}
		}
	})
}

func FuzzDerive(f *testing.F) {
	w := []string{"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}
	for _, s := range w {
		f.Add(s, s, "p")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, kind := range []string{TypeCertificate, TypeJWT, TypeSSHKey, TypeConnection} {
			facts, _ := Derive(kind, values("certificate", a, "private_key", b, "passphrase", c, "token", a, "connection_string", a))
			text, err := json.Marshal(facts)
			require.NoError(t, err)
			require.Less(t, len([]rune(string(text))), 64<<10)
		}
	})
}

// TestUnknownWordsAboutTLS: a setting about TLS that is not understood, or that asks for more than the word that is, is told apart from one that is not there.
func TestUnknownWordsAboutTLS(t *testing.T) {
	for text, want := range map[string]bool{
		"mysql://app:x@db.example.com/shop":                                                false,
		"mysql://app:x@db.example.com/shop?tls=true":                                       false,
		"mysql://app:x@db.example.com/shop?tls=1":                                          false,
		"mysql://app:x@db.example.com/shop?ssl=off":                                        false,
		"mysql://app:x@db.example.com/shop?ssl-mode=verify-identity":                       false,
		"mysql://app:x@db.example.com/shop?ssl-mode=REQUIRED":                              false,
		"mysql://app:x@db.example.com/shop?tls=corp":                                       true,
		"app:x@tcp(db.example.com:3306)/shop?tls=corp":                                     true,
		"mysql://app:x@db.example.com/shop?ssl=%7B%22rejectUnauthorized%22%3Atrue%7D":      true,
		"mysql://app:x@db.example.com/shop?ssl-mode=REQUIRED&ssl-ca=/etc/ca.pem":           true,
		"mysql://app:x@db.example.com/shop?useSSL=true&verifyServerCertificate=true":       true,
		"mysql://app:x@db.example.com/shop?useSSL=false":                                   false,
		"mysql://app:x@db.example.com/shop?ssl-mode=DISABLED&ssl-ca=/etc/ca.pem":           false,
		"Driver=MySQL ODBC 8.0;Server=db.example.com;User=app;Password=x;SSLVERIFY=1":      true,
		"Driver=MySQL ODBC 8.0;Server=db.example.com;User=app;Password=x;SslMode=Required": false,
		"postgres://app:x@db.example.com/shop?sslmode=verify-full&sslrootcert=/etc/ca.pem": false,
		"postgres://app:x@db.example.com/shop?sslmode=surely":                              true,
	} {
		got, ok := ParseConnection(secret.FromString(text))
		require.True(t, ok, text)
		require.Equal(t, want, got.TLSUnknown, "%s: %q", text, got.TLSMode)
	}
}
