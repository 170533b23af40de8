package ticket_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/peer/ticket"
)

var pin = [32]byte{1, 2, 3, 4, 5, 31: 0xff}

func mustNew(t testing.TB, urls ...string) ticket.Ticket {
	t.Helper()
	tk, err := ticket.New(pin, urls...)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestParseIsInverseOfString(t *testing.T) {
	for _, urls := range [][]string{
		{"ws://192.168.1.5:40123"},
		{"ws://192.168.1.5:40123", "ws://[fd00::5]:40123", "ws://10.8.0.2:40123"},
		{"wss://signal.example.org"},
		{"wss://signal.example.org:8443/under/a/path"},
		{"ws://localhost:8080"},
		{"ws://127.0.0.1"},
		{"wss://[2001:db8::1]", "wss://10.0.0.1:444"},
	} {
		want := mustNew(t, urls...)
		if !slices.Equal(want.Signal, urls) {
			t.Errorf("New(%q).Signal = %q", urls, want.Signal)
		}
		s := want.String()
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Errorf("ticket %q has other characters than letters and digits", s)
		}
		got, err := ticket.Parse(s)
		if err != nil {
			t.Fatalf("Parse(%q): %v", s, err)
		}
		if got.Pin != want.Pin || !slices.Equal(got.Signal, want.Signal) {
			t.Errorf("Parse(%q) = %+v, want %+v", s, got, want)
		}
		if got.String() != s {
			t.Errorf("String() = %q, want %q", got.String(), s)
		}
	}
}

func TestParseForgivesSpaceAndCase(t *testing.T) {
	s := mustNew(t, "wss://signal.example.org").String()
	spoiled := " " + strings.ToUpper(s[:20]) + "\n  " + s[20:50] + "\r\n" + s[50:] + "\t"
	got, err := ticket.Parse(spoiled)
	if err != nil || got.String() != s {
		t.Errorf("Parse(%q) = %v, %v", spoiled, got, err)
	}
}

func TestEveryTruncationIsTold(t *testing.T) {
	s := mustNew(t, "wss://signal.example.org", "ws://10.1.2.3:99").String()
	for n := len("pt"); n < len(s); n++ {
		if _, err := ticket.Parse(s[:n]); !errors.Is(err, ticket.ErrTruncated) {
			t.Errorf("Parse of the first %d characters: %v, want ErrTruncated", n, err)
		}
	}
}

func TestEveryTypoIsTold(t *testing.T) {
	s := mustNew(t, "wss://signal.example.org").String()
	for i := len("pt1"); i < len(s); i++ {
		for _, c := range "az27019" {
			if byte(c) == s[i] {
				continue
			}
			typo := s[:i] + string(c) + s[i+1:]
			_, err := ticket.Parse(typo)
			// A typo in the two characters of the length may look like a cut.
			if !errors.Is(err, ticket.ErrMistyped) && !(i < 5 && errors.Is(err, ticket.ErrTruncated)) {
				t.Errorf("character %d changed to %c: %v, want ErrMistyped", i, c, err)
			}
		}
	}
	if _, err := ticket.Parse(s + "a"); !errors.Is(err, ticket.ErrMistyped) {
		t.Errorf("one character too many: %v", err)
	}
}

func TestParseOtherErrors(t *testing.T) {
	s := mustNew(t, "wss://signal.example.org").String()
	for text, want := range map[string]error{
		"":                                ticket.ErrNotTicket,
		"bob":                             ticket.ErrNotTicket,
		"ptarmigan":                       ticket.ErrNotTicket,
		"https://signal.example.org":      ticket.ErrNotTicket,
		"pt2" + s[3:]:                     ticket.ErrNewer,
		"pt9zzz":                          ticket.ErrNewer,
		"pt0" + s[3:]:                     ticket.ErrMistyped,
		"pt1" + strings.Repeat("a", 80):   ticket.ErrMistyped,
		"pt1" + strings.Repeat("7", 5000): ticket.ErrNotTicket,
		"pt1" + s[3:40] + "_" + s[41:]:    ticket.ErrNotTicket,
	} {
		if _, err := ticket.Parse(text); !errors.Is(err, want) {
			t.Errorf("Parse(%.40q): %v, want %v", text, err, want)
		}
	}
}

func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"signal.example.org":              "wss://signal.example.org",
		"https://Signal.Example.org:443/": "wss://signal.example.org",
		"http://10.0.0.1:80":              "ws://10.0.0.1",
		"ws://[::ffff:10.0.0.1]:8080":     "ws://10.0.0.1:8080",
		"wss://example.org/a%20b/":        "wss://example.org/a%20b",
		"ws://[fe80::1%25eth0]:1":         "",
		"ftp://example.org":               "",
		"wss://user:pw@example.org":       "",
		"wss://example.org/?x=1":          "",
		"wss://example.org/#x":            "",
		"wss://":                          "",
		"wss://example.org:0":             "",
		"wss://example.org:99999":         "",
		"wss://exämple.org":               "",
		"wss://exa mple.org":              "",
	} {
		got, err := ticket.Normalize(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Normalize(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestNewLimits(t *testing.T) {
	if _, err := ticket.New(pin); err == nil {
		t.Error("a ticket without a server was made")
	}
	var many []string
	for _, c := range "abcdefghi" {
		many = append(many, "wss://"+string(c)+".example")
	}
	if _, err := ticket.New(pin, many...); err == nil {
		t.Error("a ticket with nine servers was made")
	}
	if _, err := ticket.New(pin, "wss://"+strings.Repeat("a", 250)); err == nil {
		t.Error("a ticket with an oversized URL was made")
	}
	if tk := mustNew(t, "wss://a.example", "https://A.example/"); len(tk.Signal) != 1 {
		t.Errorf("the same server twice: %q", tk.Signal)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mustNew(f, "wss://signal.example.org").String())
	f.Add(mustNew(f, "ws://10.0.0.1:1", "ws://[::1]:2").String())
	f.Add("pt1")
	f.Add("pt2aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		tk, err := ticket.Parse(s)
		if err != nil {
			return
		}
		again, err := ticket.Parse(tk.String())
		if err != nil || again.String() != tk.String() {
			t.Fatalf("Parse(%q).String() = %q does not parse to itself: %v", s, tk, err)
		}
	})
}
