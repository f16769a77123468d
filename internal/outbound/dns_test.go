package outbound

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// nameServer is a small DNS server behind a real net.Resolver. Each look-up of a name takes the next of its answers (the last one
// stays), which is what a rebinding attacker does.
type nameServer struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr
	asked   map[string]int
}

func newNameServer(answers map[string][][]netip.Addr) *nameServer {
	return &nameServer{answers: answers, asked: map[string]int{}}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// resolver speaks DNS over in-memory TCP with the server.
func (s *nameServer) resolver(t testing.TB) *net.Resolver {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		wg.Go(func() {
			defer there.Close()
			for s.serveOne(there) == nil {
			}
		})
		return here, nil
	}}
}

func (s *nameServer) serveOne(c net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return err
	}
	reply := s.answer(query)
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	return err
}

// answer builds a reply to a query with one question (RFC 1035, section 4).
func (s *nameServer) answer(query []byte) []byte {
	var labels []string
	end := 12
	for query[end] != 0 {
		n := int(query[end])
		labels = append(labels, string(query[end+1:end+1+n]))
		end += 1 + n
	}
	qtype := binary.BigEndian.Uint16(query[end+1:])
	question := query[12 : end+5]
	name := strings.ToLower(strings.Join(labels, "."))
	found := s.next(name, qtype)

	reply := append([]byte{}, query[:2]...)
	rcode := byte(0)
	if found == nil {
		rcode = 3 // no such name
	}
	reply = append(reply, 0x85, 0x80|rcode, 0, 1, 0, 0, 0, 0, 0, 0)
	reply = append(reply, question...)
	var count uint16
	for _, a := range found {
		if a.Is4() != (qtype == 1) {
			continue
		}
		count++
		reply = append(reply, 0xc0, 12)
		reply = binary.BigEndian.AppendUint16(reply, qtype)
		reply = append(reply, 0, 1, 0, 0, 0, 0) // class IN, time to live 0
		reply = binary.BigEndian.AppendUint16(reply, uint16(len(a.AsSlice())))
		reply = append(reply, a.AsSlice()...)
	}
	binary.BigEndian.PutUint16(reply[6:], count)
	return reply
}

// next counts one look-up per A query: a resolver asks A and AAAA side by side, and both get the same turn.
func (s *nameServer) next(name string, qtype uint16) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.answers[name]
	if len(list) == 0 || (qtype != 1 && qtype != 28) {
		return nil
	}
	key := name
	if qtype == 28 {
		key += " aaaa"
	}
	turn := min(s.asked[key], len(list)-1)
	s.asked[key]++
	return list[turn]
}

func (s *nameServer) lookups(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}
