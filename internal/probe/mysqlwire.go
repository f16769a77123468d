package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// The connection phase of MySQL's protocol, as MySQL's and MariaDB's documentation have it: greeting, perhaps TLS, the login, and a few questions about
// it. Nothing of what comes after is spoken: no statement is sent, so that there is no answer to read, and reading a file of this machine (LOCAL
// INFILE) is neither offered nor understood.

const (
	// maxMySQLPacket is how long a packet may be. Those that honest servers send before the login is through have some hundred bytes.
	maxMySQLPacket = 4 << 10
	// maxMySQLRounds is how many packets a server may send after the login. MariaDB asks anew for each way of signing in that an account has.
	maxMySQLRounds = 8
)

// Flags of what client and server can.
const (
	mysqlLongPassword = 1 << 0
	mysqlLongFlag     = 1 << 2
	mysqlWithDatabase = 1 << 3
	mysqlProtocol41   = 1 << 9
	mysqlTLSFlag      = 1 << 11
	mysqlTransactions = 1 << 13
	mysqlSecure       = 1 << 15
	mysqlPlugins      = 1 << 19
	mysqlNeeded       = mysqlWithDatabase | mysqlProtocol41 | mysqlSecure | mysqlPlugins
	mysqlUTF8         = 45 // utf8mb4_general_ci
)

var (
	errMySQLNonsense     = errors.New("probe: the server does not speak MySQL's protocol as it must")
	errMySQLOld          = errors.New("probe: the MySQL server is too old")
	errMySQLNoTLS        = errors.New("probe: the MySQL server speaks no TLS")
	errMySQLPlugin       = errors.New("probe: the MySQL server wants a way of signing in that is not known")
	errMySQLAsksPassword = errors.New("probe: the MySQL server asks for the password and has not proved who it is")
)

// mysqlLogin is who signs in.
type mysqlLogin struct{ user, password, database string }

// mysqlSession is one connection until its login is through. It reads no byte beyond the packet that it needs: what somebody slipped in before TLS is
// not taken for something that was said within.
type mysqlSession struct {
	conn net.Conn
	way  *tls.Config // nil: without TLS
	next byte        // the number of the next packet
}

// greeting is what a server says first.
type greeting struct {
	flags  uint32
	nonce  []byte
	plugin string
}

// signIn ends with nil when the server has let the user in.
func (s *mysqlSession) signIn(ctx context.Context, who mysqlLogin) error {
	first, err := s.read()
	if err != nil {
		return err
	}
	hello, err := parseGreeting(first)
	if err != nil {
		return err
	}
	flags := uint32(mysqlLongPassword | mysqlLongFlag | mysqlProtocol41 | mysqlTransactions | mysqlSecure | mysqlPlugins)
	if who.database != "" {
		flags |= mysqlWithDatabase
	}
	if s.way != nil {
		if hello.flags&mysqlTLSFlag == 0 {
			return errMySQLNoTLS
		}
		flags |= mysqlTLSFlag
		if err := s.write(mysqlHead(flags)); err != nil {
			return err
		}
		line := tls.Client(s.conn, s.way)
		if err := line.HandshakeContext(ctx); err != nil {
			return err
		}
		s.conn = line
	}
	// In which way this user signs in, the server says later. Its general way is tried where it is known.
	answer, err := mysqlAnswer(hello.plugin, who.password, hello.nonce)
	if errors.Is(err, errMySQLPlugin) {
		hello.plugin = nativePlugin
		answer, err = mysqlAnswer(hello.plugin, who.password, hello.nonce)
	}
	if err != nil {
		return err
	}
	if err := s.write(mysqlResponse(flags, who, hello.plugin, answer)); err != nil {
		return err
	}
	return s.converse(hello.plugin, who.password)
}

// converse answers what the server asks until it has made up its mind.
func (s *mysqlSession) converse(plugin, password string) error {
	for range maxMySQLRounds {
		b, err := s.read()
		if err != nil {
			return err
		}
		switch b[0] {
		case 0x00:
			return nil
		case 0xff:
			return refusalIn(b)
		case 0xfe:
			if len(b) == 1 {
				return errMySQLOld // of the time before plugins: a hash that is as good as the password
			}
			name, nonce, ok := bytes.Cut(b[1:], []byte{0})
			if !ok {
				return errMySQLNonsense
			}
			plugin = string(name)
			answer, err := mysqlAnswer(plugin, password, nonce)
			if err != nil {
				return err
			}
			if err := s.write(answer); err != nil {
				return err
			}
		case 0x01:
			switch {
			case plugin != sha2Plugin || len(b) != 2 || b[1] != sha2Known && b[1] != sha2Full:
				return errMySQLNonsense
			case b[1] == sha2Known: // its last word comes next
			case !proves(s.way):
				// Over TLS with somebody unknown it would be told the password, and without TLS it would hand out the key to encrypt it with, whoever it is.
				return errMySQLAsksPassword
			default:
				if err := s.write(append([]byte(password), 0)); err != nil {
					return err
				}
			}
		default: // such as 0xfb, which asks for a file
			return errMySQLNonsense
		}
	}
	return errMySQLNonsense
}

// quit says good-bye, which keeps the server from counting a connection that broke.
func (s *mysqlSession) quit() {
	s.next = 0
	_ = s.write([]byte{0x01})
}

// read returns the next packet, of at least one byte.
func (s *mysqlSession) read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return nil, err
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if size == 0 || size > maxMySQLPacket || head[3] != s.next {
		return nil, errMySQLNonsense
	}
	s.next++
	body := make([]byte, size)
	_, err := io.ReadFull(s.conn, body)
	return body, err
}

// write sends a packet. None of ours is longer than what a connection string can hold.
func (s *mysqlSession) write(body []byte) error {
	n := len(body)
	_, err := s.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), s.next}, body...))
	s.next++
	return err
}

// parseGreeting reads HandshakeV10, or the refusal that came in its place.
func parseGreeting(b []byte) (greeting, error) {
	if len(b) > 0 && b[0] == 0xff {
		return greeting{}, refusalIn(b)
	}
	if len(b) == 0 || b[0] != 10 {
		return greeting{}, errMySQLNonsense
	}
	_, b, ok := bytes.Cut(b[1:], []byte{0}) // the version
	const fixed = 4 + 8 + 1 + 2             // connection, first part of the nonce, filler, lower half of the flags
	if !ok || len(b) < fixed {
		return greeting{}, errMySQLNonsense
	}
	out := greeting{nonce: bytes.Clone(b[4:12]), flags: uint32(binary.LittleEndian.Uint16(b[13:15]))}
	b = b[fixed:]
	const more = 1 + 2 + 2 + 1 + 10 // character set, status, upper half of the flags, length of the nonce, reserved
	if len(b) < more {
		return greeting{}, errMySQLOld
	}
	out.flags |= uint32(binary.LittleEndian.Uint16(b[3:5])) << 16
	if out.flags&mysqlNeeded != mysqlNeeded {
		return greeting{}, errMySQLOld
	}
	rest := max(13, int(b[5])-8)
	b = b[more:]
	if len(b) < rest {
		return greeting{}, errMySQLNonsense
	}
	out.nonce = append(out.nonce, b[:rest]...)
	name, _, _ := bytes.Cut(b[rest:], []byte{0})
	out.plugin = string(name)
	return out, nil
}

// refusalIn reads the number of an error packet.
func refusalIn(b []byte) error {
	if len(b) < 3 {
		return errMySQLNonsense
	}
	return mysqlRefusal(binary.LittleEndian.Uint16(b[1:3]))
}

// mysqlHead is how both a request for TLS and a login begin.
func mysqlHead(flags uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, flags)
	b = binary.LittleEndian.AppendUint32(b, maxMySQLPacket)
	return append(b, append([]byte{mysqlUTF8}, make([]byte, 23)...)...)
}

// mysqlResponse is HandshakeResponse41. No text in it holds a zero byte, and no answer has more than 64 bytes.
func mysqlResponse(flags uint32, who mysqlLogin, plugin string, answer []byte) []byte {
	b := append(mysqlHead(flags), who.user...)
	b = append(b, 0, byte(len(answer)))
	b = append(b, answer...)
	if who.database != "" {
		b = append(append(b, who.database...), 0)
	}
	return append(append(b, plugin...), 0)
}
