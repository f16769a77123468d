package strict_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/strict"
)

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, ` {"a":[1,"x",true,null,{"b":1.5e3}]} `: true, `{"a":1,"b":1}`: true, `"x"`: true,
		`{"a":"\ud83d\udd11"}`: true, `{"a":"\\ud83d"}`: true, `{"a":"\\\\udd11"}`: true, `{"a":"\"\\"}`: true,
		`{"a":1,"a":1}`: false, `{"a":1,"\u0061":1}`: false, `{"b":{"a":1,"a":2}}`: false, `[{"a":1},{"a":1}]`: true,
		`{"a":"\ud83d"}`: false, `{"a":"\ud83dx"}`: false, `{"a":"\udd11\ud83d"}`: false, `{"a":"\ud83d\u0041"}`: false, `{"\ud83d":1}`: false, `{"a":"\\\ud83d"}`: false,
		"{\"a\":\"\xff\"}": false, "": false, `{}{}`: false, `{} x`: false, `{"a":}`: false,
		strings.Repeat("[", strict.MaxDepth) + strings.Repeat("]", strict.MaxDepth):     true,
		strings.Repeat("[", strict.MaxDepth+1) + strings.Repeat("]", strict.MaxDepth+1): false,
	} {
		_, err := strict.Parse([]byte(text))
		require.Equal(t, ok, err == nil, "%s: %v", text, err)
	}
}

func TestADepthOfOnesOwn(t *testing.T) {
	for _, most := range []int{1, 3, 64} {
		nested := func(n int) []byte {
			return []byte(strings.Repeat(`{"a":[`, n/2) + strings.Repeat("[", n%2) + strings.Repeat("]", n%2) + strings.Repeat("]}", n/2))
		}
		_, err := strict.ParseTo(nested(most), most)
		require.NoError(t, err)
		_, err = strict.ParseTo(nested(most+1), most)
		require.ErrorContains(t, err, "nests deeper than "+strconv.Itoa(most)+" levels")
	}
}

func TestErrorsSayWhatIsWrongAndQuoteNothing(t *testing.T) {
	for text, want := range map[string]strict.Why{
		`{"planted":1,"planted":2}`: strict.KeyTwice, `"\ud800planted"`: strict.HalfCharacter, "\"planted\xff\"": strict.NotUTF8, `{"planted":1}2`: strict.GoesOn,
		`{"planted`: strict.NotJSON, `["planted"]`: strict.NoObject, strings.Repeat(`{"planted":`, 40) + "1" + strings.Repeat("}", 40): strict.TooDeep,
	} {
		_, err := strict.Object([]byte(text))
		var why *strict.Error
		require.ErrorAs(t, err, &why, text)
		require.Equal(t, want, why.Why, text)
		require.NotContains(t, err.Error(), "planted")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\ud83d\udd11"}]}`, `{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`, `{"\u0061":1,"a":2}`, `1e999`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		tree, err := strict.Parse(body)
		if err != nil {
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("took what is no JSON: %q", body)
		}
		// What was read is what every other reader reads: writing it out and reading that gives the same.
		again, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		other, err := json.Marshal(want)
		if err != nil || !bytes.Equal(again, other) {
			t.Fatalf("read %s, others read %s", again, other)
		}
		if bytes.Contains(again, []byte("\ufffd")) && !bytes.Contains(body, []byte("\ufffd")) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`)) {
			t.Fatalf("a character was replaced: %q", body)
		}
	})
}
