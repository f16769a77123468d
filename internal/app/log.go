package app

import (
	"io"
	"log/slog"
)

// NewLog returns the logger that cfg asks for, writing to w. With the format auto it writes text to a terminal and JSON lines otherwise.
func NewLog(w io.Writer, terminal bool, cfg Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" || cfg.LogFormat != "text" && !terminal {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
