package demo

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// model is one entry of the list of models, as the real API tells it.
type model struct {
	Type        string    `json:"type"`
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name"`
	CreatedAt   time.Time `json:"created_at"`
	MaxInput    int       `json:"max_input_tokens"`
	MaxTokens   int       `json:"max_tokens"`
}

// listed are the models that /v1/models tells; other spellings of modelBehaviour work too.
var listed = [...]string{
	"claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001",
	"fake-echo", "fake-slow", "fake-stream-50", "fake-error-401", "fake-error-403", "fake-error-429", "fake-error-500", "fake-error-529",
	"fake-overloaded-midstream", "fake-cut", "fake-cut-boundary", "fake-hang",
}

func describe(id string) model {
	return model{
		Type: "model", ID: id, DisplayName: id + " (fake)", CreatedAt: time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC),
		MaxInput: 200_000, MaxTokens: 64_000,
	}
}

// page is one page of the list.
type page struct {
	Data    []model `json:"data"`
	HasMore bool    `json:"has_more"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
}

func (c *call) listModels() (cancelled bool) {
	if done, cancelled := c.obey(); done {
		return cancelled
	}
	q := c.r.URL.Query()
	limit := 20
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			return c.fail(http.StatusBadRequest, "limit: Input should be between 1 and 1000")
		}
		limit = n
	}
	from, to := 0, len(listed)
	if id := q.Get("after_id"); id != "" {
		from = slices.Index(listed[:], id) + 1
	}
	backwards := false
	if id := q.Get("before_id"); id != "" {
		if i := slices.Index(listed[:], id); i >= 0 {
			to, backwards = i, true
		}
	}
	p := page{Data: []model{}}
	p.HasMore = to-from > limit
	if backwards {
		from = max(from, to-limit)
	} else {
		to = min(to, from+limit)
	}
	for i := from; i < to; i++ {
		p.Data = append(p.Data, describe(listed[i]))
	}
	if n := len(p.Data); n > 0 {
		p.FirstID, p.LastID = &p.Data[0].ID, &p.Data[n-1].ID
	}
	return c.sendValue(p)
}

func (c *call) getModel() (cancelled bool) {
	if done, cancelled := c.obey(); done {
		return cancelled
	}
	id := strings.TrimPrefix(c.r.URL.Path, "/v1/models/")
	if _, known := modelBehaviour(id); !known {
		return c.fail(http.StatusNotFound, "model: "+id)
	}
	return c.sendValue(describe(id))
}

func (c *call) sendValue(v any) (cancelled bool) {
	b, err := json.Marshal(v)
	if err != nil {
		return c.fail(http.StatusInternalServerError, "")
	}
	return c.send(b)
}
