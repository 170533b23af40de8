package main

import (
	"log/slog"
	"os"
)

// openLog returns a logger that writes to the file, or nowhere: what pairterm
// logs must never reach a raw terminal.
func openLog(path string, verbose bool) (log *slog.Logger, closeLog func(), err error) {
	if path == "" {
		return slog.New(slog.DiscardHandler), func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fail(exitFile, err, "name a file that can be written: --log FILE")
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: level})), func() { f.Close() }, nil
}
