package signal_test

import (
	"net/url"
	"testing"

	"github.com/pairterm/pairterm/signal"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"signal.example.org":             "wss://signal.example.org",
		"Signal.Example.org:8443":        "wss://signal.example.org:8443",
		"https://example.org/signal/":    "wss://example.org/signal",
		"http://example.org":             "ws://example.org",
		"ws://192.0.2.7:4222":            "ws://192.0.2.7:4222",
		"WSS://[2001:DB8::1]:4222/a//":   "wss://[2001:db8::1]:4222/a",
		"ws://[fe80::1%25eth0]:4222":     "ws://[fe80::1%25eth0]:4222",
		"localhost:4222":                 "wss://localhost:4222",
		"":                               "",
		"ftp://example.org":              "",
		"ws://":                          "",
		"ws://:4222":                     "",
		"ws://example.org:":              "",
		"ws://example.org:99999":         "",
		"ws://example.org:0":             "",
		"ws://example.org:8x":            "",
		"ws://alice:secret@example.org":  "",
		"ws://example.org/?room=1":       "",
		"ws://example.org?":              "",
		"ws://example.org/#x":            "",
		"ws://exa mple.org":              "",
		"ws://example.org\x1b[2J":        "",
		"wss://example.org:1/\x00":       "",
		"javascript:alert(1)":            "",
		"ws://[::1":                      "",
		"ws://ex\u202eample.org":         "",
		"unix:///run/pairterm/signal.so": "",
	} {
		got, err := signal.ParseURL(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseURL(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestServerName(t *testing.T) {
	for in, want := range map[string]string{
		"Signal.Example.org":     "signal.example.org",
		"signal.example.org:443": "signal.example.org",
		"signal.example.org:80":  "signal.example.org",
		"signal.example.org:81":  "signal.example.org:81",
		"192.0.2.7:4222":         "192.0.2.7:4222",
		"[2001:DB8::1]":          "[2001:db8::1]",
		"[::1]:443":              "[::1]",
		"[::1]:4222":             "[::1]:4222",
		"[fe80::1%eth0]:4222":    "[fe80::1]:4222",
	} {
		if got := signal.ServerName(in); got != want {
			t.Errorf("ServerName(%q) = %q, want %q", in, got, want)
		}
	}
}

// What is normalized is normal, and what a client takes for its server's name
// can be sent to the server.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"signal.example.org", "https://example.org/a%2fb/", "ws://[fe80::1%25eth0]:4222", "x:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		norm, err := signal.ParseURL(s)
		if err != nil {
			return
		}
		again, err := signal.ParseURL(norm)
		if err != nil || again != norm {
			t.Fatalf("%q becomes %q becomes %q, %v", s, norm, again, err)
		}
		u, err := url.Parse(norm)
		if err != nil {
			t.Fatal(err)
		}
		m := &signal.RegisterMsg{Name: signal.ServerName(u.Host)}
		if _, err := signal.Decode(m.Append(nil)); err != nil {
			t.Fatalf("%q: the server would refuse the name %q: %v", s, m.Name, err)
		}
	})
}
