package keys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxListFile bounds a list in bytes; some ten thousand keys.
const maxListFile = 4 << 20

// ErrPrivateKey is wrapped by the error for a list that turns out to hold a
// private key. The error says nothing of the content.
var ErrPrivateKey = errors.New("this is a private key, not a list of public keys; give the .pub file beside it, and never share this one")

// Entry is one line of a list: a key, or an authority whose certificates
// count, and what its holder may do.
type Entry struct {
	Key     ssh.PublicKey // never a certificate
	Comment string        // a stranger's words: show through Printable
	Role    Role

	// CertAuthority says that Key signs certificates; the key itself is not
	// admitted by such a line.
	CertAuthority bool
	// Principals are the names of which a certificate must carry one. Only
	// with CertAuthority; see List.Lookup for what none means.
	Principals []string

	ExpiresAt time.Time // first moment at which the line no longer counts; zero: never

	File string // where the line is from, as given
	Line int    // from 1
}

// Where returns the entry's place as "file:line".
func (e Entry) Where() string { return position(e.File, e.Line) }

// String returns the entry as a line of an authorized_keys file, without a
// newline. Parsing it gives the entry back, but for its File and Line.
func (e Entry) String() string {
	opts := make([]string, 0, 4)
	if e.CertAuthority {
		opts = append(opts, "cert-authority")
	}
	if !e.ExpiresAt.IsZero() {
		opts = append(opts, `expiry-time="`+e.ExpiresAt.UTC().Format("20060102150405Z")+`"`)
	}
	if len(e.Principals) > 0 {
		opts = append(opts, `principals="`+strings.ReplaceAll(strings.Join(e.Principals, ","), `"`, `\"`)+`"`)
	}
	if e.Role != RoleNone {
		opts = append(opts, `role="`+e.Role.String()+`"`)
	}
	var b strings.Builder
	if len(opts) > 0 {
		b.WriteString(strings.Join(opts, ","))
		b.WriteByte(' ')
	}
	b.Write(bytes.TrimSuffix(ssh.MarshalAuthorizedKey(e.Key), []byte("\n")))
	if e.Comment != "" {
		b.WriteByte(' ')
		b.WriteString(e.Comment)
	}
	return b.String()
}

// LineError is what is wrong with one line of a list, or, with Line 0, with
// the list as a whole.
type LineError struct {
	File string
	Line int
	Err  error

	text string // the line, to find keys of an earlier version of the file in
}

// Error returns "file:line: reason".
func (e *LineError) Error() string { return position(e.File, e.Line) + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *LineError) Unwrap() error { return e.Err }

func position(file string, line int) string {
	if line == 0 {
		return printablePath(file)
	}
	return fmt.Sprintf("%s:%d", printablePath(file), line)
}

// ParseError holds everything that is wrong with a list, in order of lines.
type ParseError struct {
	Lines []*LineError
}

// Error returns one line for each fault, as many as a person will read.
func (e *ParseError) Error() string {
	const most = 10
	var b strings.Builder
	for i, l := range e.Lines {
		if i == most {
			fmt.Fprintf(&b, "\n… and %d more", len(e.Lines)-most)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.Error())
	}
	return b.String()
}

// Unwrap returns the faults one by one.
func (e *ParseError) Unwrap() []error {
	errs := make([]error, len(e.Lines))
	for i, l := range e.Lines {
		errs[i] = l
	}
	return errs
}

// mentions tells whether one of the bad lines holds key, in the text that
// every line for it would hold.
func (e *ParseError) mentions(key ssh.PublicKey) bool {
	blob := base64.StdEncoding.EncodeToString(key.Marshal())
	return slices.ContainsFunc(e.Lines, func(l *LineError) bool { return strings.Contains(l.text, blob) })
}

// ParseAuthorizedKeys parses a list in OpenSSH's authorized_keys format
// (sshd(8), AUTHORIZED_KEYS FILE FORMAT). name is the file's name for errors
// and for [Entry.File]. Lines without a role option get defaultRole.
//
// The options are cert-authority, expiry-time="YYYYMMDD[HHMM[SS]][Z]" (local
// time unless it ends in Z), principals="name,…" on lines with cert-authority,
// and pairterm's own role="view"|"type". Any other option makes its line
// wrong, since ignoring it could admit somebody whom it was to keep out.
//
// The entries of all good lines are returned in any case; if there were bad
// lines the error is a [*ParseError] that names every one. Whether good lines
// then count is up to the caller. A file of another kind (a private key,
// UTF-16 text, a key in RFC 4716 format) has no good lines and one error.
func ParseAuthorizedKeys(name string, data []byte, defaultRole Role) ([]Entry, error) {
	return parseList(name, data, defaultRole, true)
}

// parseList is ParseAuthorizedKeys, which without withOptions also takes every
// line with an option for a bad one.
func parseList(name string, data []byte, defaultRole Role, withOptions bool) ([]Entry, error) {
	if defaultRole != RoleView && defaultRole != RoleType {
		return nil, fmt.Errorf("invalid default role %v", defaultRole)
	}
	data, err := listText(data)
	if err != nil {
		return nil, &ParseError{[]*LineError{{File: name, Err: err}}}
	}
	var entries []Entry
	var bad []*LineError
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		line, err := cleanLine(text)
		if err == nil {
			if line == "" || line[0] == '#' {
				continue
			}
			var e Entry
			if e, err = parseEntry(line, defaultRole, withOptions); err == nil {
				e.File, e.Line = name, n
				entries = append(entries, e)
				continue
			}
		}
		bad = append(bad, &LineError{File: name, Line: n, Err: err, text: text})
	}
	if bad != nil {
		return entries, &ParseError{bad}
	}
	return entries, nil
}

// listText returns data without a byte order mark, or what data is instead of
// a list.
func listText(data []byte) ([]byte, error) {
	if len(data) > maxListFile {
		return nil, fmt.Errorf("longer than %d MiB", maxListFile>>20)
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errors.New("this is UTF-16 text; save it as UTF-8 (in PowerShell: Out-File -Encoding ascii)")
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if isPrivateKey(data) {
		return nil, ErrPrivateKey
	}
	head := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(head, []byte("---- BEGIN SSH2 PUBLIC KEY")):
		return nil, errors.New(`this is a key in SSH2 (RFC 4716) format; convert it with "ssh-keygen -i -f FILE"`)
	case bytes.HasPrefix(head, []byte("-----BEGIN ")):
		return nil, errors.New(`this is a PEM file; convert a public key with "ssh-keygen -i -m PKCS8 -f FILE"`)
	}
	return data, nil
}

// isPrivateKey tells whether data holds a private key of any common format.
func isPrivateKey(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("PuTTY-User-Key-File-")) ||
			bytes.HasPrefix(line, []byte("-----BEGIN ")) && bytes.Contains(line, []byte("PRIVATE KEY")) {
			return true
		}
	}
	return false
}

// cleanLine returns a line without its end and surrounding blanks. A control
// character within is an error: a lone carriage return, for one, would let an
// editor show two lines where there is one.
func cleanLine(line string) (string, error) {
	line = strings.TrimSuffix(line, "\n")
	line = strings.TrimSuffix(line, "\r")
	line = strings.Trim(line, " \t")
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", fmt.Errorf("control character 0x%02x within the line", c)
		}
	}
	return line, nil
}

// cutField returns the first field of s, which starts with none, and the rest
// after the blanks that follow it.
func cutField(s string) (field, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// parseEntry parses one line that is neither empty nor a comment.
func parseEntry(line string, role Role, withOptions bool) (Entry, error) {
	e := Entry{Role: role}
	options := ""
	first, rest := cutField(line)
	if !isKeyType(first) {
		// As sshd does it: what does not start with a key starts with options.
		end, err := optionsEnd(line)
		if err != nil {
			return Entry{}, err
		}
		options, rest = line[:end], strings.TrimLeft(line[end:], " \t")
		first, rest = cutField(rest)
		if !isKeyType(first) {
			switch {
			case looksLikeKeyType(options):
				return Entry{}, fmt.Errorf("%w: type %q is not supported", ErrUnsuitableKey, Printable(options))
			case looksLikeKeyType(first):
				return Entry{}, fmt.Errorf("%w: type %q is not supported", ErrUnsuitableKey, Printable(first))
			}
			return Entry{}, errNotAKey
		}
	}
	if options != "" {
		if !withOptions {
			return Entry{}, errors.New("options are not accepted in a list from this site")
		}
		if err := parseOptions(&e, options); err != nil {
			return Entry{}, err
		}
	}
	if isCertType(first) {
		return Entry{}, errors.New(`this is a certificate, not a key; list the plain key (the .pub file without "-cert"), or trust the authority that signed it with a cert-authority line`)
	}
	blob, comment := cutField(rest)
	pub, err := parseKeyFields(first, blob)
	if err != nil {
		return Entry{}, err
	}
	e.Key, e.Comment = pub, comment
	return e, nil
}

// optionsEnd returns the length of the options that line starts with: they end
// at the first blank outside quotes (sshkey_advance_past_options of OpenSSH).
func optionsEnd(line string) (int, error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && line[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return i, nil
		}
	}
	if quoted {
		return 0, errors.New("a quote is not closed")
	}
	return len(line), nil
}

// parseOptions parses a comma-separated list of options into e. Names are
// compared without case, as sshd does.
func parseOptions(e *Entry, s string) error {
	seen := map[string]bool{}
	for {
		end := strings.IndexAny(s, `=,"`)
		if end < 0 {
			end = len(s)
		}
		name := strings.ToLower(s[:end])
		s = s[end:]
		var value string
		hasValue := strings.HasPrefix(s, "=")
		if hasValue {
			var err error
			if value, s, err = dequote(s[1:]); err != nil {
				return fmt.Errorf("option %q: %w", Printable(name), err)
			}
		}
		if seen[name] {
			return fmt.Errorf("option %q is given twice", Printable(name))
		}
		seen[name] = true
		if err := setOption(e, name, value, hasValue); err != nil {
			return err
		}
		if s == "" {
			break
		}
		if s[0] != ',' {
			return fmt.Errorf("unexpected text after option %q", Printable(name))
		}
		s = s[1:]
	}
	if e.Principals != nil && !e.CertAuthority {
		return errors.New(`option "principals" has a meaning only together with cert-authority`)
	}
	return nil
}

// setOption applies one option to e.
func setOption(e *Entry, name, value string, hasValue bool) error {
	switch name {
	case "cert-authority":
		if hasValue {
			return errors.New(`option "cert-authority" takes no value`)
		}
		e.CertAuthority = true
		return nil
	case "expiry-time", "principals", "role":
		if !hasValue {
			return fmt.Errorf(`option %q needs a value: %s="…"`, name, name)
		}
	case "":
		return errors.New("an option is empty")
	default:
		return fmt.Errorf("option %q is not supported; there are cert-authority, expiry-time, principals and role", Printable(name))
	}
	var err error
	switch name {
	case "expiry-time":
		e.ExpiresAt, err = parseExpiry(value)
	case "principals":
		e.Principals, err = parsePrincipals(value)
	case "role":
		e.Role, err = ParseRole(value)
	}
	if err != nil {
		return fmt.Errorf("option %q: %w", name, err)
	}
	return nil
}

// dequote parses a quoted value, in which \" stands for a quote and every
// other backslash for itself (opt_dequote of OpenSSH).
func dequote(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("the value must stand in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("a quote is not closed")
}

// parseExpiry parses sshd's time format: a date or a time, local unless it
// ends in Z.
func parseExpiry(s string) (time.Time, error) {
	loc, digits := time.Local, s
	if z, ok := strings.CutSuffix(s, "Z"); ok {
		loc, digits = time.UTC, z
	}
	layout, ok := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	if !ok {
		return time.Time{}, fmt.Errorf("%q is not a time of the form YYYYMMDD[HHMM[SS]][Z]", Printable(s))
	}
	t, err := time.ParseInLocation(layout, digits, loc)
	// As in sshd, times before 1970 are mistakes. One of them would also be
	// time.Time's zero, which stands for no expiry at all.
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("%q is not a time of the form YYYYMMDD[HHMM[SS]][Z]", Printable(s))
	}
	return t, nil
}

// parsePrincipals splits a comma-separated list of names.
func parsePrincipals(s string) ([]string, error) {
	names := strings.Split(s, ",")
	for _, name := range names {
		if strings.Trim(name, " \t") != name || name == "" {
			return nil, fmt.Errorf("a name in %q is empty or has blanks around it", Printable(s))
		}
	}
	return names, nil
}
