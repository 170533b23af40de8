package main

import "testing"

func TestPrivateURL(t *testing.T) {
	for url, want := range map[string]bool{
		"ws://192.168.1.2:8080":    true,
		"ws://100.64.3.4:8080/x":   true,
		"ws://[fd00::2]:8080":      true,
		"ws://203.0.113.7:8080":    false,
		"ws://[2001:db8::7]:8080":  false,
		"ws://127.0.0.1:8080":      false, // tells nothing
		"wss://signal.example.org": false,
	} {
		if got := isPrivateURL(url); got != want {
			t.Errorf("isPrivateURL(%q) = %v", url, got)
		}
	}
}
