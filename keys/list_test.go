package keys_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
)

// list parses lines into a list.
func list(t testing.TB, lines ...string) *keys.List {
	t.Helper()
	entries, err := keys.ParseAuthorizedKeys("list", []byte(strings.Join(lines, "\n")), keys.RoleType)
	if err != nil {
		t.Fatal(err)
	}
	return keys.NewList(entries...)
}

func TestLookupEmpty(t *testing.T) {
	pub := signerOf(t, "ed25519").PublicKey()
	cert := certify(t, signerOf(t, "ed25519"), pub)
	var none *keys.List
	for _, l := range []*keys.List{none, keys.NewList(), list(t, "# nobody"), keys.NewList(keys.Entry{}), keys.NewList(keys.Entry{Key: pub})} {
		for _, p := range []ssh.PublicKey{pub, cert, nil} {
			if m, err := l.Lookup(p, day, "alice"); !errors.Is(err, keys.ErrNotAllowed) || m.Role != keys.RoleNone {
				t.Errorf("list of %d entries: got %+v, %v", l.Len(), m, err)
			}
		}
	}
	if none.Len() != 0 || none.Entries() != nil {
		t.Error("a nil list has entries")
	}
}

func TestLookupKey(t *testing.T) {
	for _, kind := range goodKinds {
		alice, bob, mallory := signerOf(t, kind), signerOf(t, "ed25519"), signerOf(t, "ed25519")
		l := list(t, line(alice, "alice"), `role="view" `+line(bob, "bob"))
		if m, err := l.Lookup(alice.PublicKey(), day); err != nil || m.Role != keys.RoleType || m.Entry.Comment != "alice" || !m.ExpiresAt.IsZero() {
			t.Errorf("%s: got %+v, %v", kind, m, err)
		}
		if m, err := l.Lookup(bob.PublicKey(), day); err != nil || m.Role != keys.RoleView {
			t.Errorf("view: got %+v, %v", m, err)
		}
		if _, err := l.Lookup(mallory.PublicKey(), day); err != keys.ErrNotAllowed {
			t.Errorf("stranger: got %v", err)
		}
	}
	// A security key is not the key of the same curve point.
	token := newToken(t, "ed25519")
	if _, err := list(t, line(token, "")).Lookup(token.inner.PublicKey(), day); !errors.Is(err, keys.ErrNotAllowed) {
		t.Errorf("inner key of a token: got %v", err)
	}
}

func TestLookupExpiry(t *testing.T) {
	alice := signerOf(t, "ed25519")
	l := list(t, `expiry-time="20300517120000Z" `+line(alice, "alice"))
	if m, err := l.Lookup(alice.PublicKey(), day.Add(-time.Nanosecond)); err != nil || !m.ExpiresAt.Equal(day) {
		t.Errorf("just before: got %+v, %v", m, err)
	}
	for _, now := range []time.Time{day, day.AddDate(100, 0, 0)} {
		_, err := l.Lookup(alice.PublicKey(), now)
		if !errors.Is(err, keys.ErrExpired) || !errors.Is(err, keys.ErrNotAllowed) {
			t.Errorf("at %v: got %v", now, err)
		}
		wantError(t, err, "list:1")
	}
}

// TestLookupAddsUp holds that of several lines for a key every restriction
// counts, in any order.
func TestLookupAddsUp(t *testing.T) {
	alice := signerOf(t, "ed25519")
	key := line(alice, "")
	lines := []string{
		`expiry-time="20300601Z" ` + key,
		`role="view" ` + key,
		`expiry-time="20300520Z",role="type" ` + key,
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		var l []string
		for _, i := range order {
			l = append(l, lines[i])
		}
		m, err := list(t, l...).Lookup(alice.PublicKey(), day)
		if err != nil || m.Role != keys.RoleView || !m.ExpiresAt.Equal(time.Date(2030, 5, 20, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("order %v: got %+v, %v", order, m, err)
		}
		if m.Entry.Role != keys.RoleView {
			t.Errorf("order %v: the line that decided is %q", order, m.Entry)
		}
		// An expired line does not fall away and leave the others wider.
		if _, err := list(t, l...).Lookup(alice.PublicKey(), day.AddDate(0, 0, 5)); !errors.Is(err, keys.ErrExpired) {
			t.Errorf("order %v, one line expired: got %v", order, err)
		}
	}
}

func TestLookupCertificate(t *testing.T) {
	authority, alice, other := signerOf(t, "ed25519"), signerOf(t, "ecdsa256"), signerOf(t, "ed25519")
	pub := alice.PublicKey()
	line := func(options string) string { return options + line(authority, "authority") }
	at := func(d time.Duration) uint64 { return uint64(day.Add(d).Unix()) }
	// sha1 is an authority that signs with SHA-1, if it is let to.
	rsa := signerOf(t, "rsa2048").(ssh.AlgorithmSigner)
	sha1, err := ssh.NewSignerWithAlgorithms(rsa, []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	// An authority on a security key need not assert that anybody was present.
	tokenAuthority := newToken(t, "ed25519")
	tokenAuthority.flags = 0
	forged := certify(t, authority, pub)
	forged.ValidPrincipals = []string{"root"}

	tests := []struct {
		name   string
		lines  []string
		cert   *ssh.Certificate
		logins []string
		want   error // nil: admitted
		say    string
	}{
		{name: "login name", lines: []string{line("cert-authority ")}, logins: []string{"alice"}},
		{name: "one of several names", lines: []string{line("cert-authority ")}, logins: []string{"x", "alice"},
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"a", "alice"} })},
		{name: "other login name", lines: []string{line("cert-authority ")}, logins: []string{"bob"}, want: keys.ErrCertificate, say: `"alice"`},
		{name: "no login names", lines: []string{line("cert-authority ")}, want: keys.ErrCertificate},
		{name: "principals", lines: []string{line(`cert-authority,principals="bob,alice" `)}},
		{name: "other principals, login name fits", lines: []string{line(`cert-authority,principals="bob" `)}, logins: []string{"alice"}, want: keys.ErrCertificate},
		{name: "second line fits", lines: []string{line(`cert-authority,principals="bob" `), line(`cert-authority,principals="alice" `)}},
		{name: "any principal", lines: []string{line(`cert-authority,principals="*" `)}},
		{name: "star among others is a name", lines: []string{line(`cert-authority,principals="*,bob" `)}, want: keys.ErrCertificate},
		{name: "no names in it", lines: []string{line(`cert-authority,principals="*" `), line("cert-authority ")}, logins: []string{"", "alice"}, want: keys.ErrCertificate, say: "nobody by name",
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidPrincipals = nil })},
		{name: "authority without the option", lines: []string{line("")}, logins: []string{"alice"}, want: keys.ErrNotAllowed},
		{name: "other authority", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, cert: certify(t, other, pub), want: keys.ErrNotAllowed},
		{name: "plain key is listed", lines: []string{keys.AuthorizedLine(pub, "")}, logins: []string{"alice"}, want: keys.ErrNotAllowed},
		{name: "forged", lines: []string{line("cert-authority ")}, logins: []string{"root"}, cert: forged, want: keys.ErrCertificate, say: "does not verify"},
		{name: "host certificate", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrCertificate, say: "not a user",
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.CertType = ssh.HostCert })},
		{name: "critical option", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrCertificate, say: "source-address",
			cert: certify(t, authority, pub, func(c *ssh.Certificate) {
				c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8", "verify-required": ""}
			})},
		{name: "extensions", lines: []string{line("cert-authority ")}, logins: []string{"alice"},
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": "", "login@example.org": "x"} })},
		{name: "within its time", lines: []string{line("cert-authority ")}, logins: []string{"alice"},
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = at(0), at(time.Second) })},
		{name: "not yet", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrNotYetValid,
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidAfter = at(time.Second) })},
		{name: "over", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrExpired,
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidBefore = at(0) })},
		{name: "times beyond all bounds", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrNotAllowed,
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidAfter = 1 << 63 })},
		{name: "ends beyond all bounds", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, want: keys.ErrNotAllowed,
			cert: certify(t, authority, pub, func(c *ssh.Certificate) { c.ValidBefore = 1<<64 - 2 })},
		{name: "line expired", lines: []string{line(`cert-authority,expiry-time="20300517Z" `)}, logins: []string{"alice"}, want: keys.ErrExpired},
		{name: "RSA authority", lines: []string{"cert-authority " + keys.AuthorizedLine(rsa.PublicKey(), "")}, logins: []string{"alice"}, cert: certify(t, rsa, pub)},
		{name: "SHA-1", lines: []string{"cert-authority " + keys.AuthorizedLine(rsa.PublicKey(), "")}, logins: []string{"alice"}, cert: certify(t, sha1, pub), want: keys.ErrCertificate, say: "SHA-1"},
		{name: "for a short RSA key", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, cert: certify(t, authority, signerOf(t, "rsa1024").PublicKey()), want: keys.ErrUnsuitableKey},
		{name: "token as authority", lines: []string{"cert-authority " + keys.AuthorizedLine(tokenAuthority.PublicKey(), "")}, logins: []string{"alice"}, cert: certify(t, tokenAuthority, pub)},
		{name: "unsigned", lines: []string{line("cert-authority ")}, logins: []string{"alice"}, cert: &ssh.Certificate{Key: pub, CertType: ssh.UserCert}, want: keys.ErrCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := tt.cert
			if cert == nil {
				cert = certify(t, authority, pub)
			}
			m, err := list(t, tt.lines...).Lookup(cert, day, tt.logins...)
			if tt.want == nil {
				if err != nil || m.Role != keys.RoleType {
					t.Errorf("got %+v, %v", m, err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !errors.Is(err, keys.ErrNotAllowed) {
				t.Errorf("got %+v, %v; want %v", m, err, tt.want)
			}
			wantError(t, err, tt.say)
		})
	}
}

func TestLookupCertificateAddsUp(t *testing.T) {
	authority, alice := signerOf(t, "ed25519"), signerOf(t, "ed25519")
	end := day.Add(time.Hour)
	cert := certify(t, authority, alice.PublicKey(), func(c *ssh.Certificate) { c.ValidBefore = uint64(end.Unix()) })
	ca := func(options string) string { return "cert-authority" + options + " " + line(authority, "") }

	m, err := list(t, ca("")).Lookup(cert, day, "alice")
	if err != nil || !m.ExpiresAt.Equal(end) {
		t.Errorf("certificate's end: got %+v, %v", m, err)
	}
	m, err = list(t, ca(`,expiry-time="20300517123000Z"`)).Lookup(cert, day, "alice")
	if err != nil || !m.ExpiresAt.Equal(day.Add(30*time.Minute)) {
		t.Errorf("line's end: got %+v, %v", m, err)
	}
	m, err = list(t, ca(""), `role="view" `+line(alice, "")).Lookup(cert, day, "alice")
	if err != nil || m.Role != keys.RoleView {
		t.Errorf("the key itself may only view: got %+v, %v", m, err)
	}
	m, err = list(t, ca(`,role="view"`), ca(`,principals="alice"`)).Lookup(cert, day, "alice")
	if err != nil || m.Role != keys.RoleView {
		t.Errorf("two lines: got %+v, %v", m, err)
	}
	m, err = list(t, ca(`,role="view",principals="bob"`), ca(`,principals="alice"`)).Lookup(cert, day, "alice")
	if err != nil || m.Role != keys.RoleType {
		t.Errorf("a line about somebody else: got %+v, %v", m, err)
	}
}

// TestLookupOpenSSHCertificate uses a certificate that ssh-keygen made.
func TestLookupOpenSSHCertificate(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		dir := t.TempDir()
		key, authority := filepath.Join(dir, "key"), filepath.Join(dir, "authority")
		tool(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
		tool(t, "", "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", authority)
		tool(t, "", "ssh-keygen", "-q", "-s", authority, "-I", "id", "-n", "alice,ops", "-V", "20300501:20300601", key+".pub")
		cert, comment, err := keys.ParsePublicKey(read(t, key+"-cert.pub"))
		if err != nil {
			t.Fatal(err)
		}
		l := list(t, `cert-authority,principals="ops" `+read(t, authority+".pub"))
		if m, err := l.Lookup(cert, day); err != nil || m.Role != keys.RoleType {
			t.Errorf("%s (%s): got %+v, %v", kind, comment, m, err)
		}
		if _, err := l.Lookup(cert, day.AddDate(0, 1, 0)); !errors.Is(err, keys.ErrExpired) {
			t.Errorf("%s: a month later: %v", kind, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	const n = 1000
	var entries []keys.Entry
	for i := range n {
		entries = append(entries, keys.Entry{Key: signerOf(b, "ed25519").PublicKey(), Role: keys.RoleType, Line: i + 1})
	}
	authority := signerOf(b, "ed25519")
	entries = append(entries, keys.Entry{Key: authority.PublicKey(), CertAuthority: true, Principals: []string{"alice"}, Role: keys.RoleType})
	l := keys.NewList(entries...)
	run := func(name string, pub ssh.PublicKey, admitted bool) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Lookup(pub, day); (err == nil) != admitted {
					b.Fatal(err)
				}
			}
		})
	}
	run("key", entries[n/2].Key, true)
	run("stranger", signerOf(b, "ed25519").PublicKey(), false)
	run("certificate", certify(b, authority, signerOf(b, "ed25519").PublicKey()), true)
}

func BenchmarkParseAuthorizedKeys(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintln(&text, line(signerOf(b, "ed25519"), fmt.Sprintf("person %d", i)))
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if entries, err := keys.ParseAuthorizedKeys("list", data, keys.RoleType); err != nil || len(entries) != 1000 {
			b.Fatal(err)
		}
	}
}
