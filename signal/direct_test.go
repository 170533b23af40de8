package signal

import "testing"

func TestDirect(t *testing.T) {
	for host, want := range map[string]bool{
		"192.168.1.20":      true,
		"10.0.0.5":          true,
		"172.31.0.1":        true,
		"100.101.102.103":   true,
		"127.0.0.1":         true,
		"::1":               true,
		"fd7a:115c:a1e0::1": true,
		"fe80::1%eth0":      true,
		"::ffff:10.0.0.5":   true,
		"203.0.113.7":       false,
		"2001:db8::1":       false,
		"100.128.0.1":       false,
		"10.0.0.5.nip.io":   false,
		"localhost":         false, // http.ProxyFromEnvironment knows it
	} {
		if got := direct(host); got != want {
			t.Errorf("direct(%q) = %v", host, got)
		}
	}
}
