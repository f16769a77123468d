package api

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noted remembers until when it was last allowed to be written to.
type noted struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (n *noted) SetReadDeadline(time.Time) error    { return nil }
func (n *noted) SetWriteDeadline(t time.Time) error { n.until = t; return nil }

// TestTheAnswerHasTimeAfterTheBody: a large import that took long to arrive is answered all the same; it is stored by then.
func TestTheAnswerHasTimeAfterTheBody(t *testing.T) {
	for _, patience := range []time.Duration{time.Second, importPatience} {
		w := &noted{ResponseRecorder: httptest.NewRecorder()}
		began := time.Now()
		r := httptest.NewRequest("POST", "/api/import", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		_, err := readBody(w, r, 100, patience)
		require.NoError(t, err)
		require.False(t, w.until.Before(began.Add(max(patience, takenWithin))))
	}
}
