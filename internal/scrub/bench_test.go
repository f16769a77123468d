package scrub_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"signalbox.dev/signalbox/internal/scrub"
	"signalbox.dev/signalbox/internal/secret"
)

// only hides every method but Read, so that io.Copy does the same in both cases.
type only struct{ io.Reader }

// BenchmarkReader copies 16 MiB of several kinds of text, plainly (the floor) and through a Scrubber.
func BenchmarkReader(b *testing.B) {
	const size = 16 << 20
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, size)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var record bytes.Buffer
	for i := 0; record.Len() < size; i++ {
		fmt.Fprintf(&record, `{"id":%d,"name":"Somebody with a name & more","text":"He said \"well\", and 100%% of it\n","url":"https:\/\/example.com\/%x"},`, i, i)
	}
	kinds := []struct {
		name string
		body []byte
	}{
		{"random", random}, {"json", record.Bytes()[:size]}, {"base64", []byte(base64.StdEncoding.EncodeToString(random))[:size]}, {"hex", []byte(hex.EncodeToString(random))[:size]},
	}
	box := made(b, "sk-live-"+hex.EncodeToString(random[:20]))
	for _, kind := range kinds {
		for _, through := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/scrubbed=%v", kind.name, through), func(b *testing.B) {
				b.SetBytes(size)
				buf := make([]byte, 32<<10)
				for b.Loop() {
					var from io.Reader = bytes.NewReader(kind.body)
					if through {
						from = box.Reader(from)
					}
					if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, only{from}, buf); err != nil || n != size {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	value := secret.FromString("sk-live-0123456789abcdef0123456789abcdef")
	for b.Loop() {
		if _, err := scrub.New(value); err != nil {
			b.Fatal(err)
		}
	}
}
