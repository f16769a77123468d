package signalboxtest_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
)

// The scanner must find what it is for, or every scan below is worth nothing.
func TestScannerFindsEveryForm(t *testing.T) {
	var p signalboxtest.Planted
	s := p.Secret(t, "key")
	j, err := json.Marshal(map[string]string{"x": s})
	require.NoError(t, err)
	for name, sink := range map[string]string{
		"raw": "…" + s + "…", "hex": hex.EncodeToString([]byte("ab" + s)), "query": "?k=" + url.QueryEscape(s), "path": "/" + url.PathEscape(s), "json": string(j),
		"basic 0": base64.StdEncoding.EncodeToString([]byte("u:" + s)), "basic 1": base64.StdEncoding.EncodeToString([]byte("us:" + s)),
		"basic 2": base64.StdEncoding.EncodeToString([]byte("use:" + s + "tail")), "url64": base64.URLEncoding.EncodeToString([]byte("x" + s)),
		"piece": s[9:21],
	} {
		require.NotEmpty(t, p.Find([]byte(sink)), name)
	}
	require.Empty(t, p.Find([]byte("nothing of it: "+s[:11]+" "+s[20:31])))
}
