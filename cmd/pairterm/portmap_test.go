package main

import (
	"log/slog"
	"testing"

	"github.com/pairterm/pairterm/peer/link"
)

// The router is asked for a port where that can be of use, and is not unwanted.
func TestPortmapWanted(t *testing.T) {
	const away, here = "wss://signal.example.org", "ws://127.0.0.1:8080"
	for _, tt := range []struct {
		name   string
		o      pathOptions
		signal []string
		want   bool
	}{
		{"a server", pathOptions{}, []string{away}, true},
		{"one here and one there", pathOptions{}, []string{here, away}, true},
		{"all on this machine", pathOptions{}, []string{here, "ws://localhost:9", "ws://[::1]:9"}, false},
		{"--no-portmap", pathOptions{noPortmap: true}, []string{away}, false},
		{"--path lan", pathOptions{paths: link.PathsLAN}, []string{away}, false},
	} {
		c := tt.o.portmap(tt.signal, nil, slog.New(slog.DiscardHandler))
		if got := c != nil; got != tt.want {
			t.Errorf("%s: asks %v", tt.name, got)
		}
		if got := asPortMapper(c) != nil; got != tt.want {
			t.Errorf("%s: links ask %v", tt.name, got)
		}
	}
}
