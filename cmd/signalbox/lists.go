package main

import (
	"strconv"
	"strings"
	"time"
)

// everything collects the pages of a list.
func everything[T any](page func(cursor string) ([]T, string, error)) ([]T, error) {
	out := []T{}
	for cursor := ""; ; {
		items, next, err := page(cursor)
		if err != nil {
			return nil, err
		}
		out = append(out, items...)
		if next == "" || next == cursor {
			return out, nil
		}
		cursor = next
	}
}

// parseExpiry reads when something expires: a span such as 30d or 12h, or a moment in RFC 3339. Empty is never.
func parseExpiry(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		at = at.UTC()
		return &at, nil
	}
	span, err := parseSpan(text)
	if err != nil {
		return nil, err
	}
	at := time.Now().UTC().Add(span).Truncate(time.Second)
	return &at, nil
}

func parseSpan(text string) (time.Duration, error) {
	var span time.Duration
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, usage("%q is no span of days such as 30d", text)
		}
		span = time.Duration(n) * 24 * time.Hour
	} else {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return 0, usage("%q is no span such as 30d, 12h or 45m, and no time such as 2027-01-31T12:00:00Z", text)
		}
		span = d
	}
	return span, nil
}
