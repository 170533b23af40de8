package keys

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Why [List.Lookup] refuses a key. For every refusal
// errors.Is(err, ErrNotAllowed) holds.
//
// The sentinels may be told to the one who was refused. The whole text of an
// error from Lookup names files of the host and is meant for the host only.
var (
	// ErrNotAllowed: no line admits the key.
	ErrNotAllowed = errors.New("key is not on the list")
	// ErrExpired: the line's expiry-time or the certificate's end has passed.
	ErrExpired error = refusal("key has expired")
	// ErrNotYetValid: the certificate's validity has yet to begin.
	ErrNotYetValid error = refusal("certificate is not valid yet")
	// ErrCertificate: an authority on the list signed the certificate, but it
	// is not one that can be accepted.
	ErrCertificate error = refusal("certificate is not accepted")
)

// refusal is one reason for which a key is not allowed.
type refusal string

func (r refusal) Error() string { return string(r) }

// Is makes every refusal an ErrNotAllowed.
func (r refusal) Is(target error) bool { return target == ErrNotAllowed }

// AnyPrincipal, as a line's only principal, lets every certificate of the
// authority count that names anybody at all.
const AnyPrincipal = "*"

// Match is the outcome of a successful lookup.
type Match struct {
	Entry Entry // the line that decided about the role
	Role  Role  // what the key may do; never RoleNone
	// ExpiresAt is the moment at which the same lookup will begin to fail:
	// the earliest end of the lines and the certificate. Zero means never.
	ExpiresAt time.Time
}

// List is an immutable set of entries. It is safe for concurrent use. A nil or
// empty List admits nobody.
type List struct {
	entries     []Entry
	keys        map[string][]Entry // lines for plain keys, by wire format
	authorities map[string][]Entry // lines with cert-authority, by wire format
}

// NewList returns the list of the given entries.
func NewList(entries ...Entry) *List {
	l := &List{
		entries:     slices.Clone(entries),
		keys:        map[string][]Entry{},
		authorities: map[string][]Entry{},
	}
	for _, e := range l.entries {
		if e.Key == nil {
			continue
		}
		m := l.keys
		if e.CertAuthority {
			m = l.authorities
		}
		id := string(e.Key.Marshal())
		m[id] = append(m[id], e)
	}
	return l
}

// Entries returns a copy of the list's entries in their order.
func (l *List) Entries() []Entry {
	if l == nil {
		return nil
	}
	return slices.Clone(l.entries)
}

// Len returns the number of entries.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return len(l.entries)
}

// Lookup decides whether the holder of pub is admitted at the moment now, and
// as what. Whether somebody does hold pub is for [Verify] to say.
//
// A plain key is admitted by lines with that very key. If there are several,
// in one file or in many, their restrictions add up: the least role and the
// earliest expiry of any of them hold.
//
// A certificate is admitted by cert-authority lines, by sshd's rules: it must
// be a user certificate, within its validity, properly signed by the line's
// key, and must name its principals. If the line has principals="…", the
// certificate must name one of them ("*" stands for any); if not, one of
// logins, which are the names that a login to this account would go by. With
// no logins such a line admits nobody. Critical options are refused, all of
// them: each restricts what the certificate is good for (force-command,
// source-address, verify-required) in a way that pairterm cannot enforce.
// Extensions are about SSH logins and are not looked at. Lines that speak
// about the certified key itself add their restrictions.
//
// Every error wraps [ErrNotAllowed].
func (l *List) Lookup(pub ssh.PublicKey, now time.Time, logins ...string) (Match, error) {
	if err := CheckKey(pub); err != nil {
		return Match{}, fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	if l == nil {
		return Match{}, ErrNotAllowed
	}
	if cert, ok := pub.(*ssh.Certificate); ok {
		return l.lookupCert(cert, now, logins)
	}
	lines := l.keys[string(pub.Marshal())]
	if len(lines) == 0 {
		return Match{}, ErrNotAllowed
	}
	return addUp(lines, time.Time{}, now)
}

// addUp returns what all the lines together allow until end.
func addUp(lines []Entry, end, now time.Time) (Match, error) {
	m := Match{Entry: lines[0], Role: lines[0].Role, ExpiresAt: end}
	for _, e := range lines {
		if e.Role < m.Role {
			m.Entry, m.Role = e, e.Role
		}
		m.ExpiresAt = earlier(m.ExpiresAt, e.ExpiresAt)
		if expired(e.ExpiresAt, now) {
			return Match{}, fmt.Errorf("%w (%s)", ErrExpired, e.Where())
		}
	}
	if m.Role == RoleNone {
		return Match{}, fmt.Errorf("%w (%s)", ErrNotAllowed, m.Entry.Where())
	}
	return m, nil
}

// earlier returns the earlier of two moments, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func expired(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// roleConflicts returns a message for every key that its lines give different
// roles, since the host should know that the lesser one holds.
func (l *List) roleConflicts() []error {
	var errs []error
	for _, e := range l.entries {
		if e.Key == nil {
			continue
		}
		lines := l.keys[string(e.Key.Marshal())]
		if e.CertAuthority || len(lines) < 2 || lines[0].Where() != e.Where() {
			continue
		}
		for _, other := range lines[1:] {
			if other.Role != e.Role {
				errs = append(errs, fmt.Errorf("%s is listed as %q (%s) and as %q (%s): %q holds",
					Describe(e.Key, e.Comment), e.Role, e.Where(), other.Role, other.Where(), min(e.Role, other.Role)))
				break
			}
		}
	}
	return errs
}
