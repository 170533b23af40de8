package server

import "testing"

func TestShortenIn(t *testing.T) {
	for in, want := range map[string]string{
		"read tcp 192.0.2.1:443->203.0.113.7:5555: read: connection reset by peer": "read tcp 192.0.0.0/16->203.0.0.0/16: read: connection reset by peer",
		"read tcp [2001:db8:1::1]:443->[2001:db9:2::7]:5555: i/o timeout":          "read tcp 2001:db8::/32->2001:db9::/32: i/o timeout",
		"read tcp [fe80::1%eth0]:443: i/o timeout":                                 "read tcp fe80::/32: i/o timeout",
		"[::ffff:203.0.113.7]:1":                                                   "203.0.0.0/16",
		"after 12:30:45, version 1.2.3.4":                                          "after 12:30:45, version 1.2.3.4",
		"999.1.1.1:1":                                                              "?",
		"":                                                                         "",
	} {
		if got := shortenIn(in); got != want {
			t.Errorf("%q is shortened to %q, want %q", in, got, want)
		}
	}
}
