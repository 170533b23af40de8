package keys

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// SourceKind says where a list comes from.
type SourceKind uint8

const (
	SourceFile   SourceKind = iota + 1 // a .pub or authorized_keys file
	SourceLine                         // key lines given literally
	SourceGitHub                       // the keys of a GitHub account
	SourceGitLab                       // the keys of a GitLab account
	SourceURL                          // an https address
)

// literalName stands in for a file name in the errors about, and entries of,
// keys that were given literally.
const literalName = "key line"

// Source names a list of keys: what --allow and --view take.
type Source struct {
	spec string
	kind SourceKind
	arg  string // path, key lines, account name or address
}

// Account names as the two sites allow them, a little wider: an unlucky name is
// for the site to refuse, a path trick is for us.
var (
	gitHubName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	gitLabName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`)
)

// ParseSource parses what follows --allow or --view: the path of a file, a
// literal public key line (or several), github:NAME, gitlab:NAME, or an
// https:// address. A leading "~/" of a path is expanded.
//
// Literal lines are checked here; everything else is opened by
// [Allowlist.Load].
func ParseSource(spec string) (Source, error) {
	s := Source{spec: spec}
	scheme, rest, _ := strings.Cut(spec, ":")
	switch strings.ToLower(scheme) {
	case "github":
		if !gitHubName.MatchString(rest) {
			return Source{}, fmt.Errorf("%q is not the name of a GitHub account", Printable(rest))
		}
		s.kind, s.arg = SourceGitHub, rest
		return s, nil
	case "gitlab":
		if !gitLabName.MatchString(rest) {
			return Source{}, fmt.Errorf("%q is not the name of a GitLab account", Printable(rest))
		}
		s.kind, s.arg = SourceGitLab, rest
		return s, nil
	case "https":
		if err := checkURL(spec); err != nil {
			return Source{}, err
		}
		s.kind, s.arg = SourceURL, spec
		return s, nil
	}
	switch {
	case spec == "":
		return Source{}, errors.New("no key, file or address given")
	case isPrivateKey([]byte(spec)):
		return Source{}, ErrPrivateKey
	case isLiteral(spec):
		if _, err := ParseAuthorizedKeys(literalName, []byte(spec), RoleView); err != nil {
			return Source{}, err
		}
		s.kind, s.arg = SourceLine, spec
		return s, nil
	case strings.HasPrefix(strings.ToLower(spec), "http://"):
		return Source{}, errors.New("keys are not fetched over http://, where anybody on the way could put in theirs; use https://")
	case strings.Contains(spec, "://"):
		return Source{}, fmt.Errorf("cannot fetch keys from %q: only https:// is supported", printablePath(spec))
	case strings.ContainsRune(spec, 0):
		return Source{}, errors.New("a file name cannot contain a zero byte")
	}
	path, err := expandHome(spec)
	if err != nil {
		return Source{}, err
	}
	s.kind, s.arg = SourceFile, path
	return s, nil
}

// isLiteral tells key lines from the path of a file: they have a key type that
// stands alone and is followed by something.
func isLiteral(spec string) bool {
	fields := strings.Fields(spec)
	for i, f := range fields {
		if i+1 < len(fields) && isKeyType(f) {
			return true
		}
	}
	return len(fields) > 1 && looksLikeKeyType(fields[0])
}

// checkURL insists on an address that is safe to fetch and to show.
func checkURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a valid address", printablePath(address))
	case !strings.EqualFold(u.Scheme, "https"):
		return fmt.Errorf("%q is not an https:// address", printablePath(address))
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", printablePath(address))
	case u.User != nil:
		return errors.New("an address with a user name or password in it is not accepted")
	}
	return nil
}

// Kind returns where the list comes from.
func (s Source) Kind() SourceKind { return s.kind }

// Remote tells whether the list is fetched from the network.
func (s Source) Remote() bool {
	return s.kind == SourceGitHub || s.kind == SourceGitLab || s.kind == SourceURL
}

// String returns the source as [ParseSource] takes it.
func (s Source) String() string { return s.spec }

// name returns what entries of the list and errors about it give as its file.
func (s Source) name() string {
	switch s.kind {
	case SourceFile:
		return s.arg
	case SourceLine:
		return literalName
	}
	return s.spec
}
