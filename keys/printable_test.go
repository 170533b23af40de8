package keys_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pairterm/pairterm/keys"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"alice@host":                       "alice@host",
		"Ælfrēd 🖥 日本":                      "Ælfrēd 🖥 日本",
		" \t a \r\n b \v":                  "a b",
		"\x1b[31mred\x1b[0m":               "[31mred[0m",
		"\x1b]0;title\x07x":                "]0;titlex",
		"a\x00b\x7fc\u009bd":               "abcd",
		"\u202eevil\u202c":                 "evil",
		"\u2066a\u2069\u200b\ufeff":        "a",
		"a\u2028b\u00a0c":                  "a b c",
		"\xff\xfeA\xc3":                    "A",
		"e\u0301":                          "e\u0301",
		"e" + strings.Repeat("\u0301", 50): "e" + strings.Repeat("\u0301", 3),
		"\u0301a":                          "a",
		strings.Repeat("x", 100):           strings.Repeat("x", 100),
		strings.Repeat("x", 101):           strings.Repeat("x", 100) + "…",
		strings.Repeat("x", 99) + " y":     strings.Repeat("x", 99) + "…",
	} {
		if got := keys.Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[31m\u202ealice\r\n \xff")
	f.Add(strings.Repeat("é ", 80))
	f.Fuzz(func(t *testing.T, s string) {
		p := keys.Printable(s)
		if !utf8.ValidString(p) || utf8.RuneCountInString(p) > 404 {
			t.Fatalf("%q becomes %q", s, p)
		}
		if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e }) {
			t.Fatalf("%q becomes %q", s, p)
		}
		if again := keys.Printable(p); !strings.HasSuffix(p, "…") && again != p {
			t.Fatalf("%q becomes %q and then %q", s, p, again)
		}
	})
}

func TestDescribe(t *testing.T) {
	signer := signerOf(t, "ed25519")
	pub := signer.PublicKey()
	print := keys.Fingerprint(pub)
	if got := keys.Describe(pub, " a\x1blice "); got != print+" (alice)" {
		t.Errorf("got %q", got)
	}
	if got := keys.Describe(pub, "\x00"); got != print {
		t.Errorf("got %q", got)
	}
	cert := certify(t, signer, pub)
	if keys.Fingerprint(cert) != print || keys.AuthorizedLine(cert, "a\nb") != keys.AuthorizedLine(pub, "a b") {
		t.Error("a certificate is not described by its key")
	}
	back, comment, err := keys.ParsePublicKey(keys.AuthorizedLine(pub, "x y"))
	if err != nil || !keys.Equal(back, pub) || comment != "x y" {
		t.Errorf("got %v, %q, %v", back, comment, err)
	}
}
