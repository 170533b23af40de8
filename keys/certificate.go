package keys

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// lookupCert is the part of List.Lookup for certificates, by the rules of
// sshd's user_cert_trusted_ca and check_authkey_line, stricter where noted.
func (l *List) lookupCert(cert *ssh.Certificate, now time.Time, logins []string) (Match, error) {
	if cert.SignatureKey == nil || cert.Signature == nil {
		return Match{}, fmt.Errorf("%w: it is not signed", ErrCertificate)
	}
	authority := l.authorities[string(cert.SignatureKey.Marshal())]
	if len(authority) == 0 {
		return Match{}, ErrNotAllowed
	}
	// Nothing that the certificate says is worth an error of its own before
	// its signature was checked.
	if err := checkCertSignature(cert); err != nil {
		return Match{}, err
	}
	if cert.CertType != ssh.UserCert {
		return Match{}, fmt.Errorf("%w: it is not a user certificate", ErrCertificate)
	}
	if len(cert.CriticalOptions) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(cert.CriticalOptions)))
		return Match{}, fmt.Errorf("%w: it is restricted by the critical option %q, which cannot be enforced here", ErrCertificate, Printable(name))
	}
	end, err := certWindow(cert, now)
	if err != nil {
		return Match{}, err
	}
	var lines []Entry
	for _, e := range authority {
		if principalsMatch(e, cert.ValidPrincipals, logins) {
			lines = append(lines, e)
		}
	}
	if len(lines) == 0 {
		return Match{}, fmt.Errorf("%w: it is for %s, not for a name that %s asks for",
			ErrCertificate, describeNames(cert.ValidPrincipals), authority[0].Where())
	}
	// A key with a line of its own keeps the restrictions of that line also
	// when it comes with a certificate.
	lines = append(lines, l.keys[string(cert.Key.Marshal())]...)
	return addUp(lines, end, now)
}

// checkCertSignature checks that the authority that cert names signed it, by
// an algorithm that counts.
func checkCertSignature(cert *ssh.Certificate) error {
	if err := CheckKey(cert.SignatureKey); err != nil {
		return fmt.Errorf("%w: its authority's key: %w", ErrCertificate, err)
	}
	if cert.SignatureKey.Type() == ssh.KeyAlgoRSA && cert.Signature.Format == ssh.KeyAlgoRSA {
		return fmt.Errorf("%w: it is signed with SHA-1", ErrCertificate)
	}
	// CheckCert also looks at what lookupCert checks by itself for the sake of
	// telling errors apart; only the signature can be wrong here.
	checker := ssh.CertChecker{Clock: func() time.Time { return unixTime(cert.ValidAfter) }}
	principal := ""
	if len(cert.ValidPrincipals) > 0 {
		principal = cert.ValidPrincipals[0]
	}
	checker.SupportedCriticalOptions = slices.Collect(maps.Keys(cert.CriticalOptions))
	if err := checker.CheckCert(principal, cert); err != nil {
		return fmt.Errorf("%w: %s", ErrCertificate, Printable(err.Error()))
	}
	return nil
}

// certWindow checks that now lies within the certificate's validity and
// returns its end, zero for never.
func certWindow(cert *ssh.Certificate, now time.Time) (time.Time, error) {
	unix := uint64(max(now.Unix(), 0))
	switch {
	case unix < cert.ValidAfter:
		return time.Time{}, fmt.Errorf("%w (from %s)", ErrNotYetValid, unixTime(cert.ValidAfter).Format(time.DateTime))
	case cert.ValidBefore == ssh.CertTimeInfinity:
		return time.Time{}, nil
	case unix >= cert.ValidBefore:
		return time.Time{}, fmt.Errorf("%w (certificate ended at %s)", ErrExpired, unixTime(cert.ValidBefore).Format(time.DateTime))
	}
	return unixTime(cert.ValidBefore), nil
}

// unixTime converts a time of a certificate, which may be any 64 bits.
func unixTime(t uint64) time.Time {
	const most = 253402300799 // the last second of the year 9999
	return time.Unix(int64(min(t, most)), 0)
}

// principalsMatch tells whether a certificate with the given names meets what
// the line asks for. Older sshd takes a certificate without names for one that
// is good for everybody; here, as in newer ones, it is good for nobody.
func principalsMatch(e Entry, names, logins []string) bool {
	if len(names) == 0 {
		return false
	}
	wanted := e.Principals
	if len(wanted) == 0 {
		wanted = logins
	} else if len(wanted) == 1 && wanted[0] == AnyPrincipal {
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(wanted, name) })
}

func describeNames(names []string) string {
	if len(names) == 0 {
		return "nobody by name"
	}
	const most = 5
	s := ""
	for i, name := range names {
		if i == most {
			return s + ", …"
		}
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%q", Printable(name))
	}
	return s
}
