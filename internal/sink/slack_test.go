package sink_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// slackMessage is the text of what Slack was sent.
func slackMessage(t *testing.T, post string) string {
	t.Helper()
	var m struct {
		Text string `json:"text"`
	}
	require.NoError(t, json.Unmarshal([]byte(post), &m))
	return m.Text
}
