package main

import "testing"

func TestNearest(t *testing.T) {
	words := []string{"allow", "view", "signal", "signal-listen", "host-key", "stun", "no-portmap", "a"}
	for text, want := range map[string]string{
		"allow":         "allow",
		"alow":          "allow",
		"allwo":         "allow",
		"hostkey":       "host-key",
		"host_key":      "host-key",
		"signal-lsiten": "signal-listen",
		"sginal":        "signal",
		"no-port-map":   "no-portmap",
		"stum":          "stun",
		"b":             "",
		"":              "",
		"frobnicate":    "",
		"vie-allow":     "",
	} {
		if got := nearest(text, words); got != want {
			t.Errorf("nearest to %q is %q, want %q", text, got, want)
		}
	}
}
