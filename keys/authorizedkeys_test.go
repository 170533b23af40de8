package keys_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

func TestParseAuthorizedKeysLine(t *testing.T) {
	signer := signerOf(t, "ed25519")
	key := line(signer, "")
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	tests := []struct {
		line string
		want keys.Entry // without Key, File and Line
	}{
		{key, keys.Entry{Role: keys.RoleType}},
		{key + " alice", keys.Entry{Role: keys.RoleType, Comment: "alice"}},
		{"\t " + key + "  alice at  work \t", keys.Entry{Role: keys.RoleType, Comment: "alice at  work"}},
		{strings.Replace(key, " ", " \t ", 1), keys.Entry{Role: keys.RoleType}},
		{key + " # not a comment of the file's", keys.Entry{Role: keys.RoleType, Comment: "# not a comment of the file's"}},
		{`role="view" ` + key, keys.Entry{Role: keys.RoleView}},
		{`ROLE="type" ` + key, keys.Entry{Role: keys.RoleType}},
		{"cert-authority " + key, keys.Entry{Role: keys.RoleType, CertAuthority: true}},
		{`Cert-Authority,principals="alice,bob" ` + key, keys.Entry{Role: keys.RoleType, CertAuthority: true, Principals: []string{"alice", "bob"}}},
		{`principals="a b",cert-authority ` + key, keys.Entry{Role: keys.RoleType, CertAuthority: true, Principals: []string{"a b"}}},
		{`cert-authority,principals="a\"b\c" ` + key, keys.Entry{Role: keys.RoleType, CertAuthority: true, Principals: []string{`a"b\c`}}},
		{`expiry-time="20300517Z" ` + key, keys.Entry{Role: keys.RoleType, ExpiresAt: at("2030-05-17T00:00:00Z")}},
		{`expiry-time="203005171213Z" ` + key, keys.Entry{Role: keys.RoleType, ExpiresAt: at("2030-05-17T12:13:00Z")}},
		{`expiry-time="20300517121314Z" ` + key, keys.Entry{Role: keys.RoleType, ExpiresAt: at("2030-05-17T12:13:14Z")}},
		{`expiry-time="20300517" ` + key, keys.Entry{Role: keys.RoleType, ExpiresAt: time.Date(2030, 5, 17, 0, 0, 0, 0, time.Local)}},
		{`expiry-time="203005171213" ` + key, keys.Entry{Role: keys.RoleType, ExpiresAt: time.Date(2030, 5, 17, 12, 13, 0, 0, time.Local)}},
	}
	for _, tt := range tests {
		got, err := keys.ParseAuthorizedKeys("list", []byte(tt.line), keys.RoleType)
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		want := tt.want
		want.Key, want.File, want.Line = signer.PublicKey(), "list", 1
		if len(got) != 1 || !sameEntry(got[0], want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.line, got, want)
		}
	}
}

// sameEntry compares times as moments.
func sameEntry(a, b keys.Entry) bool {
	same := keys.Equal(a.Key, b.Key) && a.ExpiresAt.Equal(b.ExpiresAt)
	a.Key, a.ExpiresAt, b.Key, b.ExpiresAt = nil, time.Time{}, nil, time.Time{}
	return same && reflect.DeepEqual(a, b)
}

func TestParseAuthorizedKeysFile(t *testing.T) {
	alice, bob := line(signerOf(t, "ed25519"), "alice"), line(signerOf(t, "rsa2048"), "bob")
	lines := []string{"# people", "", alice, " \t", `role="view" ` + bob}
	for name, text := range map[string]string{
		"newline":    strings.Join(lines, "\n") + "\n",
		"no newline": strings.Join(lines, "\n"),
		"CRLF":       strings.Join(lines, "\r\n") + "\r\n",
		"BOM":        "\ufeff" + strings.Join(lines, "\r\n"),
	} {
		entries, err := keys.ParseAuthorizedKeys("list", []byte(text), keys.RoleType)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(entries) != 2 || entries[0].Comment != "alice" || entries[0].Where() != "list:3" ||
			entries[1].Comment != "bob" || entries[1].Where() != "list:5" || entries[1].Role != keys.RoleView {
			t.Errorf("%s: got %+v", name, entries)
		}
	}
	for _, empty := range []string{"", "\n", "# nobody\n", "\ufeff"} {
		entries, err := keys.ParseAuthorizedKeys("list", []byte(empty), keys.RoleType)
		if err != nil || len(entries) != 0 {
			t.Errorf("%q: got %v, %v", empty, entries, err)
		}
	}
	if _, err := keys.ParseAuthorizedKeys("list", nil, keys.RoleNone); err == nil {
		t.Error("no default role: no error")
	}
}

func TestParseAuthorizedKeysBadLine(t *testing.T) {
	signer := signerOf(t, "ed25519")
	key := line(signer, "")
	typ, blob, _ := strings.Cut(key, " ")
	cert := string(ssh.MarshalAuthorizedKey(certify(t, signer, signer.PublicKey())))
	tests := []struct{ line, want string }{
		{`from="10.0.0.0/8" ` + key, `option "from" is not supported`},
		{`command="ls -l" ` + key, `option "command" is not supported`},
		{`restrict,role="view" ` + key, `option "restrict" is not supported`},
		{`role ` + key, "needs a value"},
		{`role=view ` + key, "double quotes"},
		{`role="owner" ` + key, `unknown role "owner"`},
		{`role="none" ` + key, `unknown role "none"`},
		{`role="view",role="view" ` + key, "given twice"},
		{`role="view", ` + key, "an option is empty"},
		{`,role="view" ` + key, "an option is empty"},
		{`role="view"x ` + key, "unexpected text"},
		{`role"view" ` + key, "needs a value"},
		{`role="view ` + key, "quote is not closed"},
		{`role="view\" ` + key, "quote is not closed"},
		{`cert-authority="yes" ` + key, "takes no value"},
		{`principals="alice" ` + key, "only together with cert-authority"},
		{`cert-authority,principals="" ` + key, "empty"},
		{`cert-authority,principals="a,,b" ` + key, "empty"},
		{`cert-authority,principals="a, b" ` + key, "blanks"},
		{`expiry-time="tomorrow" ` + key, "is not a time"},
		{`expiry-time="20301301" ` + key, "is not a time"},
		{`expiry-time="203005172460" ` + key, "is not a time"},
		{`expiry-time="00010101Z" ` + key, "is not a time"},
		{`expiry-time="19700101000000Z" ` + key, "is not a time"},
		{`expiry-time="" ` + key, "is not a time"},
		{"hello world", "not a public key"},
		{"hello", "not a public key"},
		{"alice@example.org " + key, `option "alice@example.org" is not supported`},
		{"-----END SOMETHING-----", "not a public key"},
		{typ, "nothing after the key type"},
		{typ + " " + blob[:len(blob)-5], "not valid base64"},
		{typ + " " + blob[:20], "damaged"},
		{typ + " !" + blob, "not valid base64"},
		{"ssh-rsa " + blob, `says "ssh-rsa" but the key is of type "ssh-ed25519"`},
		{"ssh-ed448 " + blob, `type "ssh-ed448" is not supported`},
		{`role="view" ssh-ed448 ` + blob, `type "ssh-ed448" is not supported`},
		{"ssh-dss AAAAB3NzaC1kc3MAAACBAA==", "DSA"},
		{line(signerOf(t, "rsa1024"), ""), "RSA key of 1024 bits, at least 2048"},
		{cert, "this is a certificate"},
		{`role="view" ` + cert, "this is a certificate"},
		{key + " alice\r" + key, "control character 0x0d"},
		{key + " \x1b[31malice", "control character 0x1b"},
		{"# \x00", "control character 0x00"},
	}
	for _, tt := range tests {
		entries, err := keys.ParseAuthorizedKeys("list", []byte("# list\n"+tt.line), keys.RoleType)
		if len(entries) != 0 {
			t.Errorf("%q: admitted", tt.line)
		}
		if err == nil {
			t.Errorf("%q: no error", tt.line)
			continue
		}
		wantError(t, err, "list:2: ", tt.want)
		if strings.Contains(err.Error(), blob[:20]) {
			t.Errorf("%q: the error repeats the key: %v", tt.line, err)
		}
	}
}

// TestParseAuthorizedKeysAllFaults has a fault reported for every bad line, and
// the good ones returned.
func TestParseAuthorizedKeysAllFaults(t *testing.T) {
	good := line(signerOf(t, "ed25519"), "alice")
	text := "junk\n" + good + "\nno-pty " + good + "\n#\n" + "ssh-dss AAAA\n" + good
	entries, err := keys.ParseAuthorizedKeys("some list", []byte(text), keys.RoleView)
	if len(entries) != 2 || entries[0].Line != 2 || entries[1].Line != 6 {
		t.Errorf("got entries %+v", entries)
	}
	var bad *keys.ParseError
	if !errors.As(err, &bad) {
		t.Fatalf("error is %T", err)
	}
	var at []int
	for _, l := range bad.Lines {
		at = append(at, l.Line)
	}
	if !reflect.DeepEqual(at, []int{1, 3, 5}) {
		t.Errorf("faults in lines %v", at)
	}
	wantError(t, err, "some list:1: ", "some list:3: ", "some list:5: ")
	if !errors.Is(err, keys.ErrUnsuitableKey) {
		t.Error("the DSA key's error cannot be told")
	}

	_, err = keys.ParseAuthorizedKeys("list", bytes.Repeat([]byte("junk\n"), 1000), keys.RoleView)
	wantError(t, err, "list:10: ", "and 990 more")
	if strings.Contains(err.Error(), "list:11: ") {
		t.Error("more faults than anybody reads")
	}
}

// TestParseAuthorizedKeysForeign gives files that are no lists at all.
func TestParseAuthorizedKeysForeign(t *testing.T) {
	const secret = "c2VjcmV0IGtleSBtYXRlcmlhbA=="
	key := line(signerOf(t, "ed25519"), "")
	tests := []struct{ text, want string }{
		{"-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret + "\n-----END OPENSSH PRIVATE KEY-----\n", "private key"},
		{key + "\r\n  -----BEGIN RSA PRIVATE KEY-----\n" + secret, "private key"},
		{"PuTTY-User-Key-File-3: ssh-ed25519\n" + secret, "private key"},
		{"\xff\xfes\x00s\x00h\x00", "UTF-16"},
		{"---- BEGIN SSH2 PUBLIC KEY ----\n" + secret, "RFC 4716"},
		{"-----BEGIN PUBLIC KEY-----\n" + secret, "PEM"},
		{strings.Repeat("#\n", 2<<20) + "#", "longer than 4 MiB"},
	}
	for _, tt := range tests {
		entries, err := keys.ParseAuthorizedKeys("list", []byte(tt.text), keys.RoleType)
		wantError(t, err, "list: ", tt.want)
		if len(entries) != 0 || strings.Contains(err.Error(), secret) {
			t.Errorf("%.20q: got %v, %v", tt.text, entries, err)
		}
		if got := errors.Is(err, keys.ErrPrivateKey); got != strings.Contains(tt.want, "private") {
			t.Errorf("%.20q: errors.Is(err, ErrPrivateKey) is %v", tt.text, got)
		}
	}
}

func FuzzParseAuthorizedKeys(f *testing.F) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNwMHM8lLcve+HMdKmjaanRnkdOE0Sm3ZUxkjv5LTgg alice"
	for _, seed := range []string{
		key,
		key + "\r\n# comment\n\n" + `role="view" ` + key,
		`cert-authority,principals="a\"b\\c,d",expiry-time="20300517121314Z" ` + key,
		`expiry-time="20300517" ` + key,
		"\ufeff" + key,
		"junk\n" + `from="x y" ` + key,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := keys.ParseAuthorizedKeys("list", data, keys.RoleView)
		var bad *keys.ParseError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("error of type %T", err)
		}
		for _, e := range entries {
			again, err := keys.ParseAuthorizedKeys("list", []byte(e.String()+"\n"), keys.RoleType)
			if err != nil || len(again) != 1 {
				t.Fatalf("%q does not parse: %v", e, err)
			}
			again[0].Line = e.Line
			if !sameEntry(again[0], e) {
				t.Fatalf("%q becomes %q", e, again[0])
			}
			if again[0].String() != e.String() {
				t.Fatalf("%q is formatted differently: %q", e, again[0])
			}
		}
	})
}
