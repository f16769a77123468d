package probe

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// scripted is a server that has said everything already.
type scripted struct {
	net.Conn
	said  io.Reader
	heard bytes.Buffer
}

func (s *scripted) Read(b []byte) (int, error)  { return s.said.Read(b) }
func (s *scripted) Write(b []byte) (int, error) { return s.heard.Write(b) }

// FuzzMySQL: whatever a server says before its login is through, it ends, and the password is in nothing that it is told.
func FuzzMySQL(f *testing.F) {
	greeting := "\x49\x00\x00\x00\x0a8\x00\x01\x00\x00\x0001234567\x00\xff\xff\x2d\x02\x00\xff\xff\x15" + string(make([]byte, 10)) + "89abcdefghij\x00mysql_native_password\x00"
	f.Add([]byte(greeting + "\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"))
	f.Add([]byte(greeting + "\x02\x00\x00\x02\x01\x04"))
	f.Add([]byte("\x05\x00\x00\x00\xff\x10\x04no"))
	f.Add([]byte(greeting + "\x2c\x00\x00\x02\xfecaching_sha2_password\x000123456789abcdefghij\x00\x02\x00\x00\x04\x01\x03\x03\x00\x00\x05\x00\x00\x00"))
	f.Add([]byte(greeting + "\x30\x00\x00\x02\xfeclient_ed25519\x0001234567890123456789012345678901"))
	const password = "pl4nted-fuzz-password"
	f.Fuzz(func(t *testing.T, said []byte) {
		c := &scripted{said: bytes.NewReader(said)}
		s := mysqlSession{conn: c}
		err := s.signIn(context.Background(), mysqlLogin{user: "ada", password: password, database: "shop"})
		require.NotContains(t, c.heard.String(), password)
		require.Less(t, c.heard.Len(), 2<<10)
		if err != nil {
			out := mysqlFailed(context.Background(), err, "mysql://db")
			require.NotEmpty(t, out.Detail)
			require.NotEqual(t, OK, out.Outcome)
		}
	})
}
