package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// leaseLines are records as store writes them, with what may be left out and without, and others.
func leaseLines() []string {
	const begin = `{"id":"evt_01","at":"2026-11-23T05:00:00.123456Z","actor":{"kind":"client_key","id":"key_1","name":"lap top"},"on_behalf_of":"train_1","action":"lease.`
	return []string{
		begin + `granted","target":{"kind":"credential","id":"cred_1","name":"team"},"outcome":"pending","request_id":"req_1","ip":"192.0.2.1","user_agent":"a \\ \"b\" {}","details":{"lease":"lease_1","train":"web","version":3,"attempt":1,"method":"POST","path":"/v1/messages","model":"claude","host":"h","body_bytes":12}}`,
		begin + `outcome","target":{"kind":"credential","id":"cred_1"},"outcome":"failed","reason":"upstream_error","request_id":"req_1","details":{"lease":"lease_1","attempt":1,"result":"upstream_error","status":500,"bytes":-1,"first_byte_ms":0,"duration_ms":7}}`,
		begin + `outcome","target":{"kind":"credential","id":"cred_1"},"outcome":"ok","details":{"lease":"lease_1","result":"ok","usage":"complete","model":"m","input_tokens":1,"output_tokens":9223372036854775807,"cache_read_tokens":3,"cache_creation_5m_tokens":4,"cache_creation_1h_tokens":5,"tool_calls":6}}`,
		`{"id":"evt_01","at":"2026-11-23T05:00:00.123456Z","actor":{"kind":"anonymous"},"action":"lease.outcome","target":{"kind":"credential"},"outcome":"ok","details":{}}`,
		begin + `outcome","target":{"kind":"credential","id":"cred_1"},"outcome":"refused","details":{"lease":"lease_1","attempt":1,"result":"revoked","status":0,"bytes":0,"first_byte_ms":0,"duration_ms":7,"unsent":true}}`,
		begin + `outcome","target":{"kind":"credential","id":"cred_1"},"outcome":"refused","details":{"unsent":false,"status":204}}`,
	}
}

// brokenLines are near to what store writes, and no JSON, or none that the decoder takes.
func brokenLines() []string {
	const begin, end = `{"id":"evt_01","at":"2026-11-23T05:00:00.123456Z","actor":{"kind":"anonymous"},"action":"lease.outcome","target":{"kind":"credential"},"outcome":"ok",`, `}}`
	out := []string{
		strings.Replace(leaseLines()[3], "anonymous", "a\x01", 1),
		begin + `"user_agent":"\q","details":{` + end, begin + `"user_agent":"\u12x4","details":{` + end, begin + `"user_agent":"\u12","details":{` + end, begin + `"user_agent":"` + "\n" + `","details":{` + end,
	}
	for _, detail := range []string{`"status":"200"`, `"input_tokens":"1"`, `"tool_calls":""`, `"attempt":01`, `"attempt":-`, `"attempt":-01`, `"attempt":1-`, `"unsent":"true"`, `"unsent":truefalse`, `"lease":1`, `"other":"` + "\t" + `"`, `"a":1,`} {
		out = append(out, begin+`"details":{`+detail+end)
	}
	return out
}

// TestReadLease: what is read without the decoder is what the decoder reads.
func TestReadLease(t *testing.T) {
	for _, line := range leaseLines() {
		got, ok := readLease([]byte(line))
		require.True(t, ok, line)
		var want use
		require.NoError(t, json.Unmarshal([]byte(line), &want))
		require.Equal(t, want, got)
	}
	for _, line := range brokenLines() {
		var want use
		require.Error(t, json.Unmarshal([]byte(line), &want), line)
		_, ok := readLease([]byte(line))
		require.False(t, ok, line)
	}
	for _, line := range []string{
		"", "{}", leaseLines()[3] + " ", leaseLines()[3][1:],
		`{"id":"evt_01","at":"2026-11-23T05:00:00.123456Z","actor":{"kind":"client_key","name":"\u0061"},"action":"lease.outcome","target":{"kind":"credential"},"outcome":"ok","details":{}}`,
		`{"id":"evt_01","at":"2026-11-23T05:00:00Z","actor":{"kind":"client_key"},"action":"lease.outcome","target":{"kind":"credential"},"outcome":"ok","details":{}}`,
	} {
		_, ok := readLease([]byte(line))
		require.False(t, ok, line)
	}
}

// FuzzReadLease: whatever the line, what is read is what the decoder reads, and what the decoder refuses is not read.
func FuzzReadLease(f *testing.F) {
	for _, line := range append(leaseLines(), brokenLines()...) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, ok := readLease(line)
		if !ok {
			return
		}
		var want use
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatalf("%q is read as %+v, and refused by the decoder: %v", line, got, err)
		}
		if want != got {
			t.Fatalf("%q is read as %+v, not %+v", line, got, want)
		}
	})
}
